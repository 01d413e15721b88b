"""The cheapest labeling with two labels, exactly: a minimum cut, and the flow that proves it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import Tie, ties_of
from flowcut.cut.ties import add_zeros, find_neighborhood, read_ties
from flowcut.kernels.guard import guarded
from flowcut.kernels.max_flow import graph_max_flow, grid_max_flow


class MinCut(NamedTuple):
    """A labeling of minimum energy and its certificate.

    For any flow f with ``-reverse_edges <= f <= edges``, no labeling has an energy below ``flow_value``,
    sum_i max(s_i, 0) - max(s_i - (div f)_i, 0), where div f is what leaves a pixel minus what comes in. So
    equal numbers prove that the labeling is optimal, whoever found it.

    Attributes
    ----------
    labels
        (N, *spatial) bool.
    flow
        (N, K, *spatial) or (N, E), float64: f, positive from pixel i to pixel i + offset k; zero for ties
        that leave the picture.
    energy
        (N,) float64: the energy of the labels.
    flow_value
        (N,) float64: the bound computed from ``flow``.

    Examples
    --------
    >>> cut = solve_max_flow(torch.tensor([[[2.0, -1.0, 2.0]]]), torch.ones(1, 1, 3))
    >>> cut.labels.int().tolist(), cut.gap.item()
    ([[1, 1, 1]], 0.0)
    """

    labels: Tensor
    flow: Tensor
    energy: Tensor
    flow_value: Tensor

    @property
    def gap(self) -> Tensor:
        """(N,): how far from optimal the labels can be at most; rounding, when all is well."""
        return self.energy - self.flow_value


def max_flow(
    scores: Tensor,
    edges: Tensor,
    neighborhood: Neighborhood | Graph | None = None,
    reverse_edges: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    r"""The labeling with two labels that minimises unary costs plus the weight of all cut ties.

    E(m) = sum_i max(s_i, 0) (1 - m_i) + max(-s_i, 0) m_i + sum_ij w_ij [m_i != m_j], the discrete problem
    that SoftCut relaxes (thesis, section 2). Solved exactly, in double precision, by incremental
    breadth-first search; the items of a batch run on several threads. Not differentiable. Where several
    labelings are optimal, the one with the fewest ones is returned (which is unique): a pixel that could be
    either is 0. With values whose sums are rounded, that holds up to rounding.

    Parameters
    ----------
    scores
        (N, 1, *spatial), float, finite: positive speaks for label 1, negative for label 0.
    edges
        (N, K, *spatial) or (N, 1, K, *spatial), finite, >= 0: w, what it costs that pixel i and pixel
        i + offset k differ. Entries that leave the picture are never read.
    neighborhood
        Offsets of the K ties, or a :class:`flowcut.Graph` (then scores are (N, 1, n) and edges (N, [1,] E)).
        Default: inferred from K, see :meth:`flowcut.Neighborhood.infer`.
    reverse_edges
        Of the shape of ``edges``: if given, ``edges`` count only where pixel i is 1 and pixel i + offset k is
        0, and these where it is the other way round.
    start
        Of the shape of ``edges``: a flow to begin with, for example ``solve_max_flow(...).flow`` of a similar
        problem. It saves time and changes no optimum.

    Returns
    -------
    Tensor
        (N, *spatial) bool.

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, there is more than one channel, or a value is NaN, infinite, or a negative edge.

    See Also
    --------
    flowcut.solve_max_flow : The same with a certificate.

    Examples
    --------
    The middle pixel is outvoted by its neighbours; the tie to the last is too weak:

    >>> scores = torch.tensor([[[2.0, -1.0, 2.0, -3.0]]])
    >>> edges = torch.tensor([[[1.0, 1.0, 0.5, 0.0]]])
    >>> max_flow(scores, edges).int().tolist()
    [[1, 1, 1, 0]]
    """
    return _solve(scores, edges, neighborhood, reverse_edges, start, proof=False)[1]


def solve_max_flow(
    scores: Tensor,
    edges: Tensor,
    neighborhood: Neighborhood | Graph | None = None,
    reverse_edges: Tensor | None = None,
    start: Tensor | None = None,
) -> MinCut:
    """:func:`max_flow` with its certificate: the flow, the energy, and the bound that the flow proves.

    Parameters
    ----------
    scores, edges, neighborhood, reverse_edges, start
        As in :func:`max_flow`.

    Returns
    -------
    MinCut
        Labels, flow, energy and flow value; ``gap`` is their difference.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_flow`.

    Examples
    --------
    >>> cut = solve_max_flow(torch.tensor([[[2.0, -1.0, 2.0]]]), torch.ones(1, 1, 3))
    >>> cut.labels.int().tolist(), cut.energy.item(), cut.flow_value.item(), cut.gap.item()
    ([[1, 1, 1]], 1.0, 1.0, 0.0)
    """
    problem, labels, flow = _solve(scores, edges, neighborhood, reverse_edges, start, proof=True)
    return MinCut(labels, flow, problem.energy(labels), problem.bound(flow))


class _Problem(NamedTuple):
    """Scores (N, *spatial), capacities both ways (N or 1, K, *spatial) or (N or 1, E), and what ties."""

    scores: Tensor
    forward: Tensor
    backward: Tensor
    where: Neighborhood | Graph

    def ties(self) -> list[Tie]:
        return list(ties_of(self.where, tuple(self.scores.shape[1:]), self.scores.device))

    def energy(self, labels: Tensor) -> Tensor:
        total = (
            torch.where(labels, (-self.scores).clamp(min=0), self.scores.clamp(min=0)).flatten(1).sum(dim=1)
        )
        for tie in self.ties():
            here, there = labels[tie.here], labels[tie.there]
            paid = self.forward[tie.own] * (here & ~there) + self.backward[tie.own] * (there & ~here)
            total = total + paid.flatten(1).sum(dim=1)
        return total

    def bound(self, flow: Tensor) -> Tensor:
        left = self.scores.clone()
        for tie in self.ties():
            tie.add_here(left, -flow[tie.own])
            tie.add_there(left, flow[tie.own])
        # Sum what each pixel adds, not two large sums apart: that would lose digits.
        return (self.scores.clamp(min=0) - left.clamp(min=0)).flatten(1).sum(dim=1)


def _solve(
    scores: Tensor,
    edges: Tensor,
    neighborhood: Neighborhood | Graph | None,
    reverse_edges: Tensor | None,
    start: Tensor | None,
    proof: bool,
) -> tuple[_Problem, Tensor, Tensor]:
    where = find_neighborhood("scores", scores, edges, neighborhood)
    if scores.shape[1] != 1:
        raise ValueError(
            f"scores: expected one channel (two labels), got {scores.shape[1]}; see flowcut.alpha_expansion"
        )
    s = guarded(scores.detach().to(torch.float64), "scores: expected finite values")[:, 0]
    forward, zeros = read_ties("edges", edges, scores, where)
    backward, begun = forward, forward[:, :0]
    if reverse_edges is not None:
        backward, more = read_ties("reverse_edges", reverse_edges, scores, where)
        zeros = zeros + more
    if start is not None:
        begun, more = read_ties("start", start, scores, where, signed=True)
        zeros = zeros + more
    problem = _Problem(add_zeros(s, zeros), forward, backward, where)
    if isinstance(where, Graph):
        pairs = where.edge_index.to(s.device).T
        return problem, *graph_max_flow(*problem[:3], begun, pairs, proof)
    flat = [o for offset in where.offsets for o in offset]
    return problem, *grid_max_flow(*problem[:3], begun, flat, proof)
