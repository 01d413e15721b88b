"""One expansion move: which pixels should switch to a given label, as a minimum cut."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import ties_of
from flowcut.cut.ties import add_zeros, find_neighborhood, read_ties
from flowcut.kernels.guard import guarded
from flowcut.kernels.max_flow import graph_max_flow, grid_max_flow

# Below this share of the largest cost a violated triangle inequality is rounding.
_ROUNDING = 1e-12


class LabelCosts(NamedTuple):
    """E(x) = sum_i unary_i[x_i] + sum_ij w_ij V[x_i, x_j], in double precision.

    Attributes
    ----------
    unary
        (N, J, *spatial).
    edges
        (N or 1, K, *spatial) or (N or 1, E).
    table
        (J, J): V.
    where
        What the ties are.
    """

    unary: Tensor
    edges: Tensor
    table: Tensor
    where: Neighborhood | Graph

    def of_items(self, items: Tensor) -> LabelCosts:
        """The costs of some items of the batch."""
        if len(items) == len(self.unary):
            return self
        edges = self.edges if len(self.edges) == 1 else self.edges[items]
        return self._replace(unary=self.unary[items], edges=edges)

    def energy(self, labels: Tensor) -> Tensor:
        """(N,): E of labels (N, *spatial)."""
        total = self.unary.gather(1, labels.unsqueeze(1)).flatten(1).sum(dim=1)
        for tie in ties_of(self.where, tuple(labels.shape[1:]), labels.device):
            paid = self.edges[tie.own] * self.table[labels[tie.here], labels[tie.there]]
            total = total + paid.flatten(1).sum(dim=1)
        return total

    def best_switch(self, labels: Tensor, label: int) -> tuple[Tensor, Tensor]:
        r"""Which pixels of labels (N, *spatial) should switch to a label, and (N,) how many pairs are no cut.

        With y_i = 1 where pixel i switches, a tie between labels a and b costs A, B, C or 0 for
        (y_i, y_j) = (0, 0), (0, 1), (1, 0), (1, 1), where A = w V[a, b], B = w V[a, label],
        C = w V[label, b]. For y_i, y_j in {0, 1} that is (check the four cases)

            A + y_i (C - A - B) / 2 + y_j (B - A - C) / 2 + |y_i - y_j| (B + C - A) / 2,

        two unary terms and a tie of weight (B + C - A) / 2, which is >= 0 for a metric V. Where it is
        negative a tie of weight 0 takes its place: that makes B and C dearer by the same amount and leaves
        the cost of not moving as it is, so a move that seems to help does.
        """
        now = self.unary.gather(1, labels.unsqueeze(1)).squeeze(1)
        scores = now - self.unary[:, label]
        ties = self.edges.new_zeros((len(labels), *self.edges.shape[1:]))
        dearer = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
        for tie in ties_of(self.where, tuple(labels.shape[1:]), labels.device):
            a, b, w = labels[tie.here], labels[tie.there], self.edges[tie.own]
            stay, second, first = self.table[a, b], self.table[a, label], self.table[label, b]
            scores_here, scores_there = w * (stay + second - first) / 2, w * (stay + first - second) / 2
            tie.add_here(scores, scores_here)
            tie.add_there(scores, scores_there)
            detour = second + first - stay
            dearer += ((detour < -_ROUNDING * self.table.max()) & (w > 0)).flatten(1).sum(dim=1)
            ties[tie.own] = w * detour.clamp(min=0) / 2
        return self._cut(scores, ties), dearer

    def _cut(self, scores: Tensor, ties: Tensor) -> Tensor:
        if isinstance(self.where, Graph):
            pairs = self.where.edge_index.to(scores.device).T
            return graph_max_flow(scores, ties, ties, ties[:, :0], pairs, False)[0]
        return grid_max_flow(scores, ties, ties, ties[:, :0], self.where.flat, False)[0]


def read_costs(
    unary: Tensor, edges: Tensor, pairwise: Tensor | None, neighborhood: Neighborhood | Graph | None
) -> LabelCosts:
    """Costs as they were given, checked.

    Raises
    ------
    TypeError, ValueError
        They are not what :func:`flowcut.alpha_expansion` takes.
    """
    where = find_neighborhood("unary", unary, edges, neighborhood)
    if unary.shape[1] < 1:
        raise ValueError(f"unary: expected at least one label, got shape {tuple(unary.shape)}")
    values = guarded(unary.detach().to(torch.float64), "unary: expected finite values")
    ties, zeros = read_ties("edges", edges, unary, where)
    return LabelCosts(add_zeros(values, zeros), ties, _read_table(pairwise, values), where)


def read_labels(initial: Tensor, costs: LabelCosts) -> Tensor:
    """Labels to begin with, (N, *spatial) int64.

    Raises
    ------
    TypeError, ValueError
        They are no labels of these pixels.
    """
    if not isinstance(initial, Tensor) or initial.dtype.is_floating_point or initial.dtype.is_complex:
        got = initial.dtype if isinstance(initial, Tensor) else type(initial).__name__
        raise TypeError(f"initial: expected an integer tensor, got {got}")
    shape = (costs.unary.shape[0], *costs.unary.shape[2:])
    if tuple(initial.shape) != shape:
        raise ValueError(f"initial: expected shape {shape}, got {tuple(initial.shape)}")
    labels, count = initial.to(costs.unary.device, torch.int64, copy=True), costs.unary.shape[1]
    low, high = (int(v) for v in torch.aminmax(labels)) if labels.numel() else (0, 0)
    if low < 0 or high >= count:
        raise ValueError(f"initial: expected labels 0 to {count - 1}, got {low} to {high}")
    return labels


def _read_table(pairwise: Tensor | None, unary: Tensor) -> Tensor:
    count = unary.shape[1]
    if pairwise is None:
        return 1 - torch.eye(count, dtype=unary.dtype, device=unary.device)
    check_floating("pairwise", pairwise)
    if tuple(pairwise.shape) != (count, count):
        raise ValueError(f"pairwise: expected shape ({count}, {count}), got {tuple(pairwise.shape)}")
    check_finite("pairwise", pairwise)
    table = pairwise.detach().to(unary.device, unary.dtype)
    for bad, wanted in (
        (table < 0, "values >= 0"),
        (torch.diag(table.diagonal() != 0), "a zero diagonal"),
        (table != table.T, "a symmetric table"),
    ):
        if bool(bad.any()):
            a, b = (int(i) for i in bad.nonzero()[0])
            raise ValueError(f"pairwise: expected {wanted}, got {float(table[a, b])} at index ({a}, {b})")
    return table
