"""Total variation: the problem as it was read and checked, and how good an answer to it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood, Offset
from flowcut.cut.differences import differences
from flowcut.cut.ties import add_zeros, find_neighborhood
from flowcut.kernels.components import graph_components, grid_components
from flowcut.kernels.guard import guarded
from flowcut.kernels.max_flow_guard import guard_ties
from flowcut.kernels.total_variation import graph_total_variation, grid_total_variation

Found = tuple[Tensor, Tensor, Tensor]


class Problem(NamedTuple):
    """1/2 ||z - x||^2 + sum w |z_i - z_j|, in double precision and without derivatives.

    Attributes
    ----------
    scores
        (N, C, *spatial): x.
    edges
        (N or 1, 1 or C, K, *spatial) or (N or 1, 1 or C, E): w. Ties that leave the picture may be anything.
    where
        What ties the pixels.
    """

    scores: Tensor
    edges: Tensor
    where: Neighborhood | Graph

    @property
    def ends(self) -> Tensor | None:
        """(2, E) ends of the ties of a graph."""
        return self.where.edge_index.to(self.scores.device) if isinstance(self.where, Graph) else None

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """Offsets of the ties of a grid."""
        return () if isinstance(self.where, Graph) else self.where.offsets

    @property
    def flat(self) -> list[int]:
        """The offsets as one list; not the neighborhood's, whose cache compilers cannot look into."""
        return [o for offset in self.offsets for o in offset]

    @property
    def inside(self) -> Tensor:
        """Which ties stay inside the picture: bool, of the shape of the last axes of edges."""
        if isinstance(self.where, Graph):
            return torch.ones(len(self.where), dtype=torch.bool, device=self.scores.device)
        return self.where.inside(tuple(self.scores.shape[2:]), self.scores.device)

    def items(self, chosen: Tensor) -> Problem:
        """The problems of some items and channels, (M,) numbers n * C + c, as items of one channel."""
        channels, n, c = self.scores.shape[1], chosen // self.scores.shape[1], chosen % self.scores.shape[1]
        edges = self.edges.expand(len(self.scores), channels, *self.edges.shape[2:])
        return Problem(self.scores[n, c][:, None], edges[n, c][:, None], self.where)

    def exact(self, proof: bool) -> Found:
        """z, flow and blocks by the exact kernel."""
        if isinstance(self.where, Graph):
            pairs = self.where.edge_index.to(self.scores.device).T.contiguous()
            found: Found = graph_total_variation(self.scores, self.edges, pairs, proof)
            return found
        found = grid_total_variation(self.scores, self.edges, self.flat, proof)
        return found

    def blocks(self, z: Tensor) -> Tensor:
        """(N, C, *spatial): numbers of the connected blocks of exactly equal value."""
        values = z.flatten(0, 1)
        edges = self.edges.expand(*z.shape[:2], *self.edges.shape[2:]).flatten(0, 1)
        if isinstance(self.where, Graph):
            pairs = self.where.edge_index.to(z.device).T.contiguous()
            numbers: Tensor = graph_components(values, edges, pairs, False)
        else:
            numbers = grid_components(values, edges, self.flat, False)
        return numbers.reshape(z.shape)

    def divergence(self, flow: Tensor) -> Tensor:
        """(N, C, *spatial): what leaves a pixel minus what comes in; ties outside must carry nothing."""
        total = torch.zeros_like(self.scores)
        if self.ends is not None:
            return total.index_add_(2, self.ends[0], flow).index_add_(2, self.ends[1], -flow)
        for k, offset in enumerate(self.offsets):
            ties = flow[:, :, k]
            # What wraps round is zero.
            total += ties - ties.roll(offset, dims=tuple(range(2, ties.ndim)))
        return total

    def gap(self, z: Tensor, flow: Tensor) -> Tensor:
        """(N, C): the value of z minus the bound of the flow, as a sum of terms none of which is < 0.

        For |f| <= w, sum w |z_i - z_j| >= sum f (z_i - z_j) = <div f, z>, so no z' has less than
        min 1/2 ||z' - x||^2 + <div f, z'>, which is at z' = x - div f. Value minus bound is

            1/2 ||z - (x - div f)||^2 + sum w |z_i - z_j| - f (z_i - z_j).
        """
        spatial = tuple(range(2, z.ndim))
        rest = 0.5 * (z - self.scores + self.divergence(flow)).square().sum(dim=spatial)
        steps = differences(z, self.ends, self.offsets)
        weights = torch.where(self.inside, self.edges, 0.0)
        return rest + (weights * steps.abs() - flow * steps).flatten(2).sum(dim=2)


def read_problem(
    scores: Tensor, edges: Tensor, neighborhood: Neighborhood | Graph | None
) -> tuple[Tensor, Tensor, Problem]:
    """Scores and edges in double precision, differentiable, and the problem that they pose.

    Raises
    ------
    TypeError, ValueError
        As :func:`flowcut.cut.total_variation.total_variation`.
    """
    where = find_neighborhood("scores", scores, edges, neighborhood)
    x = guarded(scores.to(torch.float64), "scores: expected finite values")
    w = _with_groups(edges, scores, where).to(torch.float64)
    grid = isinstance(where, Neighborhood)
    expected = "edges: expected finite values >= 0" + (" inside the picture" if grid else "")
    offsets = Problem(x, w, where).flat
    zeros = guard_ties(w.detach().flatten(0, 1), 0.0, expected, offsets)
    x = add_zeros(x, zeros.reshape(w.shape[:2]).sum(dim=1))
    return x, w, Problem(x.detach(), w.detach(), where)


def _with_groups(edges: Tensor, scores: Tensor, where: Neighborhood | Graph) -> Tensor:
    """Edges (N or 1, 1 or C, K, *spatial) or (N or 1, 1 or C, E)."""
    check_floating("edges", edges)
    (items, channels), spatial = scores.shape[:2], tuple(scores.shape[2:])
    ties = (len(where), *spatial) if isinstance(where, Neighborhood) else (len(where),)
    given = edges.unsqueeze(1) if edges.ndim == len(ties) + 1 else edges
    fits = given.ndim == len(ties) + 2 and tuple(given.shape[2:]) == ties
    if not (fits and given.shape[0] in (1, items) and given.shape[1] in (1, channels)):
        groups = "" if channels == 1 else f"[1 or {channels}, ]"
        raise ValueError(
            f"edges: expected shape ({items}, {groups}{', '.join(map(str, ties))}), got {tuple(edges.shape)}"
        )
    return given
