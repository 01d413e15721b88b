"""Experiments 2 to 11 of the SoftCut thesis taken together: many trainings say what three cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from flowcut.train.reproduce.chart import Chart, Line, draw_charts
from flowcut.train.reproduce.experiment import Kind, Outcome, Table, Workspace, check_least
from flowcut.train.reproduce.paired import mean_and_interval
from flowcut.train.reproduce.unet_recipes import Row

__all__ = ["KIND", "Settings"]

_METRICS = {"iou": "IoU", "distinct_figures": "figures"}
# By experiment and metric, one number for each seed.
Differences = dict[str, dict[str, list[float]]]
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
        for name in (*self.pairs, *self.pairs.values()):
            Row(name)


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
    cells = tuple(
        (
            f"{Row(row).label} less {Row(other).label}",
            *(_interval([d for one in found[row].values() for d in one[key]]) for key in _METRICS),
            str(sum(len(one["iou"]) for one in found[row].values())),
            f"{sum(float(np.mean(one['iou'])) > 0 for one in found[row].values())} of {len(found[row])}",
        )
        for row, other in settings.pairs.items()
    )
    header = ("", *_METRICS.values(), "trainings", "experiments with a higher IoU")
    heading = "Differences of pairs of trainings with the same data and seed; ± is half of a 95 % interval"
    return Outcome((), found, {}, _picture(found), tables=(Table(heading, header, cells),))


def _picture(found: Mapping[str, Differences]) -> Tensor:
    """Differences of IoU where more than one experiment has them; the table says from what."""
    shown = {row: by for row, by in found.items() if len(by) > 1} or found
    lines = [
        Line(
            Row(row).label,
            [float(name.split("-")[1]) for name in by],
            [float(np.mean(one["iou"])) for one in by.values()],
            colour,
        )
        for (row, by), colour in zip(shown.items(), _COLOURS, strict=False)
    ]
    return draw_charts([Chart("Difference of IoU, mean over seeds", "experiment", lines, logarithmic=False)])


def _read(workspace: Workspace, name: str) -> Mapping[str, Any]:
    path = workspace.folder.parent.parent / name / "result.json"
    if not path.is_file():
        raise ValueError(f"experiments: expected a finished run in {path.parent}, got none")
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["values"]
    return values


def _differences(results: Mapping[str, Mapping[str, Any]], row: str, other: str) -> Differences:
    """One row less another; networks seen before are left out."""
    found: Differences = {}
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
