"""Street scenes of Cityscapes, in the folders it comes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowcut.vision.data.cityscapes_facts import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_IDS,
    COUNTED,
    PER_ID,
    TRAIN_CITIES,
    UNSEEN,
    VAL_CITIES,
)
from flowcut.vision.data.cityscapes_files import find_frames
from flowcut.vision.data.folder import Item, PairedFolder
from flowcut.vision.data.lists import SPLITS
from flowcut.vision.decode import decode
from flowcut.vision.pictures import VOID, PictureError, read_mask
from flowcut.vision.resize import Size, check_size, resize_mask

__all__ = ["Cityscapes"]


class Cityscapes(PairedFolder):
    """Cityscapes (Cordts et al., 2016), split as in the SoftCut thesis.

    The data are not part of flowcut. ``root`` holds the two packages as they are unpacked:
    ``leftImg8bit/{train,val}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png`` and
    ``gtFine/{train,val}/CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png``, with ``..._instanceIds.png`` beside
    it. The original test set has no public labels and is not read.

    The thesis splits the original training set into training and validation and tests on the original
    validation set. It does not say where it splits; here whole cities are kept back, so that no street is
    in both: 218 of the 2975 frames, about the thesis' share of tiles.

    Parameters
    ----------
    root
        The folder of the data.
    split
        "train" or "val", which share the original training set, or "test", the original validation set.
    size
        (height, width) or one number for a square; None keeps the pictures' own 1024x2048 pixels.
    classes
        Names out of :data:`CITYSCAPES_IDS` that become labels 1, 2, ... in this order, all else the
        background 0 but for the first four names (unlabelled, or not part of the scene), which are void,
        255. None: the 19 classes of the benchmark, :data:`CITYSCAPES_CLASSES`, from 0, all else void.
    instances
        Items have a key ``instance`` too, see :meth:`instances`, resized within each label.
    val_cities
        Cities of the original training set that make the validation set.
    reveal
        Share of the labelled pixels that the target keeps, in (0, 1].
    seed
        Of the revealed pixels.
    cache
        Keep every item in memory once it is read; a frame of full size takes 42 MB.

    Attributes
    ----------
    names : tuple of str
        Of the labels.
    missing : dict
        Frames that the complete data have and ``root`` has not, by city; empty where all are there.

    Raises
    ------
    ValueError
        ``split`` or a class is none of those named, no validation city is there, a folder is missing, or
        files are missing or misnamed (one line with the first of them and their number).
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        size: Size | None = None,
        classes: Iterable[str] | None = None,
        instances: bool = False,
        val_cities: Iterable[str] = ("bochum", "zurich"),
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        self.split, self.with_instances = split, instances
        self.names, self._table = _labels_of(classes)
        folder, kept = "val" if split == "test" else "train", set(val_cities)

        def mine(city: str) -> bool:
            return split == "test" or (city in kept) == (split == "val")

        self._frames = find_frames(root, folder, mine, instances)
        if not self._frames:
            found = sorted(path.name for path in (Path(root) / "leftImg8bit" / folder).iterdir())
            wanted = "" if split == "test" else f" of {split} with val_cities {sorted(kept)}"
            raise ValueError(
                f"root: expected a frame{wanted} in leftImg8bit/{folder}, got the cities {found}"
            )
        official = {"train": TRAIN_CITIES, "val": VAL_CITIES}[folder]
        there = Counter(name.rsplit("_", 2)[0] for name in self._frames)
        lacking = {city: count - there[city] for city, count in official.items() if mine(city)}
        self.missing = {city: count for city, count in lacking.items() if count > 0}
        super().__init__(
            root, root, size=size, classes=len(self.names), reveal=reveal, seed=seed, cache=cache
        )

    def _pairs(
        self, images: str | Path, masks: str | Path, ids: Iterable[str] | None
    ) -> dict[str, tuple[Path, Path]]:
        return {name: (frame.image, frame.labels) for name, frame in self._frames.items()}

    def labels(self, index: int) -> Tensor:
        """The chosen classes."""
        return self._table[read_mask(self.files[index][1], len(CITYSCAPES_IDS))]

    def instances(self, index: int) -> Tensor:
        """Which pixels belong to which object, in the frame's own size.

        Returns
        -------
        Tensor
            (H, W) int64: > 0, one number for each object (1000 times its id and a number more); -1 in
            groups of persons or vehicles that nobody told apart; 0 where objects are not told apart at
            all, such as traffic signs.

        Raises
        ------
        PictureError
            The file is unreadable or holds other values.
        """
        path = self._frames[self.ids[index]].instances
        values = torch.from_numpy(decode(path).values.astype(np.int64))
        ids = torch.where(values < PER_ID, values, values // PER_ID)
        counted = (ids >= COUNTED.start) & (ids < COUNTED.stop)
        single = values >= PER_ID
        # Objects of other ids are there in no release; a value like 20001 is damage.
        bad = (ids < 0) | (ids >= len(CITYSCAPES_IDS)) | (single & ~counted)
        if values.ndim != 2 or bad.any():
            shown = sorted(set(values[bad].tolist()))[:8] if values.ndim == 2 else tuple(values.shape)
            raise PictureError(f"{path}: expected instance ids of Cityscapes, got {shown}")
        return torch.where(single, values, torch.where(counted, -1, 0))

    def _read(self, index: int) -> Item:
        item = super()._read(index)
        if self.with_instances:
            item["instance"] = self._sized_instances(index, item)
        return item

    def _sized_instances(self, index: int, item: Item) -> Tensor:
        instance, target = self.instances(index), item["target"]
        if self.size is None:
            labels = small = target
        else:
            # Once more, for the item's target may show revealed pixels only.
            labels = self.labels(index)
            small = resize_mask(labels, self.size)
        if instance.shape != labels.shape:
            raise PictureError(
                f"{self._frames[self.ids[index]].instances}: expected {tuple(labels.shape)} pixels, got"
                f" {tuple(instance.shape)}"
            )
        return instance if self.size is None else resize_instances(instance, labels, small)


def resize_instances(instance: Tensor, labels: Tensor, small: Tensor) -> Tensor:
    """Resize instances to the size of ``small``, the resized labels.

    By the majority of the area among the pixels of the label that stands there afterwards: where two cars
    together outweigh the road, the pixel is the larger part's car, though the road outweighs each.

    Parameters
    ----------
    instance, labels
        (H, W) int64.
    small
        (height, width) int64, values out of ``labels``.

    Examples
    --------
    >>> instance, labels = torch.tensor([[7, 8, 8, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    >>> resize_instances(instance, labels, torch.tensor([[1]]))
    tensor([[8]])
    """
    size = check_size((small.shape[0], small.shape[1]))
    best, result = torch.full(size, 0.0), torch.zeros(size, dtype=torch.int64)
    for label in torch.unique(small).tolist():
        for value in torch.unique(instance[labels == label]).tolist():
            here = ((labels == label) & (instance == value)).float()[None, None]
            share = F.interpolate(here, size, mode="area")[0, 0] * (small == label)
            result = torch.where(share > best, value, result)
            best = torch.maximum(best, share)
    return result


def _labels_of(classes: Iterable[str] | None) -> tuple[tuple[str, ...], Tensor]:
    """Names of the labels, and the label of each value in a file."""
    table = torch.full((VOID + 1,), VOID)
    if classes is None:
        for label, name in enumerate(CITYSCAPES_CLASSES):
            table[CITYSCAPES_IDS.index(name)] = label
        return CITYSCAPES_CLASSES, table
    chosen, known = tuple(classes), CITYSCAPES_IDS[len(UNSEEN) :]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes: expected different names out of {known}, got {unknown or chosen}")
    table[len(UNSEEN) : len(CITYSCAPES_IDS)] = 0
    for label, name in enumerate(chosen, start=1):
        table[CITYSCAPES_IDS.index(name)] = label
    return ("background", *chosen), table
