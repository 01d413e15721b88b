"""Many trainings that differ in one thing: run one by one, kept, and scored picture by picture."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from flowcut.core.atomic import atomic_write
from flowcut.train.build import build_loss
from flowcut.train.datasets import build_datasets
from flowcut.train.fit import fit
from flowcut.train.recipe import Recipe
from flowcut.train.recipe_file import read_recipe
from flowcut.train.reproduce.experiment import Workspace
from flowcut.train.run_folder import RunFolder
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.predict import evaluate_dataset

__all__ = ["Training", "best_epoch", "data_folder", "minutes", "run_training", "score_training", "with_seed"]

_SCORES = "scores.json"


@dataclass(frozen=True)
class Training:
    """A finished training.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` holds.
    scores : mapping
        By name of a metric, its value on each test picture.
    history : list of dict
        One mapping an epoch.
    folder : Path
        The run folder.
    """

    metrics: Mapping[str, Any]
    scores: Mapping[str, list[float]]
    history: list[dict[str, float]]
    folder: Path


def data_folder(workspace: Workspace, name: str) -> str:
    """The folder of a data set among those of the workspace.

    Raises
    ------
    ValueError
        The workspace names no folder of data sets.
    """
    if workspace.data is None:
        raise ValueError(f"--data: expected the folder that holds {name}/, got none")
    return str(workspace.data / name)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed of weights and order; the data stay the same.

    Examples
    --------
    >>> with_seed(Recipe(), 3).training.seed
    3
    """
    return replace(recipe, training=replace(recipe.training, seed=seed))


def run_training(
    name: str,
    recipe: Recipe,
    workspace: Workspace,
    callbacks: Callable[[], Sequence[Callback]] = tuple,
    reuse: Sequence[str] = (),
) -> Training:
    """Train, or continue, or read what was trained before.

    What continuing would have needed is removed once the network is scored.

    Parameters
    ----------
    name : str
        Of the run folder in the workspace.
    recipe : Recipe
    workspace : Workspace
    callbacks : callable
        Makes what watches the training.
    reuse : sequence of str
        Experiments whose run folders may lie beside this one's: a finished training of that name and of
        the very same recipe there is read, not repeated.

    Returns
    -------
    Training
    """
    folder = _finished_elsewhere(name, recipe, workspace, reuse) or workspace.folder / name
    if not (folder / _SCORES).is_file():
        resume = (folder / "checkpoints" / "last.ckpt").is_file()
        workspace.say(f"{name}: {'resumed' if resume else 'started'}")
        fit(
            recipe,
            folder,
            resume=resume,
            # What an interruption before the first whole epoch left behind is worth nothing.
            overwrite=not resume,
            progress=False,
            say=None,
            callbacks=callbacks(),
        )
        _write_scores(folder / _SCORES, load_checkpoint(folder / "best.pt")[0], recipe)
        shutil.rmtree(RunFolder(folder).checkpoints)
        iou = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]["iou"]["mean"]
        workspace.say(f"{name}: test IoU {iou:.3f}")
    with (folder / "history.csv").open(encoding="utf-8") as file:
        history = [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]
    metrics, scores = (
        json.loads((folder / file).read_text(encoding="utf-8")) for file in ("metrics.json", _SCORES)
    )
    return Training(metrics, scores, history, folder)


def best_epoch(training: Training) -> dict[str, float]:
    """The row of the epoch whose network was kept: the one of lowest validation loss."""
    return min(training.history, key=lambda row: row["val_loss"])


def minutes(trainings: Sequence[Training]) -> float:
    """Median time of a training, in minutes of the machine it ran on."""
    return statistics.median(sum(row["seconds"] for row in t.history) for t in trainings) / 60


def score_training(
    training: Training,
    recipe: Recipe,
    name: str,
    change: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> dict[str, list[float]]:
    """Score a finished training once more, with its loss, and perhaps with another head.

    Parameters
    ----------
    training : Training
    recipe : Recipe
        Of the training.
    name : str
        Scores of the same name are read, not computed again.
    change : callable
        Makes of the trained network what is scored.

    Returns
    -------
    dict
        By name of a metric, its value on each test picture; ``loss`` is among them, for three labels or more
        as the mean over the classes.
    """
    path = training.folder / f"scores_{name}.json"
    if not path.is_file():
        network, _ = load_checkpoint(training.folder / "best.pt")
        loss = build_loss(replace(recipe.loss, class_reduction="mean"), recipe.dataset.labels)
        _write_scores(path, change(network), recipe, loss)
    scores: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return scores


def _finished_elsewhere(name: str, recipe: Recipe, workspace: Workspace, reuse: Sequence[str]) -> Path | None:
    for other in reuse:
        folder = workspace.folder.parent.parent / other / workspace.folder.name / name
        if (folder / _SCORES).is_file() and read_recipe(RunFolder(folder).recipe) == recipe:
            return folder
    return None


def _write_scores(path: Path, network: nn.Module, recipe: Recipe, loss: nn.Module | None = None) -> None:
    """Write every metric of every test picture, which comparing pair by pair asks for."""
    test: Any = build_datasets(recipe.dataset).test
    scores: dict[str, list[float]] = {}
    for i in range(len(test)):
        one = torch.utils.data.Subset(test, [i])
        for metric, value in evaluate_dataset(network, one, loss=loss, progress=False).items():
            scores.setdefault(metric, []).append(float(value.mean))
    with atomic_write(path) as file:
        file.write((json.dumps(scores) + "\n").encode())
