r"""The derivative of total variation: where this room meets autograd.

Let z minimise 1/2 ||z - x||^2 + sum_e w_e |z_i - z_j|. As long as no block of equal value breaks up or joins
another one, the sum over a block B of the conditions of optimality is

    z_B = 1/|B| (sum_{i in B} x_i - sum_{e leaves B} w_e sign(z_B - z_other)),

which is linear. For an incoming gradient g let p be its mean over each block. Then

    dL/dx = p,      dL/dw_e = -sign(z_i - z_j) (p_i - p_j).

(SoftCut thesis, Algorithm 1, line 5 has a minus in dL/dx that cannot be: with w = 0, z = x. The sign of its
weights' rule is right with the plus.) z is piecewise linear in x and w; where pieces meet, this is the
derivative of one of them, so an element of the generalised gradient. The second derivatives are zero, and
backward is linear in g: p has itself as derivative, since means over blocks are symmetric.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from flowcut.core.neighborhood import Offset, source_slices, target_slices
from flowcut.kernels.total_variation import block_means

Index = Tensor | None


class _BlockMeans(Function):
    """The mean of each block: symmetric, and so its own derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, blocks: Tensor) -> Tensor:
        return block_means(values, blocks)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return means_of(grad, ctx.saved_tensors[0]), None


class _Minimiser(Function):
    """z of scores and edges, found elsewhere."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        scores: Tensor, edges: Tensor, z: Tensor, blocks: Tensor, index: Index, offsets: tuple[Offset, ...]
    ) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        scores, edges, z, blocks, index, ctx.offsets = inputs
        ctx.shapes = scores.shape, edges.shape
        ctx.save_for_backward(z, blocks, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        z, blocks, index = ctx.saved_tensors
        needs, (scores, edges) = ctx.needs_input_grad, ctx.shapes
        means = means_of(grad, blocks)
        ties = None
        if needs[1]:
            ties = -differences(z, index, ctx.offsets).sign() * differences(means, index, ctx.offsets)
            ties = _sum_shared(ties, edges)
        return _sum_shared(means, scores) if needs[0] else None, ties, None, None, None, None


def minimiser(
    scores: Tensor, edges: Tensor, z: Tensor, blocks: Tensor, index: Index, offsets: tuple[Offset, ...]
) -> Tensor:
    """``z``, as a function of the scores and edges that it minimises for.

    Parameters
    ----------
    scores
        (N, C, *spatial) float64.
    edges
        (N or 1, 1 or C, K, *spatial) or (N or 1, 1 or C, E) float64.
    z, blocks
        (N, C, *spatial): the minimiser, and the number of the block of each pixel.
    index
        (2, E) ends of the ties of a graph, None for a grid.
    offsets
        The K offsets of a grid.
    """
    value: Tensor = _Minimiser.apply(scores, edges, z, blocks, index, offsets)
    return value


def means_of(values: Tensor, blocks: Tensor) -> Tensor:
    """Every value replaced by the mean of its block; differentiable."""
    means: Tensor = _BlockMeans.apply(values, blocks)
    return means


def differences(values: Tensor, index: Index, offsets: tuple[Offset, ...]) -> Tensor:
    """v_i - v_j over all ties: (N, C, K, *spatial), zero outside the picture, or (N, C, E)."""
    if index is not None:
        return values[..., index[0]] - values[..., index[1]]
    spatial = tuple(values.shape[2:])
    parts = []
    for offset in offsets:
        here: tuple[Any, ...] = source_slices(offset, spatial)
        there: tuple[Any, ...] = target_slices(offset, spatial)
        step = values[(..., *here)] - values[(..., *there)]
        # Differences stay where pixel i is. Pads come last axis first.
        starts = [min(s.start, n) for s, n in zip(here, spatial, strict=True)]
        room = [(b, n - b - m) for b, n, m in zip(starts, spatial, step.shape[2:], strict=True)]
        parts.append(pad(step, [side for pair in reversed(room) for side in pair]))
    return torch.stack(parts, dim=2)


def _sum_shared(value: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the items and channels that share an input."""
    if shape[1] == 1 and value.shape[1] != 1:
        value = value.sum(dim=1, keepdim=True)
    if shape[0] == 1 and value.shape[0] != 1:
        value = value.sum(dim=0, keepdim=True)
    return value
