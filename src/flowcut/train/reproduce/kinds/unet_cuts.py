"""Experiments 2 to 11 of the SoftCut thesis: U-Nets with and without a cut, on street scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowcut.train.datasets import build_datasets
from flowcut.train.reproduce.experiment import Kind, Outcome, Table, Workspace
from flowcut.train.reproduce.experiment import Row as Comparison
from flowcut.train.reproduce.paired import OVER_SEEDS, mean_over_seeds, mean_standard_error, paired_difference
from flowcut.train.reproduce.predictions import prediction_panels
from flowcut.train.reproduce.thesis_tables import THESIS, Numbers
from flowcut.train.reproduce.trainings import (
    Training,
    data_folder,
    minutes,
    run_training,
    score_training,
)
from flowcut.train.reproduce.unet_recipes import Row, Settings, recipe_of
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.infer import with_inference
from flowcut.vision.tiled import TiledNetwork

__all__ = ["KIND"]

_SHOWN = 6
_NO_NUMBERS = Numbers("", "", "")

# For each row, for each seed: by name of a metric, its value on each test picture.
Scores = dict[str, list[dict[str, list[float]]]]


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Train every system with every seed, apply it in every way, and compare.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    torch.set_num_threads(settings.threads)
    root = data_folder(workspace, settings.dataset)
    rows = [Row(name) for name in settings.rows]
    trained: dict[str, dict[int, Training]] = {row.training: {} for row in rows}
    scores: Scores = {row.name: [] for row in rows}
    # Seed by seed, so that an interrupted run has whole comparisons.
    for seed in settings.seeds:
        for row in rows:
            recipe = recipe_of(settings, row, root, seed)
            name = f"{row.training.replace('/', '_')}_{seed}"
            training = run_training(name, recipe, workspace, reuse=settings.reuse)
            trained[row.training][seed] = training
            way = row.inference or "as_trained"
            scores[row.name].append(score_training(training, recipe, way, _applied(settings, row)))
    spent = {name: minutes(list(found.values())) for name, found in trained.items()}
    values = {row.name: {"scores": scores[row.name], "minutes": spent[row.training]} for row in rows}
    picture, private = _pictures(settings, root, rows, trained)
    return Outcome(
        rows=_differences(settings, rows, scores),
        values=values,
        seconds={name: 60 * found for name, found in spent.items()},
        picture=picture,
        private={"photographs": private},
        tables=(_table(settings, rows, spent, scores),),
    )


def _applied(settings: Settings, row: Row) -> Callable[[nn.Module], nn.Module]:
    """How the trained network of a row sees a test picture."""
    if settings.task == "full":
        return partial(TiledNetwork, tile=settings.tile, overlap=settings.overlap, combine="discard")
    if row.inference is not None:
        return partial(with_inference, head=row.inference)
    return lambda network: network


def _of(scores: Scores, row: Row, metric: str) -> list[list[float]]:
    return [one[metric] for one in scores[row.name]]


def _table(settings: Settings, rows: list[Row], spent: Mapping[str, float], scores: Scores) -> Table:
    cells = []
    for row in rows:
        thesis = THESIS[settings.experiment].get(row.name, _NO_NUMBERS)
        ious = _of(scores, row, "iou")
        error = mean_standard_error(ious)
        cells.append(
            (
                row.label,
                f"{mean_over_seeds(ious, 3)} ({error:.3f})",
                mean_over_seeds(_of(scores, row, "loss"), 3),
                mean_over_seeds(_of(scores, row, "distinct_figures"), 2),
                f"{spent[row.training]:.1f}",
                *thesis[:3],
                *([thesis.time] if any(n.time for n in THESIS[settings.experiment].values()) else []),
            )
        )
    header = ["", "IoU", "loss", "figures", "minutes", "thesis: IoU", "thesis: loss", "thesis: figures"]
    if len(cells[0]) > len(header):
        header.append("thesis: time")
    return Table(OVER_SEEDS, tuple(header), tuple(cells))


def _differences(settings: Settings, rows: list[Row], scores: Scores) -> tuple[Comparison, ...]:
    """Each row less the first, beside what the thesis' numbers give."""
    first, thesis = rows[0], THESIS[settings.experiment]
    found = []
    for metric, wanted in (("iou", "IoU"), ("distinct_figures", "figures")):
        for row in rows[1:]:
            difference = paired_difference(_of(scores, row, metric), _of(scores, first, metric))
            sure = ", sure" if difference.sure else ""
            paper = ""
            if metric == "iou" and {row.name, first.name} <= thesis.keys():
                theirs = [float(thesis[name].iou.split()[0]) for name in (row.name, first.name)]
                paper = f"{theirs[0] - theirs[1]:+.3f}"
            found.append(
                Comparison(f"{row.label} less {first.label}: {wanted}", paper, f"{difference}{sure}")
            )
    count = len(_of(scores, first, "iou")[0])
    return (*found, Comparison("test pictures", "", str(count)))


def _pictures(
    settings: Settings, root: str, rows: list[Row], trained: Mapping[str, Mapping[int, Training]]
) -> tuple[Tensor, Tensor]:
    """Predictions alone, and beside the photographs, which may not be published."""
    test: Any = build_datasets(recipe_of(settings, rows[0], root, settings.seeds[0]).dataset).test
    chosen = np.unique(np.linspace(0, len(test) - 1, _SHOWN).round().astype(int)).tolist()
    networks = {}
    for row in rows:
        network, _ = load_checkpoint(trained[row.training][settings.seeds[0]].folder / "best.pt")
        networks[row.label] = _applied(settings, row)(network)
    return prediction_panels([test[i] for i in chosen], networks)


KIND = Kind("unet_cuts", Settings, run)
