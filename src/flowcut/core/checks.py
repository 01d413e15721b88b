"""Argument checks: one line that names the argument and what it got."""

from __future__ import annotations

import torch
from torch import Tensor


def check_floating(name: str, value: Tensor) -> None:
    """Refuse integer, bool and complex tensors.

    Raises
    ------
    TypeError
        ``value`` is not a real floating-point tensor.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating-point tensor, got {value.dtype}")


def distinct(value: Tensor) -> Tensor:
    """The entries of an expanded tensor, each once."""
    for axis, stride in enumerate(value.stride()):
        if stride == 0 and value.shape[axis] > 1:
            value = value.narrow(axis, 0, 1)
    return value


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    ValueError
        ``value`` holds one.
    """
    # aminmax passes NaN on and is an order of magnitude cheaper than isfinite().all().
    if value.numel() and not all(torch.isfinite(v) for v in torch.aminmax(value.detach())):
        raise ValueError(f"{name}: expected finite values, got {_first_bad(value, ~torch.isfinite(value))}")


def check_edge_values(edges: Tensor, inside: Tensor) -> None:
    """Refuse NaN, infinite and negative ties between two pixels of the picture.

    Parameters
    ----------
    edges
        (N, G, K, *spatial).
    inside
        (K, *spatial) bool: where a tie's neighbour lies inside the picture.

    Raises
    ------
    ValueError
        One of them is bad.
    """
    bad = ~(torch.isfinite(edges) & (edges >= 0)) & inside
    if bool(bad.any()):
        raise ValueError(
            f"edges: expected finite values >= 0 inside the picture, got {_first_bad(edges, bad)}"
        )


def check_leak_values(name: str, leak: Tensor) -> bool:
    """Refuse NaN, infinite and negative values; tell whether one of them is zero.

    Raises
    ------
    ValueError
        One of them is bad.
    """
    if not leak.numel():
        return False
    low, high = torch.aminmax(distinct(leak.detach()))
    if not (bool(torch.isfinite(high)) and bool(low >= 0)):
        bad = ~(torch.isfinite(leak) & (leak >= 0))
        raise ValueError(f"{name}: expected values >= 0, not NaN, got {_first_bad(leak, bad)}")
    return bool(low == 0)


def _first_bad(value: Tensor, bad: Tensor) -> str:
    index = tuple(int(i) for i in bad.nonzero()[0])
    return f"{float(value[index])} at index {index}"
