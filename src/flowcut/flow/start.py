"""Where a flow starts: assignments on the simplex, or logits."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.kernels.guard import guarded
from flowcut.kernels.likelihood import SLACK


def logits_of(initial: Tensor, dtype: torch.dtype, name: str = "initial") -> Tensor:
    """Log of assignments on the simplex, zeros read as the smallest normal number of ``dtype``.

    Parameters
    ----------
    initial
        (N, J, *spatial).
    dtype
        Type to compute in.
    name
        What errors call it.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        A negative entry, NaN, or a pixel whose entries do not sum to one.

    Examples
    --------
    >>> logits_of(torch.tensor([[[0.5], [0.5]]]), torch.float32).exp().flatten().tolist()
    [0.5, 0.5]
    """
    check_floating(name, initial)
    slack, values = SLACK[initial.dtype], initial.to(dtype)
    values = guarded(values, f"{name}: expected numbers >= 0", low=0)
    sums = f"{name}: expected numbers that sum to 1 over the labels of each pixel"
    values = guarded(values, sums, low=1 - slack, high=1 + slack, of=values.sum(dim=1))
    return values.clamp_min(torch.finfo(dtype).tiny).log()


def checked_logits(logits: Tensor, dtype: torch.dtype, name: str = "initial_logits") -> Tensor:
    """Finite logits in the type to compute in.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        NaN or infinity.
    """
    check_floating(name, logits)
    return guarded(logits.to(dtype), f"{name}: expected finite values")


def fit_start(logits: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """Expand (1 or N, J, *spatial) to ``shape``.

    Raises
    ------
    ValueError
        It does not fit.
    """
    got = tuple(logits.shape)
    if len(got) != len(shape) or got[1:] != shape[1:] or got[0] not in (1, shape[0]):
        raise ValueError(f"{name}: expected shape {shape} or one item of it, got {got}")
    return logits.expand(shape)
