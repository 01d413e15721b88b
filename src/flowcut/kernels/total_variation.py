r"""The prox of weighted total variation, exactly, with the flow that proves it and the blocks of equal value.

    grid_total_variation(scores, weights, offsets, proof)
    graph_total_variation(scores, weights, pairs, proof)

find the z that minimises 1/2 ||z - x||^2 + sum_e w_e |z_i - z_j| over ties e = (i, j) of weight w_e >= 0, and
a flow f, |f_e| <= w_e (positive from i to j), with z = x - div f, where (div f)_i is what leaves i minus what
comes in. A block is a connected set of pixels of one value (ties of weight 0 do not connect). Blocks are
numbered from 0 in the order of their first pixels. The value of a block is computed once more from what is
certain, (sum x - sum of the full ties that leave it + sum of those that come in) / |block|.

    block_means(values, blocks)

replaces every value by the mean of its block: the derivative of z with respect to x.

Shapes: scores (N, C, *spatial) or (N, C, n), weights (N or 1, 1 or C, K, *spatial) or (N or 1, 1 or C, E),
all float64; pairs (E, 2) int64. Weights of ties that leave the picture are never read. Returns z float64, f
float64 (N, C, K, *spatial) or (N, C, E), zero outside (no ties without ``proof``), and blocks int64.

On CUDA the tensors are copied to the CPU and back: such a search is no work for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.total_variation_blocks import block_means_cpu, block_means_reference
from flowcut.kernels.total_variation_cpu import graph_total_variation_cpu, grid_total_variation_cpu
from flowcut.kernels.total_variation_reference import (
    graph_total_variation_reference,
    grid_total_variation_reference,
)

Found = tuple[Tensor, Tensor, Tensor]


def _grid_fake(scores: Tensor, weights: Tensor, offsets: list[int], proof: bool) -> Found:
    ties, spatial = weights.shape[2] if proof else 0, scores.shape[2:]
    blocks = scores.new_empty(scores.shape, dtype=torch.int64)
    return scores.new_empty(scores.shape), scores.new_empty((*scores.shape[:2], ties, *spatial)), blocks


def _graph_fake(scores: Tensor, weights: Tensor, pairs: Tensor, proof: bool) -> Found:
    blocks = scores.new_empty(scores.shape, dtype=torch.int64)
    flow = scores.new_empty((*scores.shape[:2], len(pairs) if proof else 0))
    return scores.new_empty(scores.shape), flow, blocks


def _means_fake(values: Tensor, blocks: Tensor) -> Tensor:
    return values.new_empty(values.shape)


def on_cpu(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel for tensors of another device."""

    def run(*arguments: Any) -> Any:
        moved = [a.cpu() if isinstance(a, Tensor) else a for a in arguments]
        out, device = kernel(*moved), arguments[0].device
        return out.to(device) if isinstance(out, Tensor) else tuple(o.to(device) for o in out)

    return run


grid_total_variation = operation("grid_total_variation", grid_total_variation_reference, _grid_fake)
grid_total_variation.register_kernel("cpu", grid_total_variation_cpu)
grid_total_variation.register_kernel("cuda", on_cpu(grid_total_variation_cpu))
fold_batches(grid_total_variation, tensors=2)

graph_total_variation = operation("graph_total_variation", graph_total_variation_reference, _graph_fake)
graph_total_variation.register_kernel("cpu", graph_total_variation_cpu)
graph_total_variation.register_kernel("cuda", on_cpu(graph_total_variation_cpu))
fold_batches(graph_total_variation, tensors=3, batched=(0, 1))

block_means = operation("block_means", block_means_reference, _means_fake)
block_means.register_kernel("cpu", block_means_cpu)
fold_batches(block_means, tensors=2)
