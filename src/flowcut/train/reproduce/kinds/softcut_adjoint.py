"""What the adjoint is worth: the same U-Net trained through solves that stop early, late, or not at all."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from flowcut.train.build import build_loss, network_config
from flowcut.train.datasets import build_datasets
from flowcut.train.recipe import (
    DataRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    TrainingRecipe,
)
from flowcut.train.reproduce.chart import Chart, Line, draw_charts
from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Table,
    Workspace,
    check_least,
    check_positive,
)
from flowcut.train.reproduce.gradient_watch import GradientWatch
from flowcut.train.reproduce.paired import mean_over_seeds, paired_difference
from flowcut.train.reproduce.thesis_tables import THESIS_ATOL, THESIS_PIXELS, thesis_atol
from flowcut.train.reproduce.trainings import Training, data_folder, run_training, with_seed
from flowcut.vision.heads import build_solver

__all__ = ["KIND", "Settings"]

_BASE, _EXACT = "no head", "exact (Cholesky)"
_PRINTED, _SCALED = "thesis' rule", "thesis' rule, its threshold"
# Experiment 2 of the thesis (Table 4), traffic signs of Cityscapes: mIoU, distinct figures.
_THESIS = {_BASE: ("0.432", "1.51"), _EXACT: ("0.424", "1.13"), _SCALED: ("0.479", "1.26")}
_COLOURS = [
    (31, 90, 180),
    (20, 140, 90),
    (225, 130, 20),
    (170, 50, 150),
    (120, 120, 120),
    (90, 170, 220),
    (200, 170, 30),
    (140, 90, 60),
]
_BLACK, _RED = (30, 30, 30), (200, 30, 40)


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Parameters
    ----------
    size : tuple of int
        (height, width) of the horses, >= 32.
    epochs, batch_size : int
        >= 1.
    seeds : tuple of int
        >= 0, one training of each system for each.
    tolerances : tuple of float
        Relative residuals at which CG stops, in (0, 1).
    lr : float
        Of Adam, > 0.
    encoder : str
        Of segmentation-models-pytorch.
    decoder_channels : tuple of int
        Of the five levels of each decoder.
    precision : str
        ``32`` or ``bf16``.
    threads : int
        Of PyTorch, >= 1.
    """

    size: tuple[int, int] = (64, 96)
    epochs: int = 20
    batch_size: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    lr: float = 1e-3
    encoder: str = "resnet18"
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    precision: str = "bf16"
    threads: int = 1

    def __post_init__(self) -> None:
        check_least("size", min(self.size), 32)
        for name in ("epochs", "batch_size", "threads"):
            check_least(name, getattr(self, name), 1)
        check_positive("lr", self.lr)
        check_least("seeds", len(self.seeds), 1)
        if not all(0 < rtol < 1 for rtol in self.tolerances):
            raise ValueError(f"tolerances: expected numbers in (0, 1), got {list(self.tolerances)}")
        if self.precision not in ("32", "bf16"):
            raise ValueError(f"precision: expected 32 or bf16, got {self.precision}")


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Train every system with every seed, and compare.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    torch.set_num_threads(settings.threads)
    systems = _systems(settings, data_folder(workspace, "horses"))
    trained: dict[str, list[Training]] = {name: [] for name in systems}
    # Seed by seed, so that an interrupted run has whole comparisons.
    for seed in settings.seeds:
        for number, (name, recipe) in enumerate(systems.items()):
            folder = f"{number:02}_{seed}"
            recipe = with_seed(recipe, seed)
            watch = _Watch(recipe, workspace.folder / folder / "gradients.json")
            workspace.say(f"{folder}: {name}")
            trained[name].append(run_training(folder, recipe, workspace, watch.callbacks))
    values = {name: _values(trainings) for name, trainings in trained.items()}
    return Outcome(
        rows=_rows(settings, trained),
        values=values,
        seconds={name: found["seconds_per_epoch"] for name, found in values.items()},
        picture=_picture(values),
        tables=(_table(trained, values), _gradient_table(values)),
    )


def _systems(settings: Settings, root: str) -> dict[str, Recipe]:
    """The recipes, which differ in head and solver alone."""
    base = Recipe(
        dataset=DataRecipe(kind="weizmann_horses", root=root, size=settings.size),
        network=NetworkRecipe(
            kind="two_head_unet",
            encoder=settings.encoder,
            decoder_channels=settings.decoder_channels,
            head="none",
        ),
        loss=LossRecipe(kind="dice"),
        optimizer=OptimizerRecipe(kind="adam", lr=settings.lr),
        training=TrainingRecipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            device="cpu",
            precision=settings.precision,  # type: ignore[arg-type]  # checked above
            picture_every=settings.epochs,
        ),
    )
    pixels = settings.batch_size * math.prod(settings.size)

    def headed(**solver: Any) -> Recipe:
        return replace(base, network=replace(base.network, head="soft_cut", **solver))

    return {
        _BASE: base,
        _EXACT: headed(solver="cholesky"),
        **{f"CG to {rtol:g}": headed(solver="cg", rtol=rtol) for rtol in settings.tolerances},
        _PRINTED: headed(solver="thesis", atol=THESIS_ATOL),
        _SCALED: headed(solver="thesis", atol=thesis_atol(pixels)),
    }


@dataclass(frozen=True)
class _Watch:
    """Makes what watches a training's gradients; nothing where there is no head."""

    recipe: Recipe
    path: Path

    def callbacks(self) -> Sequence[Callback]:
        network = self.recipe.network
        if network.head == "none":
            return ()
        config = network_config(network, self.recipe.dataset)["head"]["solver"]
        data: Any = build_datasets(self.recipe.dataset).train
        batch = [data[i] for i in range(min(self.recipe.training.batch_size, len(data)))]
        images, target = (torch.stack([item[key] for item in batch]) for key in ("image", "target"))
        loss, solver = build_loss(self.recipe.loss, 2), build_solver(config)
        return [GradientWatch(images, target, loss, solver, self.path)]


def _values(trainings: Sequence[Training]) -> dict[str, Any]:
    """All numbers of a system, over its seeds."""
    watched = [training.folder / "gradients.json" for training in trainings]
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in watched if path.is_file()]
    return {
        "scores": [dict(training.scores) for training in trainings],
        "val_iou": [[row["val_iou"] for row in training.history] for training in trainings],
        "gradients": notes,
        "seconds_per_epoch": statistics.median(t.metrics["seconds_per_epoch"] for t in trainings),
        "parameters": trainings[0].metrics["parameters"],
    }


def _of(trainings: Sequence[Training], metric: str) -> list[list[float]]:
    return [training.scores[metric] for training in trainings]


def _table(trained: Mapping[str, list[Training]], values: Mapping[str, Any]) -> Table:
    cells = []
    for name, trainings in trained.items():
        against = (
            ""
            if name == _EXACT
            else str(paired_difference(_of(trainings, "iou"), _of(trained[_EXACT], "iou")))
        )
        thesis = _THESIS.get(name, ("", ""))
        cells.append(
            (
                name,
                mean_over_seeds(_of(trainings, "iou"), 3),
                against,
                mean_over_seeds(_of(trainings, "distinct_figures"), 2),
                f"{values[name]['seconds_per_epoch']:.1f}",
                *thesis,
            )
        )
    header = ("", "IoU", "less exact", "figures", "s / epoch", "thesis: IoU", "thesis: figures")
    return Table("Test pictures; ± is half of a 95 % interval over seeds", header, tuple(cells))


def _gradient_table(values: Mapping[str, Any]) -> Table:
    """The error of the gradient along the trainings: median over epochs and seeds, and the worst."""
    cells = []
    for name, found in values.items():
        notes = [note for seed in found["gradients"] for note in seed]
        if not notes:
            continue

        def middle(key: str, notes: list[dict[str, float]] = notes) -> float:
            return statistics.median(note[key] for note in notes)

        cells.append(
            (
                name,
                f"{middle('error'):.2g}",
                f"{max(note['error'] for note in notes):.2g}",
                f"{middle('edges'):.2g}",
                f"{middle('cosine'):.4f}",
                f"{middle('adjoint_steps'):.0f}",
                f"{middle('forward_steps'):.0f}",
                f"{middle('forward_error'):.1g}",
            )
        )
    header = ("", "error", "worst", "of edges", "cosine", "adjoint steps", "forward steps", "forward error")
    return Table(
        "Relative error of the gradient during training; medians over epochs and seeds", header, tuple(cells)
    )


def _rows(settings: Settings, trained: Mapping[str, list[Training]]) -> tuple[Row, ...]:
    head = paired_difference(_of(trained[_EXACT], "iou"), _of(trained[_BASE], "iou"))
    cut = paired_difference(_of(trained[_SCALED], "iou"), _of(trained[_EXACT], "iou"))
    pixels = settings.batch_size * math.prod(settings.size)
    return (
        Row("the head (exact) less no head, IoU", "-0.008", str(head)),
        Row("the thesis' approximate less exact, IoU", "+0.055", str(cut)),
        Row("pixels in a batch", f"{THESIS_PIXELS}", f"{pixels}"),
    )


def _picture(values: Mapping[str, Any]) -> Tensor:
    """Gradient error and validation IoU along the epochs, mean over the seeds."""
    shown = [name for name in values if values[name]["gradients"] and name != _EXACT]
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(shown))]

    def along(seeds: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
        means = [statistics.mean(column) for column in zip(*seeds, strict=True)]
        return [float(i + 1) for i in range(len(means))], means

    errors = []
    for name, colour in zip(shown, colours, strict=True):
        x, y = along([[note["error"] for note in seed] for seed in values[name]["gradients"]])
        errors.append(Line(name, x, [max(v, 1e-8) for v in y], colour))
    colour_of = {_BASE: _BLACK, _EXACT: _RED, **dict(zip(shown, colours, strict=True))}
    chosen = dict.fromkeys((_BASE, _EXACT, shown[0], _PRINTED, _SCALED))
    ious = [Line(name, *along(values[name]["val_iou"]), colour_of[name]) for name in chosen]
    return draw_charts(
        [
            Chart("Relative error of the gradient", "epoch", errors),
            Chart("Validation IoU", "epoch", ious, logarithmic=False),
        ]
    )


KIND = Kind("softcut_adjoint", Settings, run)
