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


def check_ties(name: str, pixels: Tensor, given: Neighborhood | Graph, channels: str = "C") -> None:
    """Refuse ties that do not belong to these pixels.

    Parameters
    ----------
    name
        Of ``pixels``, for the message.
    pixels
        (N, C, *spatial).
    given
        What is to tie them.
    channels
        What the message calls C.

    Raises
    ------
    ValueError
        Another number of axes or nodes, or a pixel tied to itself.

    Examples
    --------
    >>> check_ties("scores", torch.zeros(1, 1, 4, 4), Neighborhood.edges(2))
    """
    axes = pixels.ndim - 2
    if isinstance(given, Graph):
        if axes != 1 or pixels.shape[2] != given.num_nodes:
            shape = f"(N, {channels}, {given.num_nodes})"
            raise ValueError(f"{name}: expected shape {shape} for this graph, got {tuple(pixels.shape)}")
        return
    if given.ndim != axes:
        raise ValueError(f"neighborhood: expected offsets of {axes} axes, got {given.ndim}")
    if any(not any(offset) for offset in given.offsets):
        raise ValueError("neighborhood: expected no pixel tied to itself, got the offset 0")


def _add(total: Tensor, where: Index, values: Tensor) -> None:
    if isinstance(where[-1], Tensor):  # a node of a graph stands in many ties: they have to add up
        total.index_add_(-1, where[-1], values.expand(len(total), *values.shape[1:]))
    else:
        total[where] += values
