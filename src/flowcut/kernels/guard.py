"""A check of values that survives compilation: its result is needed, so it cannot be left out."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import distinct
from flowcut.kernels.operation import fold_batches, operation


def _reference(value: Tensor, low: float, high: float, expected: str) -> Tensor:
    if value.numel():
        least, most = torch.aminmax(distinct(value))
        if not (bool(least >= low) and bool(most <= high)):  # NaN fails both
            index = tuple(int(i) for i in (~((value >= low) & (value <= high))).nonzero()[0])
            raise ValueError(f"{expected}, got {float(value[index]):.6g} at index {index}")
    return value.new_zeros(value.shape[0])


def _fake(value: Tensor, low: float, high: float, expected: str) -> Tensor:
    return value.new_empty(value.shape[0])


guard_range = operation("guard_range", _reference, _fake)
fold_batches(guard_range, tensors=1)


def guarded(
    value: Tensor,
    expected: str,
    low: float | None = None,
    high: float | None = None,
    of: Tensor | None = None,
) -> Tensor:
    """``value``, after every entry has been seen to lie between two numbers; derivatives pass through.

    Parameters
    ----------
    value
        (N, ...).
    expected
        How the error begins: "name: expected ...".
    low, high
        Bounds, included. Default: what is finite.
    of
        (N, ...): the tensor to look at, if it is not ``value`` itself (sums of it, for example).

    Raises
    ------
    ValueError
        An entry lies outside, or is NaN.
    """
    seen = (value if of is None else of).detach()
    largest = torch.finfo(seen.dtype).max
    low, high = -largest if low is None else low, largest if high is None else high
    zero: Tensor = guard_range(seen, low, high, expected)
    # Adding zero makes the check a part of the value.
    return value + zero.to(value.dtype).reshape(-1, *(1,) * (value.ndim - 1))
