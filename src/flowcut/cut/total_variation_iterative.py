"""Total variation by an accelerated gradient method on the flow, refined and proved: only arrays."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.cut.differences import differences
from flowcut.cut.total_variation_alternating import refine
from flowcut.cut.total_variation_problem import Problem

# Steps between two tests, at first; a test costs a sort, and so they get rarer.
_FIRST_TEST = 25


class Iterated(NamedTuple):
    """z, flow, (N, C) steps, and (N, C) whether the error bound met the tolerance."""

    z: Tensor
    flow: Tensor
    steps: Tensor
    met: Tensor


def iterate(problem: Problem, tolerance: float, max_steps: int) -> Iterated:
    """Minimise 1/2 ||x - div f||^2 over |f| <= w (the dual of (13)) until the refined z is proved good.

    FISTA (Beck, Teboulle 2009) with the restart of O'Donoghue and Candes (2015) whenever a step turns against
    the momentum; every item and channel by itself. Met when ||z - z*|| <= sqrt(2 gap) <= tolerance *
    ||x - mean x||. Items that have met it take no notice of what follows.
    """
    x, limit = problem.scores, torch.where(problem.inside, problem.edges, 0.0)
    limit = limit.expand(*x.shape[:2], *limit.shape[2:])
    step = 1 / _largest(problem, limit)
    spatial, per_item = tuple(range(2, x.ndim)), (..., *(None,) * (limit.ndim - 2))
    allowed = tolerance * (x - x.mean(dim=spatial, keepdim=True)).square().sum(dim=spatial).sqrt()
    flow = ahead = torch.zeros_like(limit)
    momentum = x.new_ones(x.shape[:2])
    best = Iterated(x.clone(), flow, torch.zeros_like(momentum).long(), torch.zeros_like(momentum).bool())
    test = _FIRST_TEST
    for count in range(1, max_steps + 1):
        # d/df 1/2 ||x - div f||^2 = -(y_i - y_j), y = x - div f.
        uphill = differences(x - problem.divergence(ahead), problem.ends, problem.offsets)
        moved = torch.clamp(ahead + step[per_item] * uphill, -limit, limit)
        against = ((ahead - moved) * (moved - flow)).flatten(2).sum(dim=2) > 0
        grown = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        weight = torch.where(against, 0.0, (momentum - 1) / grown)
        momentum = torch.where(against, 1.0, grown)
        ahead = moved + weight[per_item] * (moved - flow)
        flow = moved
        if count in (test, max_steps):
            best = _test(problem, flow, count, allowed, best)
            if bool(best.met.all()):
                break
            test = 2 * test
    return best


def _largest(problem: Problem, limit: Tensor) -> Tensor:
    """(N, C): a bound of the largest eigenvalue, the most ties that meet at the two ends of one."""
    ties = (limit > 0).to(limit.dtype)
    if problem.ends is None:
        return torch.full(limit.shape[:2], 4.0 * len(problem.offsets), dtype=limit.dtype, device=limit.device)
    degree = torch.zeros_like(problem.scores)
    for end in problem.ends:
        degree.index_add_(2, end, ties)
    pair = degree[:, :, problem.ends[0]] + degree[:, :, problem.ends[1]]
    return pair.amax(dim=2).clamp(min=1) if pair.shape[2] else pair.new_ones(pair.shape[:2])


def _test(problem: Problem, flow: Tensor, count: int, allowed: Tensor, best: Iterated) -> Iterated:
    """Refine the present z; keep those answers that have been good enough before."""
    z = refine(problem, problem.scores - problem.divergence(flow))
    met = (2 * problem.gap(z, flow)).clamp(min=0).sqrt() <= allowed
    old = best.met[(..., *(None,) * (z.ndim - 2))]
    return Iterated(
        torch.where(old, best.z, z),
        torch.where(best.met[(..., *(None,) * (flow.ndim - 2))], best.flow, flow),
        torch.where(best.met, best.steps, count),
        best.met | met,
    )
