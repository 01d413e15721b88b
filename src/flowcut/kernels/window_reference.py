"""Plain-PyTorch reference of the window products."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from flowcut.core.neighborhood import source_slices, target_slices
from flowcut.kernels.layout import common_type, offsets_from_flat


def product_reference(weights: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """Plain-PyTorch ``window_product``."""
    spatial, result = x.shape[2:], x.dtype
    weights, x = _in_common_type(weights, x)
    out = x.new_zeros(x.shape)
    for k, offset in enumerate(offsets_from_flat(offsets, len(spatial))):
        here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
        there: tuple[Any, ...] = (..., *target_slices(offset, spatial))
        out[here] += weights[:, k, None][here] * x[there]
    return out.to(result)


def transpose_reference(weights: Tensor, u: Tensor, offsets: list[int]) -> Tensor:
    """Plain-PyTorch ``window_product_transpose``."""
    spatial, result = u.shape[2:], u.dtype
    weights, u = _in_common_type(weights, u)
    out = u.new_zeros(u.shape)
    for k, offset in enumerate(offsets_from_flat(offsets, len(spatial))):
        here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
        there: tuple[Any, ...] = (..., *target_slices(offset, spatial))
        out[there] += weights[:, k, None][here] * u[here]
    return out.to(result)


def gradient_reference(u: Tensor, v: Tensor, offsets: list[int]) -> Tensor:
    """Plain-PyTorch ``window_weight_gradient``."""
    spatial, result = u.shape[2:], u.dtype
    u, v = _in_common_type(u, v)
    table = offsets_from_flat(offsets, len(spatial))
    out = u.new_zeros((u.shape[0], len(table), *spatial))
    for k, offset in enumerate(table):
        here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
        there: tuple[Any, ...] = (..., *target_slices(offset, spatial))
        out[:, k][here] = (u[here] * v[there]).sum(dim=1)
    return out.to(result)


def _in_common_type(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    dtype = common_type(first, second)
    return first.to(dtype), second.to(dtype)
