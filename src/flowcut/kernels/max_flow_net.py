"""What the search for a maximum flow walks on: arcs of a grid by arithmetic, of a graph by lists.

Every tie is two arcs, one each way, that are each other's *sister*. The arcs out of a node stand together;
the ``place`` of an arc is its position among them. On a grid with K ties a pixel has 2 K places: place 2 k
leads to pixel + step k, place 2 k + 1 to pixel - step k, in the flat picture. A step that leaves the picture
may end at another pixel there. That does no harm: both arcs of such a pair have no capacity, because a pixel
that is one step behind the other in the picture would be so without wrapping too. So the search needs no
test for borders, only room for one step before the first and after the last pixel.

On a graph the arcs are numbered, ``heads`` tells where an arc leads and ``sisters`` its sister's number. For
a grid these and ``starts`` are None, and Numba leaves the other branch of each test out when it compiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowcut.core.neighborhood import Offset
from flowcut.kernels.jit import inner


class Net(NamedTuple):
    """Where arcs lead.

    Attributes
    ----------
    degree
        Arcs out of every pixel of a grid; 0 for a graph.
    steps
        (degree,) int64: what an arc adds to the number of a pixel; empty for a graph.
    starts
        (n + 1,) int64: the arcs of node i are ``starts[i]`` to ``starts[i + 1]``; None for a grid.
    heads, sisters
        (arcs,) int32: where an arc leads, and its opposite; None for a grid.
    """

    degree: int
    steps: NDArray[np.int64]
    starts: NDArray[np.int64] | None
    heads: NDArray[np.int32] | None
    sisters: NDArray[np.int32] | None


def grid_net(spatial: tuple[int, ...], offsets: tuple[Offset, ...]) -> tuple[Net, int]:
    """The arcs of a grid, and how much room they need before the first and after the last pixel."""
    strides = np.cumprod([1, *spatial[:0:-1]], dtype=np.int64)[::-1]
    flat = np.array(offsets, dtype=np.int64).reshape(len(offsets), len(spatial)) @ strides
    steps = np.stack([flat, -flat], axis=1).reshape(-1)
    return Net(len(steps), steps, None, None, None), int(np.abs(flat).max(initial=0))


def graph_net(pairs: NDArray[np.int64], nodes: int) -> tuple[Net, NDArray[np.int64]]:
    """The arcs of a graph with ties (E, 2), and (E, 2) the numbers of the two arcs of each tie."""
    tails = pairs.T.reshape(-1)
    order = np.argsort(tails, kind="stable")
    numbers = np.empty_like(order)
    numbers[order] = np.arange(len(order))
    arcs = np.ascontiguousarray(numbers.reshape(2, -1).T)
    starts = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(tails, minlength=nodes), out=starts[1:])
    heads, sisters = np.empty(len(order), dtype=np.int32), np.empty(len(order), dtype=np.int32)
    heads[arcs], sisters[arcs] = pairs[:, ::-1], arcs[:, ::-1]
    return Net(0, np.empty(0, dtype=np.int64), starts, heads, sisters), arcs


@inner
def index(number: Any) -> Any:
    """A node or arc as an unsigned number: with a signed one, every access would test whether it is < 0."""
    return np.uint64(number)


@inner
def first_arc(node: Any, degree: int, starts: Any) -> Any:
    """Number of a node's first arc."""
    if starts is None:
        return index(np.int64(node) * degree)
    return index(starts[node])


@inner
def arc_count(node: Any, degree: int, starts: Any) -> Any:
    """How many arcs leave a node."""
    if starts is None:
        return degree
    return starts[node + index(1)] - starts[node]


@inner
def head_of(node: Any, place: int, first: Any, steps: Any, heads: Any) -> Any:
    """Where the arc at a place leads."""
    if heads is None:
        return index(np.int64(node) + steps[place])
    return index(heads[first + index(place)])


@inner
def sister_place(head: Any, place: int, first: Any, starts: Any, sisters: Any) -> Any:
    """Place of the opposite arc among those of its tail ``head``."""
    if sisters is None:
        return place ^ 1
    return sisters[first + index(place)] - starts[head]


@inner
def sister_of(head: Any, place: int, first: Any, degree: int, sisters: Any) -> Any:
    """Number of the opposite arc."""
    if sisters is None:
        return index(np.int64(head) * degree + (place ^ 1))
    return index(sisters[first + index(place)])
