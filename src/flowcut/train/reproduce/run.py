"""Run an experiment in a folder of its own, and publish what came out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from flowcut.core.atomic import atomic_write, prepare_folder
from flowcut.train.reproduce.experiment import Outcome, Workspace
from flowcut.train.reproduce.recipe import Experiment
from flowcut.train.surroundings import surroundings
from flowcut.vision.panel import encode_png

__all__ = ["publish", "reproduce"]


def reproduce(
    experiment: Experiment,
    folder: str | Path,
    *,
    data: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run one experiment.

    Writes `settings.yaml`, `result.json` and `picture.png`; pictures of data that may not be published go
    to `private_NAME.png`. What has been learned is kept in `work`, so that an interrupted run continues.

    Parameters
    ----------
    experiment : Experiment
    folder : path
        Made if there is none.
    data : path, optional
        Folder of data sets.
    resume : bool
        Continue the run of the same settings that lies there.
    overwrite : bool
        Remove the run that lies there.
    say : callable
        Told what is being done.

    Returns
    -------
    dict
        What `result.json` holds.

    Raises
    ------
    OSError
        The folder cannot be written to.
    ValueError
        It holds a run and neither `resume` nor `overwrite` is given, or a run of other settings.
    """
    path = prepare_folder(folder, "--output")
    _prepare(path, experiment, resume, overwrite)
    work = prepare_folder(path / "work", "--output")
    settings = experiment.settings
    outcome = experiment.kind.run(settings, Workspace(work, None if data is None else Path(data), say))
    result = _result(experiment, outcome)
    _write(path / "picture.png", encode_png(outcome.picture))
    for name, picture in outcome.private.items():
        _write(path / f"private_{name}.png", encode_png(picture))
    _write(path / "result.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def publish(name: str, folder: str | Path, results: str | Path) -> list[Path]:
    """Copy result and picture of a run to where the documentation finds them.

    Parameters
    ----------
    name : str
        Of the experiment.
    folder : path
        The run.
    results : path
        Made if there is none.

    Returns
    -------
    list of Path
        The copies.
    """
    target = prepare_folder(results, "--publish")
    copies = []
    for source, copy in (("result.json", f"{name}.json"), ("picture.png", f"{name}.png")):
        _write(target / copy, (Path(folder) / source).read_bytes())
        copies.append(target / copy)
    return copies


def _prepare(path: Path, experiment: Experiment, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("--resume: expected without --overwrite, got both")
    known, text = path / "settings.yaml", _settings_text(experiment)
    if overwrite:
        for file in (known, path / "result.json", path / "picture.png", *path.glob("private_*.png")):
            file.unlink(missing_ok=True)
        shutil.rmtree(path / "work", ignore_errors=True)
    elif known.exists() and not resume:
        raise ValueError(
            f"--output: {path} already holds a run; give --resume, --overwrite or another folder"
        )
    elif resume and not known.exists():
        raise ValueError(f"--resume: expected a run in {path}, got no {known}")
    elif resume and known.read_text(encoding="utf-8") != text:
        raise ValueError(f"--resume: expected the settings of the run in {path}, got others")
    _write(known, text.encode())


def _settings_text(experiment: Experiment) -> str:
    plain = _plain(dataclasses.asdict(experiment.settings))
    return yaml.safe_dump({"kind": experiment.kind.name, "settings": plain}, sort_keys=False)


def _result(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    rows = [dataclasses.asdict(row) for row in outcome.rows]
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "paper": experiment.paper,
        "scale": experiment.scale,
        "rows": rows,
        "tables": _plain([dataclasses.asdict(table) for table in outcome.tables]),
        "values": _plain(outcome.values),
        "seconds": dict(outcome.seconds),
        "settings": _plain(dataclasses.asdict(experiment.settings)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **surroundings(torch.device("cpu")),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
