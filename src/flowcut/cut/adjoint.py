r"""The derivatives of total variation and of perturbed cuts: where this room meets autograd.

Total variation. Let z minimise 1/2 ||z - x||^2 + sum_e w_e |z_i - z_j|. As long as no block of equal value
breaks up or joins another one, the sum over a block B of the conditions of optimality is

    z_B = 1/|B| (sum_{i in B} x_i - sum_{e leaves B} w_e sign(z_B - z_other)),

which is linear. For an incoming gradient g let p be its mean over each block. Then

    dL/dx = p,      dL/dw_e = -sign(z_i - z_j) (p_i - p_j).

(SoftCut thesis, Algorithm 1, line 5 has a minus in dL/dx that cannot be: with w = 0, z = x. The sign of its
weights' rule is right with the plus.) z is piecewise linear in x and w; where pieces meet, this is the
derivative of one of them, so an element of the generalised gradient. The second derivatives are zero, and
backward is linear in g: p has itself as derivative, since means over blocks are symmetric.

Perturbed cuts, by scores of the noise. F(s, w) = E y(s + a Z, w exp(b U)), Z and U standard normal, y any
function (SoftCut thesis (12); Berthet et al. 2020). Substitute v = s + a Z and differentiate the density of
v, whose logarithm has the derivative (v - s) / a^2 = Z / a in s:

    <g, dF/ds_i> = E[<g, y> Z_i] / a,      likewise  <g, dF/dlog w_e> = E[<g, y> U_e] / b,

and dF/dw = (dF/dlog w) / w. (Thesis (12) says the same: nu(x) = x^2 / 2, so grad nu(Z) = Z.) What may be
subtracted from <g, y> stands in perturbed_samples.py.

Perturbed minimum cuts, by level sets. On a piece of n pixels that no ties leave, split Z into its mean and
the rest, Z = Z' + (t / sqrt n) 1; then t is standard normal and independent of Z'. The minimum cut y of v is
the set where the minimiser z(v) of total variation is positive, and z(v + c 1) = z(v) + c 1. So t can be
integrated out:

    F = E y = E_{Z', U} Phi(r z(s + a Z', w exp(b U))),      r = sqrt n / a,

with the normal distribution function Phi. What stands inside is continuous and piecewise smooth, so that the
derivative may go inside too, down to the one of z. With p = g phi(r z) r and P its mean over blocks,

    <g, dF/ds> = E P,      <g, dF/dw_e> = -E sign(z_i - z_j) (P_i - P_j) exp(b U_e).

Both are estimates without bias, and both are functions of s and w whose own derivative is not the second
derivative of F (P jumps where blocks change), so that asking for one is an error.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from flowcut.core.neighborhood import Offset
from flowcut.cut.differences import Index, differences
from flowcut.cut.perturbed_samples import Rule, both_signs, centred, dots, weighted
from flowcut.kernels.total_variation import block_means

_ESTIMATE = (
    "perturbed: expected first derivatives only, got a second one: the gradient is an estimate from "
    "samples, whose own derivative is not the second derivative of the expected labels"
)


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


def _sum_shared(value: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the items and channels that share an input."""
    if shape[1] == 1 and value.shape[1] != 1:
        value = value.sum(dim=1, keepdim=True)
    if shape[0] == 1 and value.shape[0] != 1:
        value = value.sum(dim=0, keepdim=True)
    return value


class _ByScores(Function):
    """The mean of sampled labels."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        scores: Tensor,
        edges: Tensor,
        labels: Tensor,
        z: Tensor | None,
        u: Tensor | None,
        inside: Tensor,
        rule: Rule,
    ) -> Tensor:
        return labels.to(torch.float64).mean(dim=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.rule = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        scores, edges, labels, z, u, inside = ctx.saved_tensors
        weights = dots(grad, centred(labels, ctx.rule.variance))
        (a, b), found = ctx.rule.sigmas, _nothing()
        if ctx.needs_input_grad[0] and z is not None:
            found[0] = weighted(weights / a, z)
        if ctx.needs_input_grad[1] and u is not None:
            tied = inside & (edges > 0)
            logs = _sum_shared(weighted(weights / b, u), edges.shape)
            found[1] = torch.where(tied, logs, 0.0) / torch.where(tied, edges, 1.0)
        return (*_last(found, scores, edges, _ESTIMATE), None, None, None, None, None)


class _ByLevels(Function):
    """The mean of Phi(r z) over samples of z, one channel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        scores: Tensor,
        edges: Tensor,
        z: Tensor,
        rates: Tensor,
        blocks: Tensor,
        u: Tensor | None,
        index: Index,
        rule: Rule,
    ) -> Tensor:
        return torch.special.ndtr(z * rates).mean(dim=1, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.rule = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        scores, edges, z, rates, blocks, u, index = ctx.saved_tensors
        density = (-(z * rates).square() / 2).exp() * (rates / (math.sqrt(2 * math.pi) * z.shape[1]))
        means, found = means_of(grad * density, blocks), _nothing()
        if ctx.needs_input_grad[0]:
            found[0] = means.sum(dim=1, keepdim=True)
        if ctx.needs_input_grad[1]:
            offsets = ctx.rule.offsets
            ties = -differences(z, index, offsets).sign() * differences(means, index, offsets)
            if u is not None:
                ties = ties * (ctx.rule.sigmas[1] * both_signs(u, ctx.rule.variance)[:, :, 0]).exp()
            found[1] = _sum_shared(ties.sum(dim=1, keepdim=True), edges.shape)
        return (*_last(found, scores, edges, _ESTIMATE), None, None, None, None, None, None)


class _Last(Function):
    """The identity, for what must not be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, scores: Tensor, edges: Tensor, why: str) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.why = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        raise RuntimeError(ctx.why)


class _Once(Function):
    """The identity of scores and edges whose backward gives what must not be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, edges: Tensor, why: str) -> tuple[Tensor, Tensor]:
        return scores.clone(), edges.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.why = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        scores, edges = ctx.saved_tensors
        return (*_last(list(grads), scores, edges, ctx.why), None)


def differentiable_once(scores: Tensor, edges: Tensor, why: str) -> tuple[Tensor, Tensor]:
    """Scores and edges for a function whose own backward silently has no derivative.

    Parameters
    ----------
    scores, edges
        Any tensors.
    why
        The error of who asks for a second derivative.
    """
    once: tuple[Tensor, Tensor] = _Once.apply(scores, edges, why)
    return once


def expected_by_scores(
    scores: Tensor,
    edges: Tensor,
    labels: Tensor,
    z: Tensor | None,
    u: Tensor | None,
    inside: Tensor,
    rule: Rule,
) -> Tensor:
    """The mean (N, C, *spatial) of the labels of perturbed samples, with an estimate of its derivative.

    Parameters
    ----------
    scores
        (N, C, *spatial) float64.
    edges
        (N or 1, 1 or C, K, *spatial) or (N or 1, 1 or C, E) float64.
    labels
        (N, M, C, *spatial): what each sample gave.
    z, u
        (N, P, C, *spatial) and (N, P, 1 or C, K, *spatial) or (N, P, 1 or C, E): the noise of scores and
        log-edges, None where there is none; P = M, in pairs M / 2.
    inside
        (K, *spatial) or (E,) bool: which ties there are.
    rule
        See :class:`Rule`.
    """
    value: Tensor = _ByScores.apply(scores, edges, labels, z, u, inside, rule)
    return value


def expected_by_levels(
    scores: Tensor,
    edges: Tensor,
    z: Tensor,
    rates: Tensor,
    blocks: Tensor,
    u: Tensor | None,
    index: Index,
    rule: Rule,
) -> Tensor:
    """The mean (N, 1, *spatial) of Phi(r z), with an estimate of its derivative.

    Parameters
    ----------
    scores, edges, u
        As for :func:`expected_by_scores`, of one channel.
    z, blocks
        (N, M, *spatial): minimisers of total variation, and the number of the block of each pixel.
    rates
        (N, 1, *spatial): sqrt n / a, n the size of the connected piece that a pixel belongs to.
    index
        (2, E) ends of the ties of a graph, None for a grid.
    rule
        See :class:`Rule`.
    """
    value: Tensor = _ByLevels.apply(scores, edges, z, rates, blocks, u, index, rule)
    return value


def _nothing() -> list[Tensor | None]:
    return [None, None]


def _last(found: list[Tensor | None], scores: Tensor, edges: Tensor, why: str) -> list[Tensor | None]:
    """Derivatives that must not be differentiated again."""
    if not torch.is_grad_enabled():
        return found
    return [None if value is None else _Last.apply(value, scores, edges, why) for value in found]
