r"""Exact sums over all labelings, one by one, in blocks.

The first half of the nodes numbers rows, the second half columns, so that in counting order (the last node
fastest) a few rows are a block of consecutive labelings. Given its row, the ties between the halves are costs
of single nodes of the column, so

    E(row, column) = E_row + E_column + sum_i costs_row[i, column_i]

where the sum costs one addition a labeling (:func:`flowcut.joint.outer.outer_sum`). Nothing is carried from
one labeling to the next, so nothing drifts. The marginals of nodes and ties follow from three sums over the
table p(row, column): over rows, over columns, and for ties between the halves over each row's columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from flowcut.joint.beliefs import Beliefs
from flowcut.joint.flat import FlatEnergy
from flowcut.joint.outer import labelings, node_sums, outer_sum, pair_sums

# Labelings of one block: many enough that what is done once a block costs nothing, 2 MiB of energies.
_BLOCK = 1 << 18


class _Sums(NamedTuple):
    """log_z; (rows,) and (columns,) probabilities; (T, J, J) of the ties between the halves."""

    log_z: Tensor
    rows: Tensor
    columns: Tensor
    across: Tensor


class Enumeration:
    """All labelings of one energy.

    Parameters
    ----------
    flat
        One energy; where its costs require gradients, :attr:`log_z` has them, of any order.
    block
        About so many labelings are summed over at once.
    """

    def __init__(self, flat: FlatEnergy, block: int = _BLOCK) -> None:
        self._block = block
        self._unary, self._tables, self._constant = flat.unary[0], flat.full_tables()[0], flat.constant[0]
        self._nodes, self._labels = self._unary.shape
        self._right = self._nodes // 2
        self._left = self._nodes - self._right
        self.rows, self.columns = self._labels**self._left, self._labels**self._right
        where = flat.pairs >= self._left
        self._pairs = flat.pairs
        self._inside = [(~where).all(dim=1).nonzero()[:, 0], where.all(dim=1).nonzero()[:, 0]]
        self._across = (where[:, 0] != where[:, 1]).nonzero()[:, 0]
        # Ties between the halves, seen from the row.
        self._turned = where[self._across, 0][:, None, None]
        ends = flat.pairs[self._across].sort(dim=1).values
        self._from, self._to = ends[:, 0], ends[:, 1] - self._left
        column_nodes = self._labelings(0, self.columns, self._right)
        self._column_energy = self._tie_energy(column_nodes, self._inside[1], self._left)

    def blocks(self, block: int | None = None) -> Iterator[tuple[int, int]]:
        """First row and the one after the last of each block."""
        step = max(1, (block or self._block) // self.columns)
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)

    def energies(self, start: int, stop: int) -> Tensor:
        """(stop - start, columns): energies of consecutive labelings, by rows."""
        nodes = self._labelings(start, stop, self._left)
        unary = self._unary[: self._left]
        own = self._constant + unary[torch.arange(self._left, device=nodes.device), nodes].sum(dim=1)
        own = own + self._tie_energy(nodes, self._inside[0], 0)
        costs = self._unary[self._left :].expand(stop - start, -1, -1)
        if len(self._across):
            tables = self._tables[self._across]
            tables = torch.where(self._turned, tables.mT, tables)
            ties = torch.arange(len(tables), device=nodes.device)
            costs = costs.index_add(1, self._to, tables[ties, nodes[:, self._from]])
        return outer_sum(costs) + self._column_energy + own[:, None]

    def labelings(self, start: int, stop: int) -> Tensor:
        """(stop - start, columns, n) int64."""
        rows = self._labelings(start, stop, self._left)[:, None].expand(-1, self.columns, -1)
        columns = self._labelings(0, self.columns, self._right).expand(stop - start, -1, -1)
        return torch.cat([rows, columns], dim=2)

    @cached_property
    def log_z(self) -> Tensor:
        """0-d, float64."""
        costs = (self._unary, self._tables, self._constant)
        if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in costs)):
            return self._sums.log_z
        masses = [
            checkpoint(self._log_mass, *block, use_reentrant=False, preserve_rng_state=False)
            for block in self.blocks()
        ]
        return torch.stack(masses).logsumexp(dim=0)

    def beliefs(self) -> Beliefs:
        """All marginals."""
        sums, labels = self._sums, self._labels
        nodes = [
            node_sums(law[None], count, labels)[0]
            for law, count in ((sums.rows, self._left), (sums.columns, self._right))
        ]
        pairs = torch.empty_like(self._tables)
        pairs[self._across] = torch.where(self._turned, sums.across.mT, sums.across)
        for law, count, first, ties in (
            (sums.rows, self._left, 0, self._inside[0]),
            (sums.columns, self._right, self._left, self._inside[1]),
        ):
            for tie in ties.tolist():
                i, j = (self._pairs[tie] - first).tolist()
                pairs[tie] = pair_sums(law, count, labels, i, j)
        return Beliefs(torch.cat(nodes), pairs)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, n) int64: independent exact draws, made on the CPU's generator."""
        device = self._unary.device
        draws = torch.rand(count, 2, dtype=torch.float64, generator=generator).to(device)
        rows = _invert(self._sums.rows[None], draws[:, 0], torch.zeros_like(draws[:, 0], dtype=torch.int64))
        order = rows.argsort(stable=True)
        columns = torch.empty_like(rows)
        bounds = torch.searchsorted(rows[order], torch.arange(self.rows + 1, device=device)).tolist()
        for start, stop in self.blocks():
            who = order[bounds[start] : bounds[stop]]
            if len(who):
                chances = (-self.energies(start, stop)).softmax(dim=1)
                columns[who] = _invert(chances, draws[who, 1], rows[who] - start)
        halves = ((rows, self._left), (columns, self._right))
        return torch.cat([labelings(half, nodes, self._labels) for half, nodes in halves], dim=1)

    @cached_property
    def _sums(self) -> _Sums:
        with torch.no_grad():
            return self._sum_up()

    def _sum_up(self) -> _Sums:
        """One pass over all labelings: sums of exp(-E - shift), the shift being the largest -E so far."""
        labels, ties = self._labels, torch.arange(len(self._across), device=self._unary.device)
        rows, columns = self._unary.new_zeros(self.rows), self._unary.new_zeros(self.columns)
        across = self._unary.new_zeros(len(ties) * labels, labels)
        shift = -math.inf
        for start, stop in self.blocks():
            mass = -self.energies(start, stop)
            highest = float(mass.amax())
            if highest > shift:
                for total in (rows, columns, across):
                    total.mul_(math.exp(shift - highest))
                shift = highest
            mass = mass.sub_(shift).exp_()
            rows[start:stop] = mass.sum(dim=1)
            columns += mass.sum(dim=0)
            if len(ties):
                own = self._labelings(start, stop, self._left)[:, self._from]
                sums = node_sums(mass, self._right, labels)[:, self._to]
                across.index_add_(0, (ties * labels + own).flatten(), sums.flatten(0, 1))
        whole = rows.sum()
        log_z = shift + whole.log()
        return _Sums(log_z, rows / whole, columns / whole, across.reshape(-1, labels, labels) / whole)

    def _log_mass(self, start: int, stop: int) -> Tensor:
        return (-self.energies(start, stop)).flatten().logsumexp(dim=0)

    def _tie_energy(self, nodes: Tensor, ties: Tensor, first: int) -> Tensor:
        """(S,): what the ties inside one half cost its labelings (S, k)."""
        i, j = nodes[:, self._pairs[ties, 0] - first], nodes[:, self._pairs[ties, 1] - first]
        return self._tables[ties, i, j].sum(dim=1)

    def _labelings(self, start: int, stop: int, nodes: int) -> Tensor:
        numbers = torch.arange(start, stop, device=self._unary.device)
        return labelings(numbers, nodes, self._labels)


def _invert(chances: Tensor, draws: Tensor, rows: Tensor) -> Tensor:
    """For each draw in [0, 1) the entry of its row of ``chances`` (R, B) at which their sum exceeds it."""
    sums = chances.cumsum(dim=1)
    sums = sums / sums[:, -1:] + torch.arange(len(chances), device=chances.device)[:, None]
    # One sorted vector for all rows: row r takes the numbers from r to r + 1.
    found = torch.searchsorted(sums.flatten(), draws + rows, right=True) - rows * chances.shape[1]
    return found.clamp(max=chances.shape[1] - 1)
