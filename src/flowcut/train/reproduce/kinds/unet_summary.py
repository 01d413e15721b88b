"""Experiments 2 to 11 of the SoftCut thesis taken together: many trainings say what three cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowcut.train.reproduce.chart import Chart, Line, draw_charts
from flowcut.train.reproduce.experiment import Kind, Outcome, Table, Workspace, check_least
from flowcut.train.reproduce.paired import mean_and_interval
from flowcut.train.reproduce.unet_recipes import Row

__all__ = ["KIND", "Settings"]

_METRICS = {"iou": "IoU", "distinct_figures": "figures"}
_COLOURS = [(31, 90, 180), (225, 130, 20), (20, 140, 90), (170, 50, 150), (120, 120, 120)]


@dataclass(frozen=True)
class Settings:
    """What is compared with what.

    Parameters
    ----------
    experiments : tuple of str
        Names of experiments of kind ``unet_cuts``; their finished run folders lie beside this one's.
    pairs : mapping
        By name of a row, see :class:`flowcut.train.reproduce.unet_recipes.Row`, the row it is compared with
        wherever an experiment has both. The same networks occur once, however many experiments show them.
    """

    experiments: tuple[str, ...]
    pairs: dict[str, str]

    def __post_init__(self) -> None:
        for name in ("experiments", "pairs"):
            check_least(name, len(getattr(self, name)), 1)
        for row, other in self.pairs.items():
            Row(row), Row(other)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Read what the experiments gave, and compare.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        An experiment has no finished run beside this one, or none of them has both rows of a pair.
    """
    results = {name: _read(workspace, name) for name in settings.experiments}
    found = {row: _differences(results, row, other) for row, other in settings.pairs.items()}
    cells, values = [], {}
    for row, other in settings.pairs.items():
        values[row] = found[row]
        cells.append(
            (
                f"{Row(row).label} less {Row(other).label}",
                *(_interval([d for one in found[row].values() for d in one[key]]) for key in _METRICS),
                str(sum(len(one["iou"]) for one in found[row].values())),
                str(sum(float(np.mean(one["iou"])) > 0 for one in found[row].values()))
                + f" of {len(found[row])}",
            )
        )
    header = ("", "IoU", "figures", "trainings", "experiments with a higher IoU")
    heading = "Differences of pairs of trainings with the same data and seed; ± is half of a 95 % interval"
    lines = [
        Line(
            f"{Row(row).label} less {Row(other).label}",
            [float(name.split("-")[1]) for name in found[row]],
            [float(np.mean(one["iou"])) for one in found[row].values()],
            colour,
        )
        for (row, other), colour in zip(settings.pairs.items(), _COLOURS, strict=False)
    ]
    picture = draw_charts(
        [Chart("Difference of IoU, mean over seeds", "experiment", lines, logarithmic=False)]
    )
    return Outcome((), values, {}, picture, tables=(Table(heading, header, tuple(cells)),))


def _read(workspace: Workspace, name: str) -> Mapping[str, Any]:
    path = workspace.folder.parent.parent / name / "result.json"
    if not path.is_file():
        raise ValueError(f"experiments: expected a finished run in {path.parent}, got none")
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["values"]
    return values


def _differences(
    results: Mapping[str, Mapping[str, Any]], row: str, other: str
) -> dict[str, dict[str, list[float]]]:
    """By experiment and metric, one number for each seed; networks seen before are left out."""
    found: dict[str, dict[str, list[float]]] = {}
    seen: list[Any] = []
    for name, values in results.items():
        if not {row, other} <= values.keys():
            continue
        pair = (values[row]["scores"], values[other]["scores"])
        if pair in seen:
            continue
        seen.append(pair)
        found[name] = {
            key: [float(np.mean(a[key]) - np.mean(b[key])) for a, b in zip(*pair, strict=True)]
            for key in _METRICS
        }
    if not found:
        raise ValueError(f"pairs: expected an experiment with rows {row} and {other}, got none")
    return found


def _interval(values: list[float]) -> str:
    mean, half = mean_and_interval(values)
    return f"{mean:+.3f} ± {half:.3f}"


KIND = Kind("unet_summary", Settings, run)
