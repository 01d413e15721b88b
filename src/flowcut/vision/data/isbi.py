"""Cell membranes in electron microscopy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from flowcut.vision.data.folder import PairedFolder
from flowcut.vision.data.lists import read_split
from flowcut.vision.resize import Size


class Isbi2012(PairedFolder):
    """The training stack of the ISBI 2012 challenge: 0 cell, 1 membrane.

    Membranes are what has to be found (Cardona et al., PLoS Biology 2010; Arganda-Carreras et al., 2015),
    so they are label 1, though the files mark cells by 255 and membranes by 0. Slices of one stack, grey
    (three equal channels). The data are not part of flowcut. ``root`` holds ``images/NN.png``,
    ``labels/NN.png`` and the lists ``train.txt``, ``val.txt`` and ``test.txt``, one NN a line.

    Parameters
    ----------
    root
        The folder of the data.
    split
        "train", "val" or "test": contiguous parts of the stack.
    size
        (height, width) or one number for a square; None keeps the slices' own 512x512 pixels.
    reveal
        Share of the pixels that the target keeps, in (0, 1].
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
        size: Size | None = None,
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        ids = read_split(root, split, "images/, labels/")
        root = Path(root)
        super().__init__(
            root / "images", root / "labels", size=size, ids=ids, reveal=reveal, seed=seed, cache=cache
        )
        self.split = split

    def labels(self, index: int) -> Tensor:
        """Membranes."""
        return 1 - super().labels(index)
