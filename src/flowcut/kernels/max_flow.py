r"""Minimum cuts with two labels, exactly, with the maximum flow that proves them.

For scores s and capacities c, d >= 0 on ties e = (i, j),

    grid_max_flow(scores, forward, backward, begun, offsets, proof)
    graph_max_flow(scores, forward, backward, begun, pairs, proof)

find m in {0, 1}^n that minimises

    E(m) = sum_i max(s_i, 0) (1 - m_i) + max(-s_i, 0) m_i + sum_e c_e m_i (1 - m_j) + d_e (1 - m_i) m_j

and a flow f, -d_e <= f_e <= c_e (positive from i to j), with the same value. For every such f and m, since
c m_i (1 - m_j) + d (1 - m_i) m_j >= f (m_i - m_j),

    E(m) >= sum_i max(s_i, 0) - r_i m_i >= sum_i max(s_i, 0) - max(r_i, 0),    r = s - div f,

where (div f)_i is what leaves i minus what comes in. A maximum flow makes this bound as large as possible,
and then it is the minimum of E. Of all minimising m the one with the fewest ones is returned, which is
unique (as far as sums are exact: for integers, say).

Shapes: scores (N, *spatial) or (N, n); forward, backward (N or 1, K, *spatial) or (N or 1, E); begun like
them, or with no ties (length 0 along the second axis): a flow to begin with, cut off at the capacities. With
the flow of a similar problem little is left to do. All are float64; pairs is (E, 2) int64. Values of ties
that leave the picture are never read. Returns m, bool, and f, float64, zero outside; without ``proof`` f has
no ties.

On CUDA the tensors are copied to the CPU and back: such a search is no work for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowcut.kernels.max_flow_cpu import graph_max_flow_cpu, grid_max_flow_cpu
from flowcut.kernels.max_flow_reference import graph_max_flow_reference, grid_max_flow_reference
from flowcut.kernels.operation import fold_batches, operation

Found = tuple[Tensor, Tensor]


def _grid_fake(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, offsets: list[int], proof: bool
) -> Found:
    ties = forward.shape[1] if proof else 0
    mask = scores.new_empty(scores.shape, dtype=torch.bool)
    return mask, scores.new_empty((len(scores), ties, *scores.shape[1:]))


def _graph_fake(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, pairs: Tensor, proof: bool
) -> Found:
    mask = scores.new_empty(scores.shape, dtype=torch.bool)
    return mask, scores.new_empty((len(scores), len(pairs) if proof else 0))


def _on_cpu(kernel: Callable[..., Found]) -> Callable[..., Found]:
    """The kernel for tensors of another device."""

    def run(*arguments: Any) -> Found:
        moved = [a.cpu() if isinstance(a, Tensor) else a for a in arguments]
        mask, flow = kernel(*moved)
        return mask.to(arguments[0].device), flow.to(arguments[0].device)

    return run


grid_max_flow = operation("grid_max_flow", grid_max_flow_reference, _grid_fake)
grid_max_flow.register_kernel("cpu", grid_max_flow_cpu)
grid_max_flow.register_kernel("cuda", _on_cpu(grid_max_flow_cpu))
fold_batches(grid_max_flow, tensors=4)

graph_max_flow = operation("graph_max_flow", graph_max_flow_reference, _graph_fake)
graph_max_flow.register_kernel("cpu", graph_max_flow_cpu)
graph_max_flow.register_kernel("cuda", _on_cpu(graph_max_flow_cpu))
fold_batches(graph_max_flow, tensors=5, batched=(0, 1, 2, 3))
