"""The Weizmann horse database."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flowcut.vision.data.folder import PairedFolder
from flowcut.vision.data.lists import read_split
from flowcut.vision.resize import Size


class WeizmannHorses(PairedFolder):
    """Horses and their silhouettes (Borenstein and Ullman, ECCV 2002): 0 background, 1 horse.

    The database is not part of flowcut. ``root`` holds ``images/ID.jpg``, ``masks/ID.png``
    (0 and 255, of the size of the image) and the lists ``train.txt``, ``val.txt`` and
    ``test.txt``, one ID a line.

    Parameters
    ----------
    root
        The folder of the database.
    split
        "train", "val" or "test".
    size
        (height, width) or one number for a square; None keeps each picture's own size,
        and then only batches of one picture are possible.
    reveal
        Share of the pixels that the target keeps, in (0, 1]; the SoftCut thesis
        (Experiment 1) reveals 0.001.
    seed
        Of the revealed pixels.
    cache
        Keep every item in memory once it is read.

    Raises
    ------
    ValueError
        ``split`` is none of the three, a list or a folder is missing, or a list names a
        picture that is not there.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        size: Size | None = 128,
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        ids = read_split(root, split, "images/, masks/")
        root = Path(root)
        super().__init__(
            root / "images", root / "masks", size=size, ids=ids, reveal=reveal, seed=seed, cache=cache
        )
        self.split = split
