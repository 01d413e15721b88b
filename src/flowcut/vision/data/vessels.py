"""Vessels of the retina."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from flowcut.vision.data.folder import PairedFolder
from flowcut.vision.data.lists import read_split
from flowcut.vision.pictures import VOID, PictureError, list_pictures, read_mask
from flowcut.vision.resize import Size


class DriveVessels(PairedFolder):
    """DRIVE (Staal et al., IEEE TMI 2004): 0 background, 1 vessel, 255 outside the camera's field of view.

    Void pixels count for no loss and no metric, so results are those inside the field of view. The
    database is not part of flowcut. ``root`` holds ``DRIVE/images/NN.png``, ``DRIVE/manual1/NN.png`` and
    ``DRIVE/fov/NN.png`` (0 and 255, of the size of the image) and the lists ``DRIVE_train.txt``,
    ``DRIVE_val.txt`` and ``DRIVE_test.txt``, one NN a line.

    Parameters
    ----------
    root
        The folder that holds ``DRIVE/``.
    split
        "train", "val" or "test".
    size
        (height, width) or one number for a square; None keeps the pictures' own 584x565 pixels. Many
        vessels are one to three pixels wide and get lost where pictures shrink.
    observer
        1, or 2 for the second human's masks ``DRIVE/manual2``, which there are of test pictures only.
    reveal
        Share of the pixels inside the field of view that the target keeps, in (0, 1].
    seed
        Of the revealed pixels.
    cache
        Keep every item in memory once it is read.

    Raises
    ------
    ValueError
        ``split`` or ``observer`` is none of those named, a list or a folder is missing, or a list
        names a picture that is not there. Reading an item raises
        :class:`flowcut.vision.pictures.PictureError` where its files do not fit each other.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        size: Size | None = None,
        observer: Literal[1, 2] = 1,
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        if observer not in (1, 2):
            raise ValueError(f"observer: expected 1 or 2, got {observer}")
        ids = read_split(root, split, "DRIVE/", "DRIVE_")
        folder = Path(root) / "DRIVE"
        masks = folder / f"manual{observer}"
        super().__init__(folder / "images", masks, size=size, ids=ids, reveal=reveal, seed=seed, cache=cache)
        found = list_pictures(folder / "fov", "root")
        missing = [name for name in ids if name not in found]
        if missing:
            raise ValueError(f"root: expected a field of view for {missing[0]}, got none in {folder / 'fov'}")
        self.fields_of_view = [found[name] for name in ids]
        self.split = split

    def labels(self, index: int) -> Tensor:
        """Vessels, and 255 outside the field of view."""
        target, path = super().labels(index), self.fields_of_view[index]
        seen = read_mask(path)
        if seen.shape != target.shape:
            raise PictureError(f"{path}: expected {tuple(target.shape)} pixels, got {tuple(seen.shape)}")
        return target.masked_fill(seen == 0, VOID)
