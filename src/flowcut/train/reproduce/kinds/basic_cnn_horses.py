"""Experiment 1 of the SoftCut thesis: a small network on the horses, learning from a few revealed pixels."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from flowcut.train.recipe import (
    DataRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    TrainingRecipe,
)
from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Table,
    Workspace,
    check_least,
    check_positive,
)
from flowcut.train.reproduce.paired import OVER_SEEDS, mean_over_seeds, mean_standard_error, paired_difference
from flowcut.train.reproduce.predictions import prediction_panels
from flowcut.train.reproduce.trainings import (
    Training,
    best_epoch,
    data_folder,
    minutes,
    run_training,
    score_training,
)
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.data import WeizmannHorses

__all__ = ["KIND", "Settings"]

_BASE, _EXACT, _APPROXIMATE = "base network", "SoftCut (exact)", "SoftCut (approximate)"
_VARIATION = "total variation (exact)"
# The thesis' peer runs 35 rounds of exact solves along the axes and calls that the submodular layer.
_SUBMODULAR, _ISOTONIC = "submodular", "submodular (+ isotonic)"
# Table 2 of the thesis: mIoU and loss with their standard errors, distinct figures, minutes.
_THESIS = {
    _BASE: ("0.472 (0.024)", "0.394 (0.030)", "72.3", "5"),
    _EXACT: ("0.594 (0.022)", "0.302 (0.031)", "7.5", "695"),
    _APPROXIMATE: ("0.602 (0.021)", "0.304 (0.029)", "8.7", "35"),
    _VARIATION: ("", "", "", ""),
    _SUBMODULAR: ("0.530 (0.028)", "0.349 (0.028)", "2.0", "50"),
    _ISOTONIC: ("0.683 (0.022)", "0.264 (0.018)", "1.9", "50"),
}
_NETWORKS: dict[str, dict[str, Any]] = {
    _BASE: {"head": "none"},
    _EXACT: {"head": "soft_cut", "solver": "cholesky"},
    _APPROXIMATE: {"head": "soft_cut", "solver": "cg", "rtol": 1e-4},
    _VARIATION: {"head": "total_variation"},
    _SUBMODULAR: {"head": "total_variation", "tv_method": "alternating"},
    _ISOTONIC: {"head": "total_variation", "tv_method": "alternating", "tv_refine": True},
}
_TRIED = (_BASE, _APPROXIMATE, _VARIATION)
# What minimises the same function, more or less exactly, gets the same optimizer and learning rate: trying
# all ways for each would be to choose by chance.
_AS_CHOSEN_FOR = {_EXACT: _APPROXIMATE, _SUBMODULAR: _VARIATION, _ISOTONIC: _VARIATION}
_SHOWN = 4

# For each system, for each seed: by name of a metric, its value on each test picture.
Scores = dict[str, list[dict[str, list[float]]]]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Parameters
    ----------
    size : tuple of int
        (height, width) of the horses, >= 16.
    reveal : float
        Share of the training pixels whose label is shown, in (0, 1].
    epochs : int
        >= 1, with batches of one picture.
    seeds : tuple of int
        >= 0; optimizers and learning rates are tried with the first, the chosen ones trained with all.
    optimizers : tuple of str
        ``adam``, ``adagrad``.
    lrs : tuple of float
        Learning rates, > 0.
    width, kernel_size : int
        Of the network.
    threads : int
        Of PyTorch, >= 1.
    """

    size: tuple[int, int] = (96, 128)
    reveal: float = 0.001
    epochs: int = 30
    seeds: tuple[int, ...] = (0, 1, 2)
    optimizers: tuple[Literal["adam", "adagrad"], ...] = ("adam", "adagrad")
    lrs: tuple[float, ...] = (1e-2, 1e-3)
    width: int = 16
    kernel_size: int = 5
    threads: int = 1

    def __post_init__(self) -> None:
        check_least("size", min(self.size), 16)
        for name in ("epochs", "threads", "width"):
            check_least(name, getattr(self, name), 1)
        for name in ("seeds", "optimizers", "lrs"):
            check_least(name, len(getattr(self, name)), 1)
        for lr in self.lrs:
            check_positive("lrs", lr)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Try every optimizer and learning rate, keep the best of each system, and train it with every seed.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    torch.set_num_threads(settings.threads)
    root = data_folder(workspace, "horses")
    tried = {
        name: {
            way: run_training(_folder(name, way, settings.seeds[0]), recipe, workspace)
            for way, recipe in _recipes(settings, root, name, settings.seeds[0]).items()
        }
        for name in _TRIED
    }
    # By the validation pictures: choosing by the test pictures, as is easily done, flatters.
    chosen = {
        name: max(ways, key=lambda way: best_epoch(ways[way])["val_iou"]) for name, ways in tried.items()
    }
    chosen |= {name: chosen[other] for name, other in _AS_CHOSEN_FOR.items()}
    trained: dict[str, list[Training]] = {name: [] for name in _NETWORKS}
    scores: Scores = {name: [] for name in _NETWORKS}
    for seed in settings.seeds:
        for name in _NETWORKS:
            way = chosen[name]
            recipe = _recipes(settings, root, name, seed)[way]
            training = run_training(_folder(name, way, seed), recipe, workspace)
            trained[name].append(training)
            scores[name].append(score_training(training, recipe, "as_trained"))
    values = {
        "chosen": chosen,
        "scores": scores,
        "tried": {name: {way: _summary(t) for way, t in ways.items()} for name, ways in tried.items()},
    }
    picture, private = _pictures(settings, root, trained)
    return Outcome(
        rows=(),
        values=values,
        seconds={name: minutes(found) * 60 for name, found in trained.items()},
        picture=picture,
        private={"photographs": private},
        tables=(_table(trained, scores, chosen), _tried_table(tried)),
    )


def _folder(name: str, way: str, seed: int) -> str:
    return f"{list(_NETWORKS).index(name)}_{way}_{seed}"


def _recipes(settings: Settings, root: str, name: str, seed: int) -> dict[str, Recipe]:
    """One recipe for each optimizer and learning rate."""
    network = replace(
        NetworkRecipe(kind="basic_cnn", width=settings.width, kernel_size=settings.kernel_size),
        **_NETWORKS[name],
    )
    return {
        f"{optimizer}_{lr:g}": Recipe(
            dataset=DataRecipe(kind="weizmann_horses", root=root, size=settings.size, reveal=settings.reveal),
            network=network,
            loss=LossRecipe(kind="cross_entropy"),
            optimizer=OptimizerRecipe(kind=optimizer, lr=lr),
            training=TrainingRecipe(
                epochs=settings.epochs,
                batch_size=1,
                seed=seed,
                device="cpu",
                picture_every=settings.epochs,
            ),
        )
        for optimizer in settings.optimizers
        for lr in settings.lrs
    }


def _summary(training: Training) -> dict[str, float]:
    kept = best_epoch(training)
    return {
        "val_iou": kept["val_iou"],
        "val_loss": kept["val_loss"],
        "epoch": kept["epoch"],
        "test_iou": statistics.mean(training.scores["iou"]),
        "seconds": sum(row["seconds"] for row in training.history),
    }


def _table(trained: Mapping[str, list[Training]], scores: Scores, chosen: Mapping[str, str]) -> Table:
    def of(name: str, metric: str) -> list[list[float]]:
        return [one[metric] for one in scores[name]]

    cells = [
        (
            name,
            f"{mean_over_seeds(of(name, 'iou'), 3)} ({mean_standard_error(of(name, 'iou')):.3f})",
            "" if name == _BASE else str(paired_difference(of(name, "iou"), of(_BASE, "iou"))),
            mean_over_seeds(of(name, "loss"), 3),
            mean_over_seeds(of(name, "distinct_figures"), 1),
            f"{minutes(trainings):.1f}",
            chosen[name].replace("_", ", "),
            *_THESIS[name],
        )
        for name, trainings in trained.items()
    ]
    header = (
        "",
        "IoU",
        "less base",
        "loss",
        "figures",
        "minutes",
        "best with",
        "thesis: IoU",
        "thesis: loss",
        "thesis: figures",
        "thesis: minutes",
    )
    return Table(OVER_SEEDS, header, tuple(cells))


def _tried_table(tried: Mapping[str, Mapping[str, Training]]) -> Table:
    ways = list(next(iter(tried.values())))
    cells = tuple(
        (name, *(f"{best_epoch(found[way])['val_iou']:.3f}" for way in ways)) for name, found in tried.items()
    )
    heading = "IoU of the validation pictures, first seed; each system's best was chosen"
    return Table(heading, ("", *(way.replace("_", ", ") for way in ways)), cells)


def _pictures(settings: Settings, root: str, trained: Mapping[str, list[Training]]) -> tuple[Tensor, Tensor]:
    test = WeizmannHorses(root, "test", size=settings.size)
    networks = {name: load_checkpoint(found[0].folder / "best.pt")[0] for name, found in trained.items()}
    return prediction_panels([test[i] for i in range(min(_SHOWN, len(test)))], networks)


KIND = Kind("basic_cnn_horses", Settings, run)
