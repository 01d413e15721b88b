"""Datasets whose items change from pass to pass, as a function of numbers and of no generator's state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sized
from typing import Any

from torch.utils.data import Dataset

from flowcut.vision.data.folder import Item

__all__ = ["DrawnDataset", "read_item"]


class DrawnDataset(Dataset[Item]):
    """Items ``[draw, k]`` that depend on ``draw`` and ``k`` alone; item ``[k]`` is ``[0, k]``.

    Training asks for another ``draw`` in every epoch, so that a resumed training sees what it would have
    seen. A subclass writes :meth:`draw_item`; datasets inside it that are drawn too get the same ``draw``.

    Parameters
    ----------
    dataset
        Items ``image``, ``target``, ``id``; it has a length.
    length
        Number of items in a pass; None: as many as the dataset has.

    Raises
    ------
    ValueError
        The dataset has no length.
    """

    def __init__(self, dataset: Dataset[Any], length: int | None = None) -> None:
        if not isinstance(dataset, Sized):
            raise ValueError(f"dataset: expected one with a length, got {type(dataset).__name__}")
        self.dataset = dataset
        self._length = len(dataset) if length is None else length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | tuple[int, int]) -> Item:
        """Make one item.

        Raises
        ------
        IndexError
            The number of the item is not in [-len, len).
        """
        draw, k = index if isinstance(index, tuple) else (0, index)
        if not -len(self) <= k < len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self) - 1}, got {k}")
        return self.draw_item(draw, k % len(self))

    @abstractmethod
    def draw_item(self, draw: int, k: int) -> Item:
        """Item k of a pass, k in [0, len)."""


def read_item(dataset: Dataset[Any], draw: int, k: int) -> Item:
    """Item k of a dataset, of this draw where it is one that is drawn."""
    item: Item = dataset[draw, k] if isinstance(dataset, DrawnDataset) else dataset[k]
    return item
