r"""Connected components: pixels of equal label that ties connect.

    grid_components(labels, weights, offsets, background)
    graph_components(labels, weights, pairs, background)

Two ends of a tie belong to one component if their labels are equal and, where weights are given, the weight
of the tie is > 0. Components are numbered in the order of their first pixels (the last axis runs fastest),
from 0; with ``background``, pixels of label 0 get 0, and the others are numbered from 1.

Shapes: labels (N, *spatial) or (N, n), bool, integers or floats (NaN equals nothing); weights (N or 1, K,
*spatial) or (N or 1, E), float64, or with no ties (length 0 along the second axis): then all ties count.
Weights of ties that leave the picture are never read. pairs is (E, 2) int64. Returns int64 of the shape of
labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.components_cpu import graph_components_cpu, grid_components_cpu
from flowcut.kernels.components_reference import graph_components_reference, grid_components_reference
from flowcut.kernels.operation import fold_batches, operation


def _grid_fake(labels: Tensor, weights: Tensor, offsets: list[int], background: bool) -> Tensor:
    return labels.new_empty(labels.shape, dtype=torch.int64)


def _graph_fake(labels: Tensor, weights: Tensor, pairs: Tensor, background: bool) -> Tensor:
    return labels.new_empty(labels.shape, dtype=torch.int64)


grid_components = operation("grid_components", grid_components_reference, _grid_fake)
grid_components.register_kernel("cpu", grid_components_cpu)
fold_batches(grid_components, tensors=2)

graph_components = operation("graph_components", graph_components_reference, _graph_fake)
graph_components.register_kernel("cpu", graph_components_cpu)
fold_batches(graph_components, tensors=3, batched=(0, 1))
