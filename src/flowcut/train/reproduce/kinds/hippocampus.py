"""Three dimensions: a small U-Net on volumes of the hippocampus, with and without a SoftCut."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Table,
    Workspace,
    check_least,
    check_positive,
)
from flowcut.train.reproduce.paired import mean_over_seeds, paired_difference
from flowcut.train.reproduce.trainings import data_folder
from flowcut.train.reproduce.volume_training import VolumeTrainer, VolumeTraining
from flowcut.vision.data.hippocampus import Hippocampus
from flowcut.vision.evaluating import evaluating
from flowcut.vision.labels import predict_labels
from flowcut.vision.panel import colour_edges, colour_labels, draw_panel

__all__ = ["KIND", "Settings"]

_BASE, _CUT = "no head", "SoftCut"
_METRICS = {"dice_1": "Dice, anterior", "dice_2": "Dice, posterior", "dice": "Dice", "figures": "figures"}
_SHOWN = 4


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Parameters
    ----------
    seeds : tuple of int
        >= 0, one training of each system for each.
    features : tuple of int
        Channels of the network, see :class:`flowcut.vision.networks.Unet3d`.
    groups : int
        Of its norms, >= 1.
    rtol : float
        Relative residual at which the conjugate gradients of the cut stop, > 0.
    training : VolumeTrainer
    volumes : int, optional
        Only the first so many of each split, >= 1; None: all.
    threads : int
        Of PyTorch, >= 1.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, int, int, int, int, int] = (8, 16, 32, 64, 64, 8)
    groups: int = 4
    rtol: float = 1e-4
    training: VolumeTrainer = field(default_factory=VolumeTrainer)
    volumes: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        check_least("seeds", len(self.seeds), 1)
        check_least("seeds", min(self.seeds), 0)
        for name in ("groups", "threads"):
            check_least(name, getattr(self, name), 1)
        check_positive("rtol", self.rtol)
        if self.volumes is not None:
            check_least("volumes", self.volumes, 1)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Train both systems with every seed, and compare.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    torch.set_num_threads(settings.threads)
    train, test = (_data(settings, workspace, split) for split in ("train", "test"))
    trained: dict[str, list[VolumeTraining]] = {name: [] for name in (_BASE, _CUT)}
    # Seed by seed, so that an interrupted run has whole pairs.
    for seed in settings.seeds:
        for number, name in enumerate(trained):
            folder = Path(f"{number}_{seed}")
            workspace.say(f"{folder}: {name}")
            config = _config(settings, name)
            done = settings.training.run(config, seed, train, test, workspace.folder / folder)
            trained[name].append(done)
            workspace.say(f"{folder}: Dice {statistics.mean(done.scores['dice']):.3f}")
    values = {name: _values(trainings) for name, trainings in trained.items()}
    return Outcome(
        rows=_rows(trained, len(train), len(test)),
        values=values,
        seconds={name: _seconds(trainings) for name, trainings in trained.items()},
        picture=_picture(test, {name: trainings[0] for name, trainings in trained.items()}),
        tables=(_table(trained),),
    )


def _data(settings: Settings, workspace: Workspace, split: Any) -> Any:
    data = Hippocampus(data_folder(workspace, "hippocampus"), split, cache=True)
    if settings.volumes is None:
        return data
    return Subset(data, range(min(settings.volumes, len(data))))


def _config(settings: Settings, name: str) -> dict[str, Any]:
    solver = {"name": "CG", "rtol": settings.rtol}
    return {
        "network": "Unet3d",
        "arguments": {
            "num_classes": Hippocampus.num_classes,
            "features": list(settings.features),
            "groups": settings.groups,
        },
        "head": None if name == _BASE else {"name": "SoftCut", "solver": solver},
    }


def _values(trainings: Sequence[VolumeTraining]) -> dict[str, Any]:
    """All numbers of a system, over its seeds."""
    return {
        "scores": [dict(training.scores) for training in trainings],
        "losses": [training.losses for training in trainings],
        "parameters": sum(parameter.numel() for parameter in trainings[0].network.parameters()),
    }


def _seconds(trainings: Sequence[VolumeTraining]) -> float:
    """Of a step, the median over the seeds."""
    return statistics.median(training.seconds for training in trainings)


def _of(trainings: Sequence[VolumeTraining], metric: str) -> list[list[float]]:
    return [training.scores[metric] for training in trainings]


def _table(trained: Mapping[str, list[VolumeTraining]]) -> Table:
    cells = []
    for name, trainings in trained.items():
        row = [name]
        for metric in _METRICS:
            row.append(mean_over_seeds(_of(trainings, metric), 2 if metric == "figures" else 3))
        cells.append((*row, f"{_seconds(trainings):.2f}"))
    header = ("", *_METRICS.values(), "s / step")
    return Table("Test volumes; ± is half of a 95 % interval over seeds", header, tuple(cells))


def _rows(trained: Mapping[str, list[VolumeTraining]], train: int, test: int) -> tuple[Row, ...]:
    """What the head changes, volume by volume and seed by seed."""
    differences = [
        Row(
            f"SoftCut less no head: {title}",
            "",
            str(paired_difference(_of(trained[_CUT], metric), _of(trained[_BASE], metric))),
        )
        for metric, title in _METRICS.items()
    ]
    own = statistics.mean(trained[_BASE][0].scores["figures_of_target"])
    ratio = _seconds(trained[_CUT]) / _seconds(trained[_BASE])
    return (
        *differences,
        Row("figures of the true labels", "", f"{own:.2f}"),
        Row("volumes to learn from, and of the test", "", f"{train}, {test}"),
        Row("time of a step, SoftCut over no head", "", f"{ratio:.2f}", timed=True),
    )


def _picture(test: Any, trained: Mapping[str, VolumeTraining]) -> Tensor:
    """The slice with most of the hippocampus, of the first test volumes."""
    columns: dict[str, list[Tensor]] = {"MRI (Decathlon, CC BY-SA 4.0)": [], "true labels": []}
    for i in range(min(_SHOWN, len(test))):
        item = test[i]
        inside = (item["target"] > 0) & (item["target"] < Hippocampus.num_classes)
        k = int(inside.sum(dim=(0, 1)).argmax())
        grey = _grey(item["image"][0, :, :, k])
        shown = [grey, colour_labels(grey, item["target"][..., k])]
        for name, training in trained.items():
            parts = _parts(training, item["image"][None])
            labels = predict_labels(parts["logits"])[0, ..., k]
            columns.setdefault(name, []).append(colour_labels(grey, labels))
            if "edges" in parts:
                columns.setdefault("edges", []).append(colour_edges(parts["edges"][0, ..., k]))
        for column, picture in zip(list(columns)[:2], shown, strict=True):
            columns[column].append(picture)
    return draw_panel(columns, height=192)


def _parts(training: VolumeTraining, image: Tensor) -> dict[str, Tensor]:
    network: Any = training.network
    with evaluating(network):
        parts: dict[str, Tensor] = network.forward_parts(image)
    return parts


def _grey(values: Tensor) -> Tensor:
    low, high = torch.quantile(values, torch.tensor([0.01, 0.99])).tolist()
    return ((values - low) / max(high - low, 1e-6)).clamp(0, 1).expand(3, -1, -1)


KIND = Kind("hippocampus", Settings, run)
