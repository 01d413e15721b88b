"""Ties as lists of neighbours, and nodes in the order in which a sweep visits them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Adjacency(NamedTuple):
    """Every tie, seen from both of its ends.

    Attributes
    ----------
    starts
        (n + 1,) int64: entries ``starts[i]`` to ``starts[i + 1]`` belong to node i.
    nodes, neighbours
        (2 E,) int64: this end and the other one.
    ties
        (2 E,) int64: the number e of the tie.
    backward
        (2 E,) bool: whether this end is the second of the tie's pair.
    """

    starts: Tensor
    nodes: Tensor
    neighbours: Tensor
    ties: Tensor
    backward: Tensor


def adjacency(pairs: Tensor, count: int) -> Adjacency:
    """Neighbours of ``count`` nodes tied by pairs (E, 2) int64.

    Examples
    --------
    >>> found = adjacency(torch.tensor([[0, 1], [1, 2]]), 3)
    >>> found.starts.tolist(), found.neighbours.tolist(), found.ties.tolist()
    ([0, 1, 3, 4], [1, 2, 0, 1], [0, 1, 0, 1])
    """
    here = pairs.T.reshape(-1)
    order = torch.argsort(here, stable=True)
    degree = torch.bincount(here, minlength=count)
    starts = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    numbers = torch.arange(len(pairs), device=pairs.device).repeat(2)
    backward = torch.arange(len(here), device=pairs.device) >= len(pairs)
    return Adjacency(starts, here[order], pairs.flip(1).T.reshape(-1)[order], numbers[order], backward[order])


class Order(NamedTuple):
    """Nodes sorted by colour.

    Attributes
    ----------
    nodes
        (n,) int64: the node at each place.
    places
        (n,) int64: the place of each node.
    bounds
        (colours + 1,) int64: the places of colour c are ``bounds[c]`` to ``bounds[c + 1]``.
    """

    nodes: Tensor
    places: Tensor
    bounds: Tensor


def order_by(colours: Tensor) -> Order:
    """Nodes of colours (n,) int64, 0, 1, 2, ..., in the order of colours.

    Examples
    --------
    >>> order = order_by(torch.tensor([0, 1, 0]))
    >>> order.nodes.tolist(), order.places.tolist(), order.bounds.tolist()
    ([0, 2, 1], [0, 2, 1], [0, 2, 3])
    """
    nodes = torch.argsort(colours, stable=True)
    places = torch.empty_like(nodes)
    places[nodes] = torch.arange(len(nodes), device=nodes.device)
    counts = torch.bincount(colours)
    return Order(nodes, places, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
