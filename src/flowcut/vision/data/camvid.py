"""Street scenes with eleven classes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from flowcut.vision.data.folder import PairedFolder
from flowcut.vision.data.lists import read_split
from flowcut.vision.pictures import VOID, read_mask
from flowcut.vision.resize import Size

__all__ = ["CAMVID_CLASSES", "Camvid"]

CAMVID_CLASSES = ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
                  "Pedestrian", "Bicyclist")  # fmt: skip
_UNLABELLED = len(CAMVID_CLASSES)


class Camvid(PairedFolder):
    """CamVid (Brostow et al., 2008) with the eleven classes of the SegNet edition; unlabelled is void, 255.

    The database is not part of flowcut. ``root`` holds ``images/NAME.png``, ``labels/NAME.png`` (0 to 10,
    11 for unlabelled pixels) and the lists ``train.txt``, ``val.txt`` and ``test.txt``, one NAME a line.
    It has no instances: where objects are clicked on, connected components stand in.

    Parameters
    ----------
    root
        The folder of the database.
    split
        "train", "val" or "test".
    size
        (height, width) or one number for a square; None keeps the pictures' own 360x480 pixels.
    classes
        Names out of :data:`CAMVID_CLASSES` that become labels 1, 2, ... in this order, all others the
        background 0, as the SoftCut thesis does with traffic signs and cars. None: all eleven, from 0.
    reveal
        Share of the labelled pixels that the target keeps, in (0, 1].
    seed
        Of the revealed pixels.
    cache
        Keep every item in memory once it is read.

    Attributes
    ----------
    names : tuple of str
        Of the labels.

    Raises
    ------
    ValueError
        ``split`` or a class is none of those named, a list or a folder is missing, or a list names a
        picture that is not there.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        size: Size | None = None,
        classes: Iterable[str] | None = None,
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        chosen = CAMVID_CLASSES if classes is None else tuple(classes)
        unknown = [name for name in chosen if name not in CAMVID_CLASSES]
        if unknown or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"classes: expected different names out of {CAMVID_CLASSES}, got {chosen}")
        self.names = chosen if classes is None else ("background", *chosen)
        ids = read_split(root, split, "images/, labels/")
        root = Path(root)
        super().__init__(
            root / "images",
            root / "labels",
            size=size,
            ids=ids,
            classes=len(self.names),
            reveal=reveal,
            seed=seed,
            cache=cache,
        )
        self.split = split
        self._table = torch.full((VOID + 1,), 0)
        self._table[[_UNLABELLED, VOID]] = VOID
        for label, name in enumerate(self.names):
            if name in CAMVID_CLASSES:
                self._table[CAMVID_CLASSES.index(name)] = label

    def labels(self, index: int) -> Tensor:
        """The chosen classes."""
        return self._table[read_mask(self.files[index][1], _UNLABELLED + 1)]
