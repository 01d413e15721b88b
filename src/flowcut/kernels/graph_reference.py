"""Plain-PyTorch reference of the products on a graph."""

from __future__ import annotations

from torch import Tensor


def product_reference(edge_index: Tensor, edges: Tensor, leak: Tensor, x: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_product``."""
    i, j = edge_index
    flow = edges * (x[..., i] - x[..., j])
    return (leak * x).index_add(-1, i, flow).index_add(-1, j, -flow)


def edge_gradient_reference(edge_index: Tensor, u: Tensor, v: Tensor, groups: int) -> Tensor:
    """Plain-PyTorch ``graph_edge_gradient``; ``groups`` is G."""
    i, j = edge_index
    value = (u[..., i] - u[..., j]) * (v[..., i] - v[..., j])
    return value.sum(dim=1, keepdim=True) if groups == 1 else value


def window_product_reference(edge_index: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_window_product``."""
    i, j = edge_index
    return x.new_zeros(x.shape).index_add(-1, i, weights[:, None] * x[..., j])


def window_gradient_reference(edge_index: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Plain-PyTorch ``graph_window_gradient``."""
    i, j = edge_index
    return (u[..., i] * v[..., j]).sum(dim=1)
