"""Colours of nodes such that no tie joins two of one colour: what a Gibbs sampler draws at once."""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood, Offset


def colouring(where: Neighborhood | Graph, spatial: tuple[int, ...]) -> Tensor:
    """A colour for every node; ties join nodes of different colours.

    On grids the colours repeat: pixel x has colour a x mod q, with the smallest q for which there is such
    a vector a. For ties along the axes that is the checkerboard. On graphs every node in turn takes the
    smallest colour that its neighbours do not have: at most one more than the largest number of neighbours.

    Parameters
    ----------
    where
        Offsets (none of them zero) or a graph.
    spatial
        The pixels' axes; (n,) for a graph.

    Returns
    -------
    Tensor
        (n,) int64, n the product of ``spatial``: 0, 1, 2, ...

    Examples
    --------
    >>> colouring(Neighborhood.edges(2), (2, 3)).reshape(2, 3).tolist()
    [[0, 1, 0], [1, 0, 1]]
    >>> colouring(Neighborhood.edges(2, connectivity=2), (2, 4)).reshape(2, 4).tolist()
    [[0, 2, 0, 2], [1, 3, 1, 3]]
    >>> colouring(Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 4), (4,)).tolist()
    [0, 1, 2, 0]
    """
    if isinstance(where, Graph):
        return _greedy(where)
    factors, colours = _pattern(where.offsets)
    total = torch.zeros(spatial, dtype=torch.int64)
    for axis, (factor, size) in enumerate(zip(factors, spatial, strict=True)):
        shape = [1] * len(spatial)
        shape[axis] = size
        total += factor * torch.arange(size).reshape(shape)
    # An axis of one pixel, or too few of them, may leave colours out: number those that are there.
    return torch.unique(total.flatten() % colours, return_inverse=True)[1]


@lru_cache(maxsize=64)
def _pattern(offsets: tuple[Offset, ...]) -> tuple[Offset, int]:
    """The first (a, q), by q, for which no offset o has a o = 0 mod q."""
    axes = len(offsets[0])
    # There is one for every base of a number system that exceeds twice the reach, so the search ends.
    return next(
        (factors, colours)
        for colours in itertools.count(2)
        for factors in itertools.product(range(colours), repeat=axes)
        if all(sum(a * o for a, o in zip(factors, offset, strict=True)) % colours for offset in offsets)
    )


def _greedy(graph: Graph) -> Tensor:
    neighbours: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for i, j in graph.edge_index.T.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    colours = [-1] * graph.num_nodes
    for node, others in enumerate(neighbours):
        taken = {colours[other] for other in others}
        colours[node] = next(c for c in itertools.count() if c not in taken)
    return torch.tensor(colours, dtype=torch.int64)
