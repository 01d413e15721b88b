"""Tiles of which most hold the classes that matter, however rare those are."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from flowcut.vision.data.crops import check_fits, cut
from flowcut.vision.data.drawn import DrawnDataset
from flowcut.vision.data.folder import Item, target_of
from flowcut.vision.pictures import VOID
from flowcut.vision.resize import Size, check_size

__all__ = ["BalancedTiles"]

# Keeps the places of tiles apart from what other datasets draw from the same two numbers.
_STREAM = 1


class BalancedTiles(DrawnDataset):
    """Tiles cut so that the vast majority of them hold one of the chosen classes.

    As the SoftCut thesis samples its tiles of Cityscapes. With probability ``share`` a tile is made
    around a class: one of the classes, a picture that holds it, a pixel of it there, and a tile over that
    pixel, each uniformly. The others lie anywhere in picture ``k // count``. Item ``[draw, k]`` depends on
    the two numbers alone.

    Which picture holds what is read once, when the dataset is made: one number for each picture and class
    is kept, and no picture.

    Parameters
    ----------
    dataset
        Items ``image``, ``target``, ``id``, always the same: augment tiles, not what they are cut from.
    size
        (height, width) of a tile in pixels, or one number for a square, >= 1.
    count
        Tiles in one pass for each picture, >= 1.
    classes
        Labels that tiles are made around, each as often; None: all that occur.
    share
        Of the tiles that are made around a class, in [0, 1].

    Raises
    ------
    ValueError
        A number is out of its range, a class occurs nowhere, or all pixels are void. Reading an item
        raises it where the picture is smaller than a tile.

    Examples
    --------
    >>> from flowcut.vision.data.mosaic import TextureMosaic
    >>> tiles = BalancedTiles(TextureMosaic(length=3, size=32), size=8, count=4, classes=[1], share=1.0)
    >>> len(tiles), all(bool((tile["target"] == 1).any()) for tile in tiles)
    (12, True)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        size: Size,
        count: int = 1,
        classes: Iterable[int] | None = None,
        share: float = 0.9,
    ) -> None:
        if count < 1:
            raise ValueError(f"count: expected 1 or more, got {count}")
        if not 0 <= share <= 1:
            raise ValueError(f"share: expected a number in [0, 1], got {share}")
        if isinstance(dataset, DrawnDataset):
            raise ValueError(
                "dataset: expected one whose items stay the same (augment the tiles instead), "
                f"got {type(dataset).__name__}"
            )
        super().__init__(dataset, len(dataset) * count if isinstance(dataset, Sized) else None)
        self.size = check_size(size)
        self.count = count
        self.share = share
        pixels = np.stack([_histogram(target_of(dataset, i)) for i in range(len(self) // count)])
        self.classes = _classes(pixels.sum(axis=0), classes)
        # For each class the pictures that hold it.
        self.holders = {label: np.flatnonzero(pixels[:, label]) for label in self.classes}

    def draw_item(self, draw: int, k: int) -> Item:
        """Cut one tile.

        Raises
        ------
        ValueError
            The picture is smaller than a tile.
        """
        rng = np.random.default_rng([draw, k, _STREAM])
        label = None
        index = k // self.count
        if rng.random() < self.share:
            label = self.classes[rng.integers(len(self.classes))]
            index = int(rng.choice(self.holders[label]))
        item: Item = self.dataset[index]
        check_fits(item, self.size)
        low, high = [0, 0], [n - m for n, m in zip(item["target"].shape, self.size, strict=True)]
        if label is not None:
            places = torch.nonzero(item["target"] == label)
            pixel = places[int(rng.integers(len(places)))].tolist()
            low = [max(0, p - m + 1) for p, m in zip(pixel, self.size, strict=True)]
            high = [min(h, p) for h, p in zip(high, pixel, strict=True)]
        return cut(item, [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)], self.size)


def _histogram(target: Tensor) -> Any:
    return np.bincount(target.flatten().numpy(), minlength=VOID + 1)


def _classes(pixels: Any, asked: Iterable[int] | None) -> list[int]:
    there = [label for label in np.flatnonzero(pixels).tolist() if label != VOID]
    if not there:
        raise ValueError("dataset: expected labelled pixels, got void ones only")
    classes = there if asked is None else list(asked)
    missing = [label for label in classes if label not in there]
    if missing or not classes:
        raise ValueError(f"classes: expected labels that occur, out of {there}, got {missing or classes}")
    return classes
