"""Window products: every pixel sums its neighbours with weights of its own.

    window_product:            y_i = sum_k w_k(i) x_{i+k}
    window_product_transpose:  z_j = sum_k w_k(j-k) u_{j-k}
    window_weight_gradient:    g_k(i) = sum_c u_i v_{i+k} = d(u^T W v) / d w_k(i)

Weights whose neighbour lies outside the picture are never read.

Shapes: weights (N, K, *spatial); x, u, v, y, z (N, C, *spatial); offsets a flat list of K * ndim
integers, of any signs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.window_cpu import gradient_cpu, product_cpu, transpose_cpu
from flowcut.kernels.window_reference import gradient_reference, product_reference, transpose_reference
from flowcut.kernels.window_triton import gradient_cuda, product_cuda, transpose_cuda


def _product_fake(weights: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _gradient_fake(u: Tensor, v: Tensor, offsets: list[int]) -> Tensor:
    spatial = u.shape[2:]
    return u.new_empty((u.shape[0], len(offsets) // len(spatial), *spatial))


window_product = operation("window_product", product_reference, _product_fake)
window_product.register_kernel("cpu", product_cpu)
window_product.register_kernel("cuda", product_cuda)
fold_batches(window_product, tensors=2)

window_product_transpose = operation("window_product_transpose", transpose_reference, _product_fake)
window_product_transpose.register_kernel("cpu", transpose_cpu)
window_product_transpose.register_kernel("cuda", transpose_cuda)
fold_batches(window_product_transpose, tensors=2)

window_weight_gradient = operation("window_weight_gradient", gradient_reference, _gradient_fake)
window_weight_gradient.register_kernel("cpu", gradient_cpu)
window_weight_gradient.register_kernel("cuda", gradient_cuda)
fold_batches(window_weight_gradient, tensors=2)
