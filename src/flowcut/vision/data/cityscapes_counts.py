"""How many frames and tiles there are of Cityscapes, beside what the SoftCut thesis had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowcut.vision.data.cityscapes import Cityscapes
from flowcut.vision.data.cityscapes_facts import THESIS_SETS, ThesisSet
from flowcut.vision.resize import Size, check_size

__all__ = ["CityscapesCounts", "count_cityscapes"]


@dataclass(frozen=True)
class CityscapesCounts:
    """What :func:`count_cityscapes` found; ``str`` says it in words.

    Attributes
    ----------
    split : str
        "train", "val" or "test".
    frames : int
        That are there.
    missing : dict
        Frames of the complete data that are not there, by city.
    tiles : int
        In the regular grid.
    holding : dict
        Tiles that hold a class, by its name.
    any : int
        Tiles that hold one of them at least.
    thesis : dict
        Samples of this split in the thesis' data sets of the same classes, by their names.
    """

    split: str
    frames: int
    missing: dict[str, int]
    tiles: int
    holding: dict[str, int]
    any: int
    thesis: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every frame of the split is there, so that counts may be compared with the thesis'."""
        return not self.missing

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no tile holds."""
        return tuple(name for name, count in self.holding.items() if not count)

    def __str__(self) -> str:
        lacking = sum(self.missing.values())
        lines = [
            f"{self.split}: {self.frames} of {self.frames + lacking} frames",
            f"{self.any} of {self.tiles} tiles hold " + " or ".join(self.holding),
            *(f"{name} in {count} tiles" for name, count in self.holding.items()),
            *(f"{count} samples in the thesis' data set '{name}'" for name, count in self.thesis.items()),
        ]
        if not self.complete:
            cities = ", ".join(f"{city} {count}" for city, count in self.missing.items())
            lines.append(f"incomplete, so counts say nothing about the thesis': {lacking} missing ({cities})")
        return "; ".join(lines)


def count_cityscapes(dataset: Cityscapes, tile: Size = 256, min_pixels: int = 1) -> CityscapesCounts:
    """Count frames, and tiles of a regular grid that hold the classes; every target is read once.

    The thesis sampled its tiles in a way it does not describe, so that equal numbers are not to be
    expected of complete data either. Its numbers are in :data:`THESIS_SETS`.

    Parameters
    ----------
    dataset
        Made with ``classes``.
    tile
        (height, width), or one number for a square. Rows and columns that no whole tile fits are left out.
    min_pixels
        Of a class that a tile needs to hold it, >= 1.

    Raises
    ------
    ValueError
        The data set has no background (it was made without ``classes``), a number is out of its range, or
        a frame is smaller than a tile.
    """
    if dataset.names[0] != "background":
        raise ValueError("dataset: expected Cityscapes made with classes, got all of them")
    if min_pixels < 1:
        raise ValueError(f"min_pixels: expected 1 or more, got {min_pixels}")
    size, names = check_size(tile), dataset.names[1:]
    tiles, either, held = 0, 0, np.zeros(len(names), dtype=np.int64)
    for index in range(len(dataset)):
        pixels = _pixels(dataset.target(index).numpy(), len(names), size)
        there = pixels >= min_pixels
        tiles += pixels[0].size
        either += int(there.any(axis=0).sum())
        held += there.sum(axis=(1, 2))
    alike = {name: one for name, one in THESIS_SETS.items() if one.classes == names}
    return CityscapesCounts(
        split=dataset.split,
        frames=len(dataset),
        missing=dict(dataset.missing),
        tiles=tiles,
        holding=dict(zip(names, held.tolist(), strict=True)),
        any=either,
        thesis={name: _samples(one, dataset.split) for name, one in alike.items()},
    )


def _pixels(target: NDArray[np.int64], classes: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """(classes, rows, columns): pixels of the labels 1, 2, ... in the tiles of a grid."""
    height, width = size
    rows, columns = target.shape[0] // height, target.shape[1] // width
    if not rows * columns:
        raise ValueError(f"tile: expected at most the size {target.shape} of a frame, got {size}")
    grid = target[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return np.stack([(grid == c).sum(axis=(1, 3)) for c in range(1, classes + 1)])


def _samples(one: ThesisSet, split: str) -> int:
    return {"train": one.train, "val": one.val, "test": one.test}[split]
