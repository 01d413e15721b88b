"""Networks without a head, whose output is to be cleaned up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowcut.train.datasets import FOLDERS, build_datasets
from flowcut.train.recipe import (
    DataRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    TrainingRecipe,
)
from flowcut.train.reproduce.experiment import Workspace, check_least
from flowcut.train.reproduce.refine_methods import Item
from flowcut.train.reproduce.trainings import data_folder, run_training
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.evaluating import evaluating

__all__ = ["Networks", "Trained", "trained_items"]


@dataclass(frozen=True)
class Trained:
    """How the network of a data set is trained.

    Parameters
    ----------
    size : tuple of int
        (height, width) of the pictures, >= 32.
    epochs, batch_size : int
        >= 1.
    """

    size: tuple[int, int] = (64, 96)
    epochs: int = 15
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_least("size", min(self.size), 32)
        for name in ("epochs", "batch_size"):
            check_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class Networks:
    """The networks of a data set, one a seed.

    Parameters
    ----------
    kind : str
        Of the data set, as a recipe names it.
    classes : int
        Number of labels.
    trained : Trained
    """

    kind: str
    classes: int
    trained: Trained

    def recipe(
        self, seed: int, network: NetworkRecipe, lr: float, precision: Any, workspace: Workspace
    ) -> Recipe:
        """Cross-entropy, as most networks are trained, and Adam."""
        how, root = self.trained, data_folder(workspace, FOLDERS[self.kind])
        return Recipe(
            dataset=DataRecipe(kind=self.kind, root=root, size=how.size, num_classes=self.classes),  # type: ignore[arg-type]  # a name out of FOLDERS
            network=network,
            loss=LossRecipe(kind="cross_entropy"),
            optimizer=OptimizerRecipe(kind="adam", lr=lr),
            training=TrainingRecipe(
                epochs=how.epochs,
                batch_size=how.batch_size,
                seed=seed,
                device="cpu",
                precision=precision,
                picture_every=how.epochs,
            ),
        )


def trained_items(recipe: Recipe, pictures: int, workspace: Workspace) -> tuple[list[Item], list[Item]]:
    """Train, or read what was trained before; what the network says of pictures it has not learned from.

    Parameters
    ----------
    recipe : Recipe
    pictures : int
        At most so many of the validation split, evenly spaced, since neighbours may be frames of one film.
    workspace : Workspace

    Returns
    -------
    test, val : list of Item
    """
    name = FOLDERS[recipe.dataset.kind]
    training = run_training(f"{name}_{recipe.training.seed}", recipe, workspace)
    network, _ = load_checkpoint(training.folder / "best.pt")
    splits = build_datasets(recipe.dataset)

    def seen(data: Any, indices: Sequence[int]) -> list[Item]:
        items = (data[i] for i in indices)
        return [Item(network(i["image"][None])[0].float(), i["image"], i["target"]) for i in items]

    test: Any = splits.test
    val: Any = splits.val
    with evaluating(network):
        return seen(test, range(len(test))), seen(val, spaced(len(val), pictures))


def spaced(length: int, number: int) -> list[int]:
    """So many indices, evenly spaced from the first to the last; all where there are no more.

    Examples
    --------
    >>> spaced(10, 4), spaced(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    number = min(length, number)
    return [round(i * (length - 1) / max(number - 1, 1)) for i in range(number)]
