"""How often each labeling occurs in a sample, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Codes below this fit into an int64.
_LARGEST_WORD = 2**63


class LabelCounts(NamedTuple):
    """The distinct labelings of a sample, in lexicographic order of their pixels in row-major order.

    Attributes
    ----------
    labels
        (s, *spatial): each labeling once, in the sample's integer type.
    counts
        (s,) int64: how often it occurs, >= 1.
    inverse
        (M,) int64: ``labels[inverse]`` is the sample.
    """

    labels: Tensor
    counts: Tensor
    inverse: Tensor


def count_labelings(labels: Tensor) -> LabelCounts:
    """Count the distinct labelings of a sample.

    Labelings are compared pixel by pixel, packed into 64-bit words without loss: if J^n <= 2^63 a labeling is
    one word and the cost is one sort of M integers. Longer ones are split into words, and each further
    word only refines the order found so far, until all labelings are told apart.

    Parameters
    ----------
    labels
        (M, *spatial), integers >= 0.

    Returns
    -------
    LabelCounts
        In the same order on every device.

    Raises
    ------
    TypeError, ValueError
        It is no integer tensor with a sample axis, or a label is negative.

    Examples
    --------
    >>> found = count_labelings(torch.tensor([[1, 0], [0, 1], [1, 0]]))
    >>> found.labels.tolist(), found.counts.tolist(), found.inverse.tolist()
    ([[0, 1], [1, 0]], [1, 2], [1, 0, 1])
    """
    _check(labels)
    samples = len(labels)
    inverse = torch.zeros(samples, dtype=torch.int64, device=labels.device)
    groups = min(samples, 1)
    for word in _words(labels):
        if groups == samples:
            break
        if groups > 1:
            # The word's rank is below M, so that (order so far, rank) fits into one word again.
            word = inverse * samples + torch.unique(word, return_inverse=True)[1]
        values, inverse = torch.unique(word, return_inverse=True)
        groups = len(values)
    counts = torch.bincount(inverse, minlength=groups)
    first = torch.full((groups,), samples, dtype=torch.int64, device=labels.device)
    first.scatter_reduce_(0, inverse, torch.arange(samples, device=labels.device), "amin")
    return LabelCounts(labels[first], counts, inverse)


def _words(labels: Tensor) -> Iterator[Tensor]:
    """(M,) int64 each: as many pixels as fit, the first pixel the most significant digit."""
    flat = labels.reshape(len(labels), -1) if labels.numel() else labels.new_zeros(len(labels), 0)
    base = max(int(labels.max()) + 1, 2) if labels.numel() else 2
    digits = 1
    while base ** (digits + 1) <= _LARGEST_WORD:
        digits += 1
    for start in range(0, flat.shape[1], digits):
        word = torch.zeros(len(flat), dtype=torch.int64, device=labels.device)
        for column in flat[:, start : start + digits].unbind(dim=1):
            word.mul_(base).add_(column)
        yield word


def check_integers(name: str, value: Tensor) -> None:
    """Refuse what holds no integers; bool counts as 0 and 1.

    Raises
    ------
    TypeError
        ``value`` is no tensor, or a floating or complex one.
    """
    if not isinstance(value, Tensor) or value.dtype.is_floating_point or value.dtype.is_complex:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name}: expected an integer tensor, got {got}")


def _check(labels: Tensor) -> None:
    check_integers("labels", labels)
    if labels.ndim == 0:
        raise ValueError("labels: expected shape (M, *spatial), got ()")
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(f"labels: expected integers >= 0, got {int(labels.min())}")
