"""Ties between pixels, read and checked once."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import check_ties
from flowcut.kernels.max_flow_guard import guard_ties


def find_neighborhood(
    name: str, pixels: Tensor, edges: Tensor, given: Neighborhood | Graph | None
) -> Neighborhood | Graph:
    """What ties the pixels (N, C, *spatial): what was given, else what the edges' channels stand for.

    Raises
    ------
    TypeError, ValueError
        It fits neither.
    """
    check_floating(name, pixels)
    check_floating("edges", edges)
    if pixels.ndim < 3:
        raise ValueError(f"{name}: expected shape (N, C, *spatial), got {tuple(pixels.shape)}")
    axes = pixels.ndim - 2
    if given is None:
        return Neighborhood.infer(axes, edges.shape[-axes - 1] if edges.ndim > axes else 0)
    check_ties(name, pixels, given)
    return given


def read_ties(
    name: str, value: Tensor, pixels: Tensor, where: Neighborhood | Graph, signed: bool = False
) -> tuple[Tensor, Tensor]:
    """(N or 1, K, *spatial) or (N or 1, E) float64, checked inside the picture, and (N or 1,) zeros.

    Parameters
    ----------
    name
        For messages.
    value
        The same, or with an axis of length 1 after the first.
    pixels
        (N, C, *spatial).
    where
        What ties them.
    signed
        Whether negative values are allowed.

    Returns
    -------
    Tensor, Tensor
        Ties; and zeros that come from the check. Who uses the ties adds them somewhere, so that no compiler
        leaves the check out.

    Raises
    ------
    TypeError, ValueError
        It is no such tensor, or a value is NaN, infinite or of the wrong sign.
    """
    check_floating(name, value)
    items, spatial = pixels.shape[0], tuple(pixels.shape[2:])
    grid = isinstance(where, Neighborhood)
    shape = (len(where), *spatial) if grid else (len(where),)
    given = value.squeeze(1) if value.ndim == len(shape) + 2 and value.shape[1] == 1 else value
    if tuple(given.shape[1:]) != shape or value.ndim == 0 or given.shape[0] not in (1, items):
        raise ValueError(
            f"{name}: expected shape ({items}, {', '.join(map(str, shape))}), got {tuple(value.shape)}"
        )
    given = given.detach().to(torch.float64)
    offsets = [o for offset in where.offsets for o in offset] if isinstance(where, Neighborhood) else []
    low, sign = (-torch.finfo(torch.float64).max, "") if signed else (0.0, " >= 0")
    return given, guard_ties(given, low, f"{name}: expected finite values{sign} inside the picture", offsets)


def add_zeros(value: Tensor, zeros: Tensor) -> Tensor:
    """``value`` (N, ...) after checks that returned zeros (N or 1,)."""
    return value + zeros.reshape(-1, *(1,) * (value.ndim - 1))
