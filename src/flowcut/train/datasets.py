"""From a recipe's words to training, validation and test sets."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from flowcut.train.recipe import DataRecipe
from flowcut.vision.data import (
    CAMVID_CLASSES,
    CITYSCAPES_CLASSES,
    Augmented,
    BalancedTiles,
    Camvid,
    Cityscapes,
    ClickedObjects,
    DriveVessels,
    Isbi2012,
    PairedFolder,
    RandomCrops,
    TextureMosaic,
    WeizmannHorses,
    check_present,
)
from flowcut.vision.pictures import list_pictures

__all__ = ["FOLDERS", "Splits", "build_datasets", "split_names"]

Data = Dataset[Any]

# Data sets of a kind of their own: the folder's name where many lie side by side, as under FLOWCUT_DATA.
FOLDERS = {
    "weizmann_horses": "horses",
    "drive": "vessels",
    "isbi2012": "isbi2012",
    "camvid": "camvid",
    "cityscapes": "cityscapes",
}
_NAMED: dict[str, Any] = {
    "weizmann_horses": WeizmannHorses,
    "drive": DriveVessels,
    "isbi2012": Isbi2012,
    "camvid": Camvid,
    "cityscapes": Cityscapes,
}
# Data sets of which a recipe may choose classes.
_CHOSEN = {"camvid": CAMVID_CLASSES, "cityscapes": CITYSCAPES_CLASSES}


class Splits(NamedTuple):
    """Three datasets of items ``image`` (3, H, W), or (4, H, W) with a click, ``target`` (H, W) and ``id``.

    Attributes
    ----------
    train : Dataset
        Its targets are void (255) where the recipe does not reveal them. With pieces, changes or clicks
        it is a :class:`flowcut.vision.data.DrawnDataset`.
    val, test : Dataset
        Always with all labels.
    """

    train: Data
    val: Data
    test: Data


def split_names(names: list[str], shares: tuple[float, ...], seed: int) -> list[list[str]]:
    """Split names at random: one part for each share, and the rest first.

    Each share gets at least one name.

    Parameters
    ----------
    names : list of str
        What to split; their order does not matter.
    shares : tuple of float
        Shares in (0, 1).
    seed : int
        The same seed and names give the same split on every machine.

    Returns
    -------
    list of list of str
        The rest and one part a share, each sorted.

    Raises
    ------
    ValueError
        If there are too few names for every part to have one.

    Examples
    --------
    >>> [len(part) for part in split_names([str(i) for i in range(10)], (0.2, 0.1), 0)]
    [7, 2, 1]
    """
    # Rounded down, so that shares that leave a rest leave at least one; 0.29 * 100 counts as 29.
    counts = [max(1, math.floor(share * len(names) + 1e-9)) for share in shares]
    if sum(counts) >= len(names):
        raise ValueError(
            f"dataset.images: expected at least {len(shares) + 1} pictures to split into"
            f" {len(shares) + 1} parts, got {len(names)}"
        )
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [sorted(names)[i] for i in order]
    parts, taken = [], 0
    for count in counts:
        parts.append(sorted(shuffled[taken : taken + count]))
        taken += count
    return [sorted(shuffled[taken:]), *parts]


def build_datasets(recipe: DataRecipe) -> Splits:
    """Make the three datasets of a recipe.

    Parameters
    ----------
    recipe : DataRecipe

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        If folders are missing in the recipe or on disk, or do not fit each other.
    """
    if recipe.kind == "texture_mosaic":
        splits = _mosaics(recipe)
    else:
        splits = _named(recipe) if recipe.kind in _NAMED else _folders(recipe)
    train = _changed(_pieces(splits.train, recipe, recipe.crops), recipe)
    tests = [_pieces(split, recipe, recipe.crop_tests) for split in (splits.val, splits.test)]
    if recipe.click:
        least = recipe.click_pixels
        tests = [ClickedObjects(split, enumerate_all=True, min_pixels=least) for split in tests]
        train = ClickedObjects(train, min_pixels=least)
    return Splits(train, *tests)


def _pieces(pictures: Data, recipe: DataRecipe, count: int) -> Data:
    if recipe.crop is None or count == 0:
        return pictures
    if recipe.balance is None:
        return RandomCrops(pictures, recipe.crop, count)
    return BalancedTiles(pictures, recipe.crop, count, recipe.balance_classes, recipe.balance)


def _changed(train: Data, recipe: DataRecipe) -> Data:
    if not recipe.augments:
        return train
    return Augmented(
        train,
        flip=recipe.flip,
        flip_vertical=recipe.flip_vertical,
        quarter_turns=recipe.quarter_turns,
        scale=recipe.scale,
        # Batches want one size, whatever turning and enlarging do.
        size=recipe.crop or recipe.size,
        brightness=recipe.brightness,
        contrast=recipe.contrast,
        saturation=recipe.saturation,
        hue=recipe.hue,
        noise=recipe.picture_noise,
    )


def _mosaics(recipe: DataRecipe) -> Splits:
    if recipe.size is None:
        raise ValueError("dataset.size: expected a height and a width for generated pictures, got null")
    train, val, test = recipe.lengths
    common: dict[str, Any] = {
        "size": recipe.size,
        "seed": recipe.split_seed,
        "num_classes": recipe.num_classes,
        "noise": recipe.noise,
    }
    return Splits(
        _Kept(TextureMosaic(train, split="train", reveal=recipe.reveal, **common)),
        _Kept(TextureMosaic(val, split="val", **common)),
        _Kept(TextureMosaic(test, split="test", **common)),
    )


class _Kept(Dataset[Any]):
    """A dataset made once and kept in memory: drawing a mosaic costs as much as a training step."""

    def __init__(self, dataset: TextureMosaic) -> None:
        self._items = [dataset[i] for i in range(len(dataset))]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # A new mapping, for the kept one not to change in a caller's hands.
        return dict(self._items[index])


def _named(recipe: DataRecipe) -> Splits:
    root = recipe.root
    if root is None:
        if "FLOWCUT_DATA" not in os.environ:
            raise ValueError(
                f"dataset.root: expected the folder of {recipe.kind} (--data DIR), got neither it nor the"
                " environment variable FLOWCUT_DATA"
            )
        root = str(Path(os.environ["FLOWCUT_DATA"]) / FOLDERS[recipe.kind])
    more: dict[str, Any] = {}
    labels = 2
    if recipe.kind in _CHOSEN:
        more = {"classes": recipe.classes}
        labels = len(_CHOSEN[recipe.kind]) if recipe.classes is None else len(recipe.classes) + 1
    if recipe.num_classes != labels:
        raise ValueError(
            f"dataset.num_classes: expected {labels} for {recipe.kind}, got {recipe.num_classes}"
        )
    # Crops come back to every picture many times an epoch, and these data sets fit in memory, but for
    # Cityscapes: 125 GB in its own size.
    cache = recipe.kind != "cityscapes" and (recipe.size is not None or recipe.crop is not None)
    if recipe.kind == "cityscapes" and recipe.click:
        more["instances"] = True
    make = _NAMED[recipe.kind]
    common: dict[str, Any] = {"size": recipe.size, "cache": cache} | more
    train = make(root, "train", reveal=recipe.reveal, seed=recipe.split_seed, **common)
    if recipe.classes is not None:
        check_present(make(root, "train", **common), train.names)
    return Splits(
        train,
        make(root, "val", **common),
        make(root, "test", **common),
    )


def _given(folder: str | None, name: str) -> str:
    if folder is None:
        raise ValueError(f"dataset.{name}: expected a folder (--dataset.{name} DIR), got nothing")
    return folder


def _folders(recipe: DataRecipe) -> Splits:
    images, masks = _given(recipe.images, "images"), _given(recipe.masks, "masks")
    own: dict[str, tuple[str, str]] = {}
    for split in ("val", "test"):
        folders = {name: getattr(recipe, name) for name in (f"{split}_images", f"{split}_masks")}
        if any(folders.values()):
            own[split] = (
                _given(folders[f"{split}_images"], f"{split}_images"),
                _given(folders[f"{split}_masks"], f"{split}_masks"),
            )
    shares = {"val": recipe.val_share, "test": recipe.test_share}
    drawn = [split for split in shares if split not in own]
    names = list(list_pictures(images, "images"))
    parts = split_names(names, tuple(shares[split] for split in drawn), recipe.split_seed)
    ids = dict(zip(["train", *drawn], parts, strict=True))
    common: dict[str, Any] = {
        "size": recipe.size,
        "classes": recipe.num_classes,
        # Resized pictures are small; decoding photographs again every epoch would cost more than training.
        "cache": recipe.size is not None,
    }
    sets = {
        split: PairedFolder(*own.get(split, (images, masks)), ids=ids.get(split), **common)
        for split in ("val", "test")
    }
    train = PairedFolder(
        images, masks, ids=ids["train"], reveal=recipe.reveal, seed=recipe.split_seed, **common
    )
    return Splits(train, sets["val"], sets["test"])
