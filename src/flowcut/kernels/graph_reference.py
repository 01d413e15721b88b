"""Plain-PyTorch reference of the products on a graph."""

from __future__ import annotations

from torch import Tensor

from flowcut.kernels.layout import common_type


def product_reference(edge_index: Tensor, edges: Tensor, leak: Tensor, x: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_product``."""
    i, j = edge_index
    dtype = common_type(edges, leak, x)
    v = x.to(dtype)
    flow = edges.to(dtype) * (v[..., i] - v[..., j])
    out = (leak.to(dtype) * v).contiguous()
    return out.index_add(-1, i, flow).index_add(-1, j, -flow).to(x.dtype)


def edge_gradient_reference(edge_index: Tensor, u: Tensor, v: Tensor, groups: int) -> Tensor:
    """Plain-PyTorch ``graph_edge_gradient``; ``groups`` is G."""
    i, j = edge_index
    dtype = common_type(u, v)
    a, b = u.to(dtype), v.to(dtype)
    value = (a[..., i] - a[..., j]) * (b[..., i] - b[..., j])
    return (value.sum(dim=1, keepdim=True) if groups == 1 else value).contiguous().to(u.dtype)


def window_product_reference(edge_index: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_window_product``."""
    i, j = edge_index
    dtype = common_type(weights, x)
    v = x.to(dtype)
    return v.new_zeros(x.shape).index_add(-1, i, weights.to(dtype)[:, None] * v[..., j]).to(x.dtype)


def window_gradient_reference(edge_index: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_window_gradient``."""
    i, j = edge_index
    dtype = common_type(u, v)
    return (u.to(dtype)[..., i] * v.to(dtype)[..., j]).sum(dim=1).contiguous().to(u.dtype)
