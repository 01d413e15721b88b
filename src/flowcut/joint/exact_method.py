"""Which way of summing over all labelings an energy allows, and what is said where none is possible."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.frontier import Step, elimination_steps, frontier_sizes, greedy_order, grid_orders

Method = Literal["auto", "enumeration", "elimination"]
# Labelings that enumeration goes through at most: a second.
MAX_STATES = 1 << 26
# Numbers of the largest table of an elimination: 32 MiB, and it keeps about 3 sqrt(n) of them.
MAX_CELLS = 1 << 22


class _Order(NamedTuple):
    """An order of the nodes: the largest frontier, and the numbers in all tables together."""

    widest: int
    cells: float
    nodes: list[int]


def choose_steps(energy: PottsEnergy, pairs: Tensor, method: Method) -> list[Step] | None:
    """The steps of an elimination; None where all labelings shall be enumerated.

    Parameters
    ----------
    energy
        One energy.
    pairs
        (E, 2) int64: the ends of its ties.
    method
        See :func:`flowcut.joint.exact.exact_law`.

    Raises
    ------
    ValueError
        The energy is too large, or there is no such method.
    """
    if method not in ("auto", "enumeration", "elimination"):
        raise ValueError(f'method: expected "auto", "enumeration" or "elimination", got {method!r}')
    labels, nodes, many = energy.num_labels, _node_count(energy), too_many_states(energy)
    if method == "enumeration":
        if many:
            raise ValueError(f"energy: {many}; try method='elimination', or sample with flowcut.gibbs")
        return None
    order = _best_order(energy, pairs.cpu())
    wide = labels ** (order.widest + 1) > MAX_CELLS
    if method == "auto" and not many and (wide or labels**nodes < order.cells):
        return None
    if wide:
        raise ValueError(f"energy: {_too_wide(order.widest, labels)}; {_instead(labels, many)}")
    return elimination_steps(nodes, [(int(i), int(j)) for i, j in pairs.tolist()], order.nodes)


def too_many_states(energy: PottsEnergy) -> str:
    """What is wrong with enumerating its labelings; empty where they are few enough."""
    labels, nodes = energy.num_labels, _node_count(energy)
    if labels**nodes <= MAX_STATES:
        return ""
    return f"expected at most {_most(labels, MAX_STATES)} pixels of {labels} labels to enumerate, got {nodes}"


def _too_wide(widest: int, labels: int) -> str:
    most = max(_most(labels, MAX_CELLS) - 1, 0)
    digits = (widest + 1) * math.log10(labels) - 27 * math.log10(2)
    size = f"{10**digits:.3g}" if digits < 15 else f"1e{int(digits)}"
    return (
        f"expected a frontier of at most {most} pixels of {labels} labels to eliminate along, "
        f"got {widest} (tables of {labels}^{widest + 1} numbers, {size} GiB)"
    )


def _instead(labels: int, many: str) -> str:
    if not many:
        return "method='enumeration' is possible"
    return f"up to {_most(labels, MAX_STATES)} pixels can be enumerated; else sample with flowcut.gibbs"


def _most(labels: int, limit: int) -> int:
    """The largest k with labels^k <= limit."""
    k = 0
    while labels ** (k + 1) <= limit:
        k += 1
    return k


def _best_order(energy: PottsEnergy, pairs: Tensor) -> _Order:
    labels = energy.num_labels
    if isinstance(energy.neighborhood, Graph):
        nodes = _node_count(energy)
        orders = [torch.arange(nodes)]
        greedy = greedy_order(nodes, [(i, j) for i, j in pairs.tolist()], _most(labels, MAX_CELLS))
        orders += [] if greedy is None else [torch.tensor(greedy, dtype=torch.int64)]
    else:
        orders = grid_orders(energy.spatial)
    found = []
    for order in orders:
        sizes = frontier_sizes(pairs, order)
        cells = float((float(labels) ** (sizes + 1).double()).sum())
        found.append(_Order(max(sizes.tolist(), default=0), cells, order.tolist()))
    return min(found, key=lambda order: order[:2])


def _node_count(energy: PottsEnergy) -> int:
    return energy.unary[0, 0].numel()
