"""From assignments to labels ("trivial rounding", LAF below (2.3))."""

from __future__ import annotations

import torch
from torch import Tensor


def round_assignment(assignment: Tensor) -> Tensor:
    """The label with the largest assignment at each pixel.

    Parameters
    ----------
    assignment
        (N, J, *spatial): W, V, or logits; J >= 1.

    Returns
    -------
    Tensor
        (N, *spatial) int64; the smallest label where several are equal.

    Examples
    --------
    >>> round_assignment(torch.tensor([[[0.2, 0.9], [0.8, 0.1]]]))
    tensor([[1, 0]])
    """
    # torch.argmax along an axis that is not the last takes ten times as long as this.
    best = assignment[:, 0].clone()
    labels = torch.zeros_like(best, dtype=torch.int64)
    for label in range(1, assignment.shape[1]):
        value = assignment[:, label]
        labels.masked_fill_(value > best, label)
        torch.maximum(best, value, out=best)
    return labels
