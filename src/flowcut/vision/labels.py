"""From logits to labels, the one place where a soft labeling becomes a hard one."""

from __future__ import annotations

import torch
from torch import Tensor


def predict_labels(logits: Tensor) -> Tensor:
    """The most likely label of every pixel.

    One channel is read by a sigmoid, whose value exceeds 1/2 exactly where the logit is
    positive; several channels are read by a softmax, whose largest entry is that of the
    largest logit (on a tie the smaller label).

    Parameters
    ----------
    logits
        (N, C, *spatial) floating point, C >= 1, any number of spatial axes.

    Returns
    -------
    Tensor
        (N, *spatial) int64, labels 0 and 1 for one channel, 0 to C - 1 otherwise.

    Raises
    ------
    ValueError
        ``logits`` has no channel axis, no channels, is not floating point, or holds a NaN,
        which has no label.

    Examples
    --------
    >>> predict_labels(torch.tensor([[[-1.0, 0.0, 2.0]]]))
    tensor([[0, 0, 1]])
    >>> predict_labels(torch.tensor([[[0.0, 3.0], [1.0, 2.0]]]))
    tensor([[1, 0]])
    """
    if logits.ndim < 2 or not logits.is_floating_point() or logits.shape[1] == 0:
        raise ValueError(
            "logits: expected floating point (N, C, *spatial) with C >= 1, "
            f"got {logits.dtype} {tuple(logits.shape)}"
        )
    if bool(torch.isnan(logits).any()):
        raise ValueError(f"logits: expected numbers, got {int(torch.isnan(logits).sum())} NaN")
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(dim=1)


def num_labels(channels: int) -> int:
    """How many labels a network with so many logit channels tells apart.

    Examples
    --------
    >>> num_labels(1), num_labels(2), num_labels(5)
    (2, 2, 5)
    """
    return max(channels, 2)
