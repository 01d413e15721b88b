"""Pieces of pictures, cut at places that are a function of numbers and of no generator's state."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from flowcut.vision.data.folder import Item
from flowcut.vision.resize import Size, check_size


class RandomCrops(Dataset[Item]):
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
        if not isinstance(dataset, Sized):
            raise ValueError(f"dataset: expected one with a length, got {type(dataset).__name__}")
        self.dataset = dataset
        self.size = check_size(size)
        self.count = count
        self._length = len(dataset) * count

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | tuple[int, int]) -> Item:
        """Cut one piece.

        Raises
        ------
        IndexError
            The number of the piece is not in [-len, len).
        ValueError
            The picture is smaller than a piece.
        """
        draw, k = index if isinstance(index, tuple) else (0, index)
        if not -len(self) <= k < len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self) - 1}, got {k}")
        k %= len(self)
        item = self.dataset[k // self.count]
        whole = tuple(item["target"].shape)
        if any(n < m for n, m in zip(whole, self.size, strict=True)):
            raise ValueError(f"crop: expected at most the size {whole} of {item['id']}, got {self.size}")
        rng = np.random.default_rng([draw, k])
        y, x = (int(rng.integers(n - m + 1)) for n, m in zip(whole, self.size, strict=True))
        rows, columns = slice(y, y + self.size[0]), slice(x, x + self.size[1])
        # Copies: a small view would keep the whole picture in every worker's message.
        return Item(
            image=item["image"][:, rows, columns].clone(),
            target=item["target"][rows, columns].clone(),
            id=item["id"],
        )
