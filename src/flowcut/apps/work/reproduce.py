"""What `flowcut reproduce` does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from flowcut.apps.output import format_table, show
from flowcut.train.reproduce.recipe import available, find, read_experiment
from flowcut.train.reproduce.run import publish, reproduce

__all__ = ["run"]


def run(options: Namespace) -> dict[str, Any]:
    """Run experiments one after the other.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.reproduce`.

    Returns
    -------
    dict
        By experiment, what its `result.json` holds, and its ``folder``; with ``--list`` titles by name.

    Raises
    ------
    ValueError
        No experiment is named, one is unknown, or its file or the run folder is refused.
    """
    if options.list:
        return _list(options.json)
    if not options.experiments:
        raise ValueError("experiments: expected names, patterns or YAML files, got none; --list shows them")
    # All files are read before the first hour is spent.
    files = find(options.experiments)
    experiments = {name: read_experiment(path, options.scale) for name, path in files.items()}
    for name, experiment in experiments.items():
        if options.publish and options.scale != experiment.published:
            raise ValueError(
                f"--publish: expected with --scale {experiment.published} for {name}, got {options.scale}"
            )
    results: dict[str, Any] = {}
    for name, experiment in experiments.items():
        folder = _folder(options.output, name, len(experiments))
        result = reproduce(
            experiment,
            folder,
            data=_data(options.data),
            resume=options.resume,
            overwrite=options.overwrite,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.publish:
            publish(name, folder, files[name].parent / "results")
        show(_report(result, folder), json=options.json)
        results[name] = {**result, "folder": str(folder)}
    return results


def _list(json: bool) -> dict[str, str]:
    titles = {name: read_experiment(path).title for name, path in available().items()}
    if not titles:
        raise ValueError("experiments: expected a folder experiments/ here or in a checkout, got none")
    width = max(map(len, titles))
    show("\n".join(f"{name:<{width}}  {title}" for name, title in titles.items()), json=json)
    return titles


def _folder(output: str | None, name: str, count: int) -> Path:
    if output is None:
        return Path("runs") / name
    return Path(output) if count == 1 else Path(output) / name


def _data(given: str | None) -> str | None:
    if given is not None and not Path(given).is_dir():
        raise ValueError(f"--data: expected a folder, got {given}")
    return given if given is not None else os.environ.get("FLOWCUT_DATA")


def _report(result: dict[str, Any], folder: Path) -> str:
    lines = [result["title"]]
    for table in result["tables"]:
        lines += [table["heading"], format_table(table["header"], table["cells"])]
    rows = result["rows"]
    wide = [max((len(row[key]) for row in rows), default=0) for key in ("what", "paper", "ours")]
    header = {"what": "", "paper": "paper", "ours": "here"}
    for row in (header, *rows) if rows else ():
        cells = [row[key].ljust(w) for key, w in zip(("what", "paper", "ours"), wide, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, f"picture.png and result.json in {folder}"])
