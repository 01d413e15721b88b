"""Which pixels are tied, as pairs of indices that work on any tensor over the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood, source_slices, target_slices

Index = tuple[Any, ...]


class Tie(NamedTuple):
    """All ties along one offset, or all edges of a graph.

    Attributes
    ----------
    own
        Picks them from (N, K, ..., *spatial) or (N, ..., E): (N, ..., *ties).
    here, there
        Pick their two ends from a tensor whose last axes are the pixels.
    """

    own: Index
    here: Index
    there: Index

    def add_here(self, total: Tensor, values: Tensor) -> None:
        """Add values (N, ..., *ties) to the pixels (N, ..., *spatial) at this end, in place."""
        _add(total, self.here, values)

    def add_there(self, total: Tensor, values: Tensor) -> None:
        """Add values (N, ..., *ties) to the pixels (N, ..., *spatial) at the other end, in place."""
        _add(total, self.there, values)


def ties_of(where: Neighborhood | Graph, spatial: tuple[int, ...], device: torch.device) -> Iterator[Tie]:
    """One :class:`Tie` for every offset, or one for a whole graph.

    Examples
    --------
    >>> tie, = ties_of(Neighborhood.edges(1), (3,), torch.device("cpu"))
    >>> torch.arange(3)[tie.here].tolist(), torch.arange(3)[tie.there].tolist()
    ([0, 1], [1, 2])
    """
    if isinstance(where, Graph):
        index = where.edge_index.to(device)
        yield Tie((...,), (..., index[0]), (..., index[1]))
        return
    for k, offset in enumerate(where.offsets):
        here, there = source_slices(offset, spatial), target_slices(offset, spatial)
        yield Tie((slice(None), k, ..., *here), (..., *here), (..., *there))


def _add(total: Tensor, where: Index, values: Tensor) -> None:
    if isinstance(where[-1], Tensor):  # a node of a graph stands in many ties: they have to add up
        total.index_add_(-1, where[-1], values.expand(len(total), *values.shape[1:]))
    else:
        total[where] += values
