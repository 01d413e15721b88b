"""In which order to take up the nodes of a graph, and which nodes then have to be remembered.

A node is remembered from when it is taken up until its last neighbour has been: those nodes are the frontier.
A table over their labels is all that the past of the order hands to its future, so that exact sums over all
labelings cost J^(frontier + 1) instead of J^n. On a grid that is taken up along its longer axis, the
frontier is one row of pixels, and its table the vector that a transfer matrix acts on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class TieTo(NamedTuple):
    """A tie of a node to one of the frontier.

    Attributes
    ----------
    tie
        Its position in the list of ties.
    position
        Where the neighbour stands in the frontier.
    swapped
        Whether the neighbour is the first end of the tie.
    """

    tie: int
    position: int
    swapped: bool


class Introduce(NamedTuple):
    """Take up a node: it becomes the first of the frontier.

    Attributes
    ----------
    node
        Its number.
    width
        Nodes of the frontier before.
    ties
        Its ties to them.
    """

    node: int
    width: int
    ties: tuple[TieTo, ...]


class Eliminate(NamedTuple):
    """Sum over the labels of a node whose neighbours have all been taken up.

    Attributes
    ----------
    node
        Its number.
    width
        Nodes of the frontier before.
    position
        Where it stands.
    """

    node: int
    width: int
    position: int


Step = Introduce | Eliminate
Pairs = Sequence[tuple[int, int]]


def elimination_steps(num_nodes: int, pairs: Pairs, order: Sequence[int]) -> list[Step]:
    """The steps that an order of the nodes leads to.

    Parameters
    ----------
    num_nodes
        n.
    pairs
        Both ends of every tie; a tie may stand several times.
    order
        Every node once.

    Examples
    --------
    >>> for step in elimination_steps(3, [(0, 1), (1, 2)], [0, 1, 2]):
    ...     print(type(step).__name__, step.node, step.width)
    Introduce 0 0
    Introduce 1 1
    Eliminate 0 2
    Introduce 2 1
    Eliminate 1 2
    Eliminate 2 1
    """
    ties = _ties_of(num_nodes, pairs)
    ahead = [len(own) for own in ties]
    frontier: list[int] = []
    steps: list[Step] = []
    for node in order:
        place = {other: position for position, other in enumerate(frontier)}
        known = [(tie, other) for tie, other in ties[node] if other in place]
        found = tuple(TieTo(tie, place[other], pairs[tie][0] == other) for tie, other in known)
        steps.append(Introduce(node, len(frontier), found))
        frontier.insert(0, node)
        ahead[node] -= len(known)
        for _, other in known:
            ahead[other] -= 1
        for done in [other for other in reversed(frontier) if ahead[other] == 0]:
            steps.append(Eliminate(done, len(frontier), frontier.index(done)))
            frontier.remove(done)
    return steps


def frontier_sizes(pairs: Tensor, order: Tensor) -> Tensor:
    """How many nodes the frontier holds when each node is about to be taken up.

    Parameters
    ----------
    pairs
        (E, 2) int64.
    order
        (n,) int64: every node once.

    Returns
    -------
    Tensor
        (n,) int64, in the order of ``order``.

    Examples
    --------
    >>> frontier_sizes(torch.tensor([[0, 1], [1, 2]]), torch.arange(3)).tolist()
    [0, 1, 1]
    """
    nodes = len(order)
    time = torch.empty_like(order)
    time[order] = torch.arange(nodes, device=order.device)
    ends = time[pairs]
    last = time.clone()  # when its last neighbour is taken up
    last.scatter_reduce_(0, pairs[:, 0], ends[:, 1], "amax")
    last.scatter_reduce_(0, pairs[:, 1], ends[:, 0], "amax")
    change = torch.zeros(nodes + 2, dtype=torch.int64, device=order.device)
    ones = torch.ones_like(order)
    change.index_add_(0, time + 1, ones)
    change.index_add_(0, last + 1, -ones)
    return change.cumsum(dim=0)[:nodes]


def grid_orders(spatial: tuple[int, ...]) -> list[Tensor]:
    """Row-major numbers of the pixels, taken up along one axis, then the next: all orders of the axes.

    The first of them begins with the longest axis. Where ties reach far along it, another may be better.

    Examples
    --------
    >>> [order.tolist() for order in grid_orders((2, 3))]
    [[0, 3, 1, 4, 2, 5], [0, 1, 2, 3, 4, 5]]
    """
    numbers = torch.arange(math.prod(spatial)).reshape(spatial)
    axes = sorted(range(len(spatial)), key=lambda axis: -spatial[axis])
    return [numbers.permute(chosen).flatten() for chosen in itertools.permutations(axes)]


def greedy_order(num_nodes: int, pairs: Pairs, limit: int) -> list[int] | None:
    """Each time the node that leaves the smallest frontier; of equal ones a neighbour of the oldest node.

    Returns
    -------
    list of int or None
        None as soon as the frontier has grown to more than ``limit`` nodes.

    Examples
    --------
    A star, whose middle has to come before most of its ends:

    >>> greedy_order(4, [(3, 0), (3, 1), (3, 2)], limit=2)
    [0, 3, 1, 2]
    """
    neighbours = [sorted({other for _, other in own}) for own in _ties_of(num_nodes, pairs)]
    ahead = [len(own) for own in neighbours]
    waiting = sorted(range(num_nodes), key=lambda node: (ahead[node], node), reverse=True)
    taken: set[int] = set()
    frontier: list[int] = []
    order: list[int] = []
    while len(order) < num_nodes:
        choice = _next_node(neighbours, ahead, frontier, taken)
        while choice is None:  # a new piece of the graph
            start = waiting.pop()
            choice = None if start in taken else start
        order.append(choice)
        taken.add(choice)
        for other in neighbours[choice]:
            ahead[other] -= 1
        frontier = [node for node in [*frontier, choice] if ahead[node]]
        if len(frontier) > limit:
            return None
    return order


def _next_node(
    neighbours: list[list[int]], ahead: list[int], frontier: list[int], taken: set[int]
) -> int | None:
    best, least, remembered = None, math.inf, set(frontier)
    seen: set[int] = set()
    for old in frontier:
        for node in neighbours[old]:
            if node in taken or node in seen:
                continue
            seen.add(node)
            finished = sum(other in remembered and ahead[other] == 1 for other in neighbours[node])
            growth = (ahead[node] > 0) - finished
            if growth < least:
                best, least = node, growth
    return best


def _ties_of(num_nodes: int, pairs: Pairs) -> list[list[tuple[int, int]]]:
    """For every node the position of each of its ties, and the other end."""
    ties: list[list[tuple[int, int]]] = [[] for _ in range(num_nodes)]
    for tie, (i, j) in enumerate(pairs):
        ties[i].append((tie, j))
        ties[j].append((tie, i))
    return ties
