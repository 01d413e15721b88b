"""Pieces of pictures, cut at places that are a function of numbers and of no generator's state."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from flowcut.vision.data.drawn import DrawnDataset, read_item
from flowcut.vision.data.folder import Item, replaced
from flowcut.vision.resize import Size, check_size


class RandomCrops(DrawnDataset):
    """Pieces of a fixed size from the pictures of a dataset, at other places in every pass.

    Item ``[draw, k]`` is a piece of picture ``k // count``, cut at a place that depends on ``draw`` and
    ``k`` alone, every place being equally likely. Training asks for another ``draw`` in every epoch; as
    no generator's state is involved, a resumed training sees the pieces it would have seen. Item ``[k]``
    is ``[0, k]``.

    Parameters
    ----------
    dataset
        Items ``image``, ``target``, ``id``; it has a length.
    size
        (height, width) of a piece in pixels, or one number for a square, >= 1.
    count
        Pieces from each picture in one pass, >= 1.

    Raises
    ------
    ValueError
        A number is out of its range. Reading an item raises it where the picture is smaller than a piece.

    Examples
    --------
    >>> from flowcut.vision.data.mosaic import TextureMosaic
    >>> crops = RandomCrops(TextureMosaic(length=3, size=32), size=(8, 16), count=4)
    >>> len(crops), crops[7, 11]["image"].shape, crops[7, 11]["id"]
    (12, torch.Size([3, 8, 16]), 'train-0-00002')
    """

    def __init__(self, dataset: Dataset[Any], size: Size, count: int = 1) -> None:
        if count < 1:
            raise ValueError(f"count: expected 1 or more, got {count}")
        length = len(dataset) * count if isinstance(dataset, Sized) else None
        super().__init__(dataset, length)
        self.size = check_size(size)
        self.count = count

    def draw_item(self, draw: int, k: int) -> Item:
        """Cut one piece.

        Raises
        ------
        ValueError
            The picture is smaller than a piece.
        """
        item = read_item(self.dataset, draw, k // self.count)
        rng = np.random.default_rng([draw, k])
        check_fits(item, self.size)
        whole = tuple(item["target"].shape)
        return cut(
            item, (int(rng.integers(n - m + 1)) for n, m in zip(whole, self.size, strict=True)), self.size
        )


def check_fits(item: Item, size: tuple[int, int]) -> None:
    """Refuse a picture that is smaller than what shall be cut from it.

    Raises
    ------
    ValueError
        It is.
    """
    whole = tuple(item["target"].shape)
    if any(n < m for n, m in zip(whole, size, strict=True)):
        raise ValueError(f"crop: expected at most the size {whole} of {item['id']}, got {size}")


def cut(item: Item, corner: Iterable[int], size: tuple[int, int]) -> Item:
    """The piece of this size whose upper left pixel is ``corner``."""
    rows, columns = (slice(first, first + n) for first, n in zip(corner, size, strict=True))
    # Copies: a small view would keep the whole picture in every worker's message.
    image = item["image"][:, rows, columns].clone()
    return replaced(item, image, lambda labels: labels[rows, columns].clone())
