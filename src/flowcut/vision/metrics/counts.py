"""How many pixels of each class prediction and target have, alone and in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Counts(NamedTuple):
    """Numbers of pixels, each (N, num_classes) float64.

    Attributes
    ----------
    both : Tensor
        |X and Y|: pixels of the class in prediction and target.
    predicted : Tensor
        |X|: pixels of the class in the prediction.
    true : Tensor
        |Y|: pixels of the class in the target.
    """

    both: Tensor
    predicted: Tensor
    true: Tensor

    @property
    def union(self) -> Tensor:
        """|X or Y| = |X| + |Y| - |X and Y|."""
        return self.predicted + self.true - self.both


def count_classes(predictions: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Counts:
    """Count the valid pixels of each image: one pass, however many classes there are.

    Parameters
    ----------
    predictions, target
        (N, *spatial) int64 labels 0 to ``num_classes`` - 1.
    valid
        (N, *spatial) bool; the other pixels are left out.
    num_classes
        C.

    Examples
    --------
    >>> x, y = torch.tensor([[1, 1, 0]]), torch.tensor([[1, 0, 0]])
    >>> count_classes(x, y, torch.ones_like(x, dtype=torch.bool), 2).both.tolist()
    [[1.0, 1.0]]
    """
    images, cells = len(target), num_classes**2 + 1
    # Narrow keys halve the time; the last cell of each image takes its void pixels.
    key = torch.int32 if images * cells < 2**31 else torch.int64
    pair = (target * num_classes + predictions).to(key)
    pair = torch.where(valid, pair, num_classes**2).flatten(1)
    first = torch.arange(images, device=target.device, dtype=key).unsqueeze(1) * cells
    counts = torch.bincount((pair + first).flatten(), minlength=images * cells)
    matrix = counts.reshape(images, cells)[:, :-1].reshape(images, num_classes, num_classes).double()
    return Counts(matrix.diagonal(dim1=1, dim2=2), matrix.sum(dim=1), matrix.sum(dim=2))


def counted_classes(num_classes: int, include_background: bool | None) -> slice:
    """Which classes a score is a mean of: all, or all but label 0.

    Parameters
    ----------
    num_classes
        C.
    include_background
        None: label 0 is left out where there are two labels, and counts where there are more.

    Examples
    --------
    >>> counted_classes(2, None), counted_classes(3, None)
    (slice(1, None, None), slice(0, None, None))
    """
    inside = num_classes > 2 if include_background is None else include_background
    return slice(0 if inside else 1, None)
