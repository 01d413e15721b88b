"""The hippocampus in magnetic resonance volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flowcut.vision.data.lists import read_split
from flowcut.vision.pictures import VOID, PictureError
from flowcut.vision.volumes import Volume, fit_volume, read_volume

__all__ = ["Hippocampus"]


class Hippocampus(Dataset[dict[str, Any]]):
    """Task 4 of the Medical Segmentation Decathlon: 0 background, 1 anterior, 2 posterior hippocampus.

    Simpson et al., arXiv 1902.09063; Antonelli et al., Nature Communications 13, 2022; CC BY-SA 4.0. The
    volumes are not part of flowcut. ``root`` holds ``images/ID.nii.gz``, ``labels/ID.nii.gz`` and the lists
    ``train.txt``, ``val.txt`` and ``test.txt``, one ID a line. An item is a dict of ``image``
    (1, D, H, W) float32 of mean 0 and standard deviation 1 (scanners' units differ), ``target`` (D, H, W)
    int64, and ``id``.

    Parameters
    ----------
    root
        The folder of the data.
    split
        "train", "val" or "test".
    size
        (depth, height, width) that every volume is cut or continued to around its middle, so that they
        fit into one batch; the target is 255 outside. None keeps each volume's own size.
    cache
        Keep every item in memory once it is read.

    Raises
    ------
    ValueError
        ``split`` is none of the three, ``size`` no three numbers >= 1, a list is missing, or it names a
        volume that is not there. Reading an item raises :class:`flowcut.vision.pictures.PictureError`
        where its files are damaged or do not fit each other.
    """

    num_classes = 3

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        size: tuple[int, int, int] | None = None,
        cache: bool = False,
    ) -> None:
        if size is not None and (len(size) != 3 or min(size) < 1):
            raise ValueError(f"size: expected null or three numbers >= 1, got {size}")
        self.ids = read_split(root, split, "images/, labels/")
        self.root, self.split, self.size = Path(root), split, size
        for folder in ("images", "labels"):
            missing = [name for name in self.ids if not self._file(folder, name).is_file()]
            if missing:
                raise ValueError(f"root: expected {self._file(folder, missing[0])}, found no such file")
        self._kept: dict[int, dict[str, Any]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One volume and its labels, see above."""
        index = range(len(self))[index]
        if self._kept is not None and index in self._kept:
            return dict(self._kept[index])
        volume, target = self.volume(index), self._target(index)
        if volume.values.shape != target.shape:
            raise PictureError(
                f"{self._file('labels', self.ids[index])}: expected {tuple(volume.values.shape)} voxels, "
                f"got {tuple(target.shape)}"
            )
        image = _normalised(volume.values)
        if self.size is not None:
            image = fit_volume(image, self.size, fill=None)
            target = fit_volume(target, self.size, fill=VOID)
        item = {"image": image[None], "target": target, "id": self.ids[index]}
        if self._kept is not None:
            self._kept[index] = item
        return dict(item)

    def volume(self, index: int) -> Volume:
        """The volume as it is in its file, with the affine map that a written labeling needs."""
        return read_volume(self._file("images", self.ids[index]))

    def _target(self, index: int) -> Tensor:
        path = self._file("labels", self.ids[index])
        target = read_volume(path, labels=True).values
        if target.numel() and int(target.max()) >= self.num_classes:
            raise PictureError(
                f"{path}: expected labels 0 to {self.num_classes - 1}, got {int(target.max())}"
            )
        return target

    def _file(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{name}.nii.gz"


def _normalised(values: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(values.double(), correction=0)
    # A volume of one value has nothing to be scaled.
    return ((values - mean) / (deviation if deviation > 0 else 1)).float()
