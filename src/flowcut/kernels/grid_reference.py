"""Plain-PyTorch reference of the products with a grid's Laplacian."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from flowcut.core.neighborhood import source_slices, target_slices
from flowcut.kernels.layout import common_type, offsets_from_flat


def product_reference(edges: Tensor, leak: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """Plain-PyTorch ``grid_product``."""
    spatial, dtype, result = x.shape[2:], common_type(edges, leak, x), x.dtype
    edges, leak, x = edges.to(dtype), leak.to(dtype), x.to(dtype)
    out = (leak * x).contiguous()
    for k, offset in enumerate(offsets_from_flat(offsets, len(spatial))):
        here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
        there: tuple[Any, ...] = (..., *target_slices(offset, spatial))
        flow = edges[:, :, k][here] * (x[here] - x[there])
        out[here] += flow
        out[there] -= flow
    return out.to(result)


def edge_gradient_reference(u: Tensor, v: Tensor, offsets: list[int], groups: int) -> Tensor:
    """Plain-PyTorch ``grid_edge_gradient``; ``groups`` is G."""
    spatial, dtype, result = u.shape[2:], common_type(u, v), u.dtype
    u, v = u.to(dtype), v.to(dtype)
    table = offsets_from_flat(offsets, len(spatial))
    out = u.new_zeros((u.shape[0], groups, len(table), *spatial))
    for k, offset in enumerate(table):
        here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
        there: tuple[Any, ...] = (..., *target_slices(offset, spatial))
        value = (u[here] - u[there]) * (v[here] - v[there])
        out[:, :, k][here] = value.sum(dim=1, keepdim=True) if groups == 1 else value
    return out.to(result)
