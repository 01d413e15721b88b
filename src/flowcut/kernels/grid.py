"""Products with a grid's Laplacian: operations and their plain-PyTorch reference.

With ties w_k(i) between pixel i and pixel i + offset k, and a leak d,

    grid_product:        y_i = d_i x_i + sum_k w_k(i) (x_i - x_{i+k}) + w_k(i-k) (x_i - x_{i-k}),
    grid_edge_gradient:  g_k(i) = sum_c (u_i - u_{i+k}) (v_i - v_{i+k}) = d(u^T L v) / d w_k(i).

The matrix is symmetric: its transpose is itself. Ties that leave the picture are never read.

Shapes: edges (N, G, K, *spatial) with G = 1 or C; leak (N or 1, 1 or C, *spatial);
x, u, v, y (N, C, *spatial); offsets a flat list of K * ndim integers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.grid_cpu import edge_gradient_cpu, product_cpu
from flowcut.kernels.grid_reference import edge_gradient_reference, product_reference
from flowcut.kernels.grid_triton import edge_gradient_cuda, product_cuda
from flowcut.kernels.operation import fold_batches, operation


def _product_fake(edges: Tensor, leak: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _edge_gradient_fake(u: Tensor, v: Tensor, offsets: list[int], groups: int) -> Tensor:
    spatial = u.shape[2:]
    return u.new_empty((u.shape[0], groups, len(offsets) // len(spatial), *spatial))


grid_product = operation("grid_product", product_reference, _product_fake)
grid_product.register_kernel("cpu", product_cpu)
grid_product.register_kernel("cuda", product_cuda)
fold_batches(grid_product, tensors=3)

grid_edge_gradient = operation("grid_edge_gradient", edge_gradient_reference, _edge_gradient_fake)
grid_edge_gradient.register_kernel("cpu", edge_gradient_cpu)
grid_edge_gradient.register_kernel("cuda", edge_gradient_cuda)
fold_batches(grid_edge_gradient, tensors=2)
