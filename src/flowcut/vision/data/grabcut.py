"""The GrabCut pictures with two sets of scribbles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from flowcut.vision.data.lists import read_split
from flowcut.vision.pictures import VOID, PictureError, list_pictures, read_image, read_mask
from flowcut.vision.resize import check_size, resize_image, resize_mask

__all__ = ["GrabCut", "ScribbledItem", "resize_seeds"]

# What a pixel of a smaller picture must hold of a stroke to be marked.
_LEAST_SHARE = 0.25


class ScribbledItem(TypedDict):
    """One picture with its truth and someone's scribbles.

    Attributes
    ----------
    image : Tensor
        (3, H, W) float32 in [0, 1].
    target : Tensor
        (H, W) int64: 0 background, 1 foreground, 255 void.
    seeds : Tensor
        (H, W) int64: 0 and 1 where a label is marked, 255 elsewhere.
    id : str
        Its name.
    """

    image: Tensor
    target: Tensor
    seeds: Tensor
    id: str


class GrabCut(Dataset[ScribbledItem]):
    """GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) with scribbles.

    The data are not part of flowcut. ``root`` holds ``images/ID.jpg`` or ``.png``, ``gt/ID.png`` (0, 128 for
    mixed or unknown pixels, which are void here, 255), ``scribbles1/ID.png`` and ``scribbles2/ID.png``
    (0 none, 1 foreground, 2 background) and the lists ``train.txt``, ``val.txt`` and ``test.txt``.

    Parameters
    ----------
    root
        The folder of the data.
    split
        "train", "val" or "test".
    scribbles
        1: the strokes of Gulshan et al. (CVPR 2010); 2: the more detailed ones of Andrade and Carrera (2015).
    longest
        Larger pictures are reduced until their longer side has so many pixels. None: as they are.
    size
        (height, width): every picture is brought to it, whatever its shape; not with ``longest``.

    Raises
    ------
    ValueError
        An argument is none of those named, a list or folder is missing, or a list names a picture that is
        not there. Reading an item raises :class:`flowcut.vision.pictures.PictureError` where its files do not
        fit each other.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "test"] = "train",
        scribbles: Literal[1, 2] = 1,
        longest: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        if scribbles not in (1, 2):
            raise ValueError(f"scribbles: expected 1 or 2, got {scribbles!r}")
        if longest is not None and (longest < 1 or size is not None):
            raise ValueError(f"longest: expected a number >= 1 and no size, got {longest} and {size}")
        root = Path(root)
        self.ids = read_split(root, split, "images/, gt/, scribbles1/, scribbles2/")
        self.split, self.longest = split, longest
        self.size = None if size is None else check_size(size)
        folders = {"images": "images", "gt": "gt", "seeds": f"scribbles{scribbles}"}
        found = {name: list_pictures(root / folder, "root") for name, folder in folders.items()}
        for name, folder in folders.items():
            missing = [i for i in self.ids if i not in found[name]]
            if missing:
                raise ValueError(f"root: expected {folder}/ to hold {missing[0]}, got none in {root}")
        self.files = [tuple(found[name][i] for name in folders) for i in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> ScribbledItem:
        """Read one picture.

        Raises
        ------
        IndexError
            ``index`` is not in [-len, len).
        PictureError
            A file is not what it should be.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self) - 1}, got {index}")
        picture, truth, strokes = self.files[index]
        image, target, seeds = read_image(picture), _truth(truth), _seeds(strokes)
        for path, values in ((truth, target), (strokes, seeds)):
            if values.shape != image.shape[1:]:
                raise PictureError(f"{path}: expected {tuple(image.shape[1:])}, got {tuple(values.shape)}")
        size = self._size(image.shape[1], image.shape[2])
        if size != tuple(image.shape[1:]):
            image, target = resize_image(image, size), resize_mask(target, size)
            seeds = resize_seeds(seeds, size)
        return ScribbledItem(image=image, target=target, seeds=seeds, id=self.ids[index])

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.size is not None:
            return self.size
        if self.longest is None or max(height, width) <= self.longest:
            return height, width
        shrink = self.longest / max(height, width)
        return max(1, round(height * shrink)), max(1, round(width * shrink))


def resize_seeds(seeds: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring scribbles to another size; thin strokes stay, unlike with a majority vote.

    Parameters
    ----------
    seeds
        (H, W) int64, labels, 255 where nothing is marked.
    size
        (height, width).

    Returns
    -------
    Tensor
        (height, width) int64: the label that covers most of a pixel among the marked ones, where it covers a
        quarter of it or more.

    Examples
    --------
    >>> resize_seeds(torch.tensor([[0, 255, 255, 1, 1, 255]]), (1, 2))
    tensor([[0, 1]])
    """
    best, result = torch.full(size, _LEAST_SHARE), torch.full(size, VOID)
    for label in torch.unique(seeds[seeds != VOID]).tolist():
        share = F.interpolate((seeds == label).float()[None, None], size, mode="area")[0, 0]
        result = torch.where(share >= best, label, result)
        best = torch.maximum(best, share)
    return result


def _truth(path: Path) -> Tensor:
    values = read_mask(path, 129)
    strange = sorted(set(torch.unique(values).tolist()) - {0, 128, VOID})
    if strange:
        raise PictureError(f"{path}: expected mask values 0, 128 and 255, got {strange[0]}")
    # In the file 255 is foreground and 128 is what nobody knows.
    return torch.where(values == VOID, 1, torch.where(values == 128, VOID, 0))


def _seeds(path: Path) -> Tensor:
    values = read_mask(path, 3)
    if (values == VOID).any():
        raise PictureError(f"{path}: expected scribbles 0, 1 and 2, got 255")
    return torch.tensor([VOID, 1, 0])[values]
