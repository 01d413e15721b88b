"""Products on a general graph: the same mathematics as on a grid, over a list of ties.

With ties w_e between nodes i = edge_index[0, e] and j = edge_index[1, e],

    graph_product:        y = leak x + sum_e w_e (x_i - x_j) (1_i - 1_j)
    graph_edge_gradient:  g_e = sum_c (u_i - u_j) (v_i - v_j)
    graph_window_product: y_i = sum over e from i of w_e x_j        (directed; swap the two
                          rows of edge_index for the transpose)
    graph_window_gradient: g_e = sum_c u_i v_j

Shapes: edge_index (2, E) int64; edges (N, G, E), G = 1 or C; weights (N, E);
leak (N or 1, 1 or C, n); x, u, v, y (N, C, n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.graph_cpu import edge_gradient_cpu, product_cpu, window_gradient_cpu, window_product_cpu
from flowcut.kernels.graph_reference import (
    edge_gradient_reference,
    product_reference,
    window_gradient_reference,
    window_product_reference,
)
from flowcut.kernels.operation import fold_batches, operation


def _product_fake(edge_index: Tensor, edges: Tensor, leak: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _edge_gradient_fake(edge_index: Tensor, u: Tensor, v: Tensor, groups: int) -> Tensor:
    return u.new_empty((u.shape[0], groups, edge_index.shape[1]))


def _window_product_fake(edge_index: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _window_gradient_fake(edge_index: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return u.new_empty((u.shape[0], edge_index.shape[1]))


# On CUDA the references are already a gather and a deterministic-if-asked index_add: no Triton.
graph_product = operation("graph_product", product_reference, _product_fake)
graph_product.register_kernel("cpu", product_cpu)
fold_batches(graph_product, tensors=4, batched=(1, 2, 3))

graph_edge_gradient = operation("graph_edge_gradient", edge_gradient_reference, _edge_gradient_fake)
graph_edge_gradient.register_kernel("cpu", edge_gradient_cpu)
fold_batches(graph_edge_gradient, tensors=3, batched=(1, 2))

graph_window_product = operation("graph_window_product", window_product_reference, _window_product_fake)
graph_window_product.register_kernel("cpu", window_product_cpu)
fold_batches(graph_window_product, tensors=3, batched=(1, 2))

graph_window_gradient = operation("graph_window_gradient", window_gradient_reference, _window_gradient_fake)
graph_window_gradient.register_kernel("cpu", window_gradient_cpu)
fold_batches(graph_window_gradient, tensors=3, batched=(1, 2))
