r"""Exact sums over all labelings, node by node (the transfer matrix on grids; variable elimination).

With the frontier of :mod:`flowcut.joint.frontier`, the forward table

    F(frontier) = log sum over the labels of all nodes eliminated so far of exp(-costs so far)

is carried on by two steps: taking up a node v subtracts its costs and those of its ties,
F'(a_v, f) = F(f) - unary_v[a_v] - sum_u table_uv[a_u, a_v], and eliminating u sums it out,
F'(f) = log sum_{a_u} exp F(f, a_u). At the end of the order F = log Z.

Walked backwards, these steps are a directed chain, p(a_u | f) = exp(F(f, a_u) - F'(f)), where f separates u
from everything that comes later: drawn from, it gives exact samples; multiplied on, the joint law of each
frontier and so all marginals.

Tables are kept in logarithms, so that costs of any size work, and each time brought back to a largest entry
of 0, so that they keep their digits over long orders. Only about sqrt(n) of them are kept: the way back
computes those between anew, segment by segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flowcut.joint.beliefs import Beliefs
from flowcut.joint.flat import FlatEnergy
from flowcut.joint.frontier import Eliminate, Introduce, Step

# softplus is x up to rounding from here on, and its exponential does not overflow.
_LINEAR_FROM = 40.0


class _Costs(NamedTuple):
    """(n, J) and (E, J, J)."""

    unary: Tensor
    tables: Tensor

    @property
    def labels(self) -> int:
        return self.unary.shape[1]


class Elimination:
    """One energy, summed over all labelings along an order of its nodes.

    Parameters
    ----------
    flat
        One energy; where its costs require gradients, :attr:`log_z` has them, of any order.
    steps
        From :func:`flowcut.joint.frontier.elimination_steps`.

    Attributes
    ----------
    log_z
        0-d, float64.
    """

    def __init__(self, flat: FlatEnergy, steps: Sequence[Step]) -> None:
        costs = _Costs(flat.unary[0], flat.full_tables()[0])
        self._costs = _Costs(*(tensor.detach() for tensor in costs))
        length = max(1, math.isqrt(len(steps)))
        self._segments = [steps[i : i + length] for i in range(0, len(steps), length)]
        self._starts: list[Tensor] = []
        table, total = costs.unary.new_zeros(1), -flat.constant[0]
        grows = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in costs)
        for segment in self._segments:
            self._starts.append(table.detach())
            if grows:  # autograd too keeps nothing but the tables between segments
                done = checkpoint(_run, costs, table, segment, use_reentrant=False, preserve_rng_state=False)
            else:
                done = _run(costs, table, segment)
            table, total = done[0], total + done[1]
        self.log_z = total + table[0]

    def _backwards(self) -> Iterator[tuple[Step, Tensor]]:
        """The steps from the last to the first, each with the table before it."""
        for start, segment in zip(reversed(self._starts), reversed(self._segments), strict=True):
            inputs: list[Tensor] = []
            with torch.no_grad():
                _run(self._costs, start, segment, inputs)
            while inputs:
                yield segment[len(inputs) - 1], inputs.pop()

    @torch.no_grad()
    def beliefs(self) -> Beliefs:
        """All marginals, from the joint law of each frontier."""
        labels = self._costs.labels
        nodes, pairs = (torch.empty_like(tensor) for tensor in self._costs)
        law = nodes.new_ones(1)
        for step, table in self._backwards():
            if isinstance(step, Eliminate):
                split = _split(table, step, labels)
                chances = (split - log_sum_exp(split).reshape(len(split), 1, -1)).exp_()
                law = chances.mul_(law.reshape(len(split), 1, -1)).flatten()
                continue
            joint = law.reshape(labels, -1)
            nodes[step.node] = joint.sum(dim=1)
            for tie in step.ties:
                axes = (labels, labels**tie.position, labels, -1)
                found = joint.reshape(axes).sum(dim=(1, 3))
                pairs[tie.tie] = found.mT if tie.swapped else found
            law = joint.sum(dim=0)
        return Beliefs(nodes, pairs)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, n) int64: independent exact draws, made on the CPU's generator."""
        labels, device = self._costs.labels, self._costs.unary.device
        labelings = torch.zeros(count, len(self._costs.unary), dtype=torch.int64, device=device)
        state = torch.zeros(count, dtype=torch.int64, device=device)  # which entry of the table
        choices = torch.arange(labels, device=device)
        for step, table in self._backwards():
            if isinstance(step, Introduce):
                state = state % labels**step.width
                continue
            after = labels ** (step.width - step.position - 1)
            first = state // after * (labels * after) + state % after
            chances = table[first[:, None] + choices * after].softmax(dim=1)
            draw = torch.rand(count, 1, dtype=torch.float64, generator=generator).to(device)
            label = (chances.cumsum(dim=1)[:, :-1] <= draw).sum(dim=1)
            labelings[:, step.node] = label
            state = first + label * after
        return labelings


def _run(
    costs: _Costs, table: Tensor, segment: Sequence[Step], inputs: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The table after these steps, and what has been subtracted from it on the way."""
    total = table.new_zeros(())
    for step in segment:
        if inputs is not None:
            inputs.append(table)
        if isinstance(step, Introduce):
            table = _introduce(costs, table, step)
        else:
            table = log_sum_exp(_split(table, step, costs.labels))
            highest = table.detach().amax()
            table, total = table - highest, total + highest
    return table, total


def _introduce(costs: _Costs, table: Tensor, step: Introduce) -> Tensor:
    """F'(a_v, f): the frontier in two halves, so that every tie touches a short vector of costs only."""
    labels, left = costs.labels, step.width // 2
    sizes = (left, step.width - left)
    halves = [costs.unary[step.node, :, None].expand(labels, labels**left)]
    halves += [table.new_zeros(labels, labels ** sizes[1])]
    for tie in step.ties:
        pair = costs.tables[tie.tie].mT if tie.swapped else costs.tables[tie.tie]
        half = int(tie.position >= left)
        place = tie.position - half * left
        axes = (labels, labels**place, labels, labels ** (sizes[half] - place - 1))
        halves[half] = (halves[half].reshape(axes) + pair[:, None, :, None]).reshape(labels, -1)
    out = table.reshape(1, labels**left, -1) - halves[0][:, :, None]
    return (out - halves[1][:, None, :]).flatten()


def _split(table: Tensor, step: Eliminate, labels: int) -> Tensor:
    """(A, J, B) with the node that is eliminated in the middle."""
    return table.reshape(labels**step.position, labels, -1)


def log_sum_exp(split: Tensor) -> Tensor:
    """log sum_j exp(split[:, j]), from (A, J, B) to (A * B,).

    As log(e^a + e^b) = a + softplus(b - a), one label after the other: three times as fast as
    torch.logsumexp over short axes, with second derivatives that neither overflow nor miss ties.
    """

    def add(total: Tensor, term: Tensor) -> Tensor:
        return total + nn.functional.softplus(term - total, threshold=_LINEAR_FROM)

    return reduce(add, split.unbind(1)).flatten()
