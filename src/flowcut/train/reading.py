"""A look at all data before a training: what would stop it or make it pointless is told first."""

from __future__ import annotations

import warnings
from typing import Any

from flowcut.core.warnings import FlowcutWarning
from flowcut.train.datasets import Splits
from flowcut.train.recipe import DataRecipe
from flowcut.vision.data import DrawnDataset
from flowcut.vision.data.crops import check_fits
from flowcut.vision.pictures import VOID

__all__ = ["read_all"]


def read_all(splits: Splits, recipe: DataRecipe) -> None:
    """Read every file once, so that a bad one is named before hours of training and not after.

    With `dataset.size` given the items stay in memory, and the first epoch is the faster for it.

    Parameters
    ----------
    splits : Splits
    recipe : DataRecipe
        What they were made from.

    Raises
    ------
    ValueError
        If a file is unreadable, a mask holds other values than labels, a pair differs in size, a picture is
        smaller than the crops, or the training or validation split has void pixels alone.

    Warns
    -----
    FlowcutWarning
        If labels occur nowhere in the training split.
    """
    for name, split in zip(Splits._fields, splits, strict=True):
        data: Any = split
        while isinstance(data, DrawnDataset):
            data = data.dataset
        seen: set[int] = set()
        for i in range(len(data)):
            item = data[i]
            if name == "train" and recipe.crop is not None:
                check_fits(item, recipe.crop)
            seen |= set(item["target"].unique().tolist())
        if name != "test" and not seen - {VOID}:
            raise ValueError(
                f"dataset: expected labelled pixels in the {name} split, got {len(data)} pictures with void"
                " pixels alone"
            )
        missing = sorted(set(range(recipe.num_classes)) - seen)
        if name == "train" and missing:
            names = getattr(data, "names", None)
            shown = ", ".join(str(label) + (f" ({names[label]})" if names else "") for label in missing)
            warnings.warn(
                f"dataset: no training pixel has label {shown}; the network cannot learn it",
                FlowcutWarning,
                stacklevel=2,
            )
