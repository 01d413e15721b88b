r"""Numba kernel of Gibbs sampling.

Nodes are stored in the order of their colours, so that a colour is one range of places and threads take
parts of it. What a node does depends on the energy:

- *two labels*: any energy has d = cost of label 1 - cost of label 0 = field + sum slope x_j, and
  label 1 is drawn where u >= 1 / (1 + exp(-d / T)), that is logit(u) >= d / T. Between the values of logit at
  the ends of the bin that u falls into an exponential decides; outside of them, nearly always, nothing has to
  be computed.
- *Potts*, T = 1: softmax(-costs)_j is proportional to exp(-unary_j) times exp(w) for every neighbour that has
  label j: products of numbers made once, as long as none of them can overflow.
- *costs*: any energy, J exponentials.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.gibbs_layout import adjacency, order_by
from flowcut.kernels.graph_cpu import flat_view
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.random import LABELS, absorb, sweep_key
from flowcut.kernels.threads import meet, new_barrier, run_items, run_strips, strip_count

_TWO, _POTTS, _COSTS = 0, 1, 2
# Node updates that are worth handing to a thread.
_PIECE = 1 << 15
# Products of factors stay between exp(-600) and exp(600), a double can do 708.
_MILD = 600.0
# Doubles of a line of the cache, which two threads should not share.
_LINE = 8
_BITS = 10
_U_BIN, _U_11 = np.uint64(64 - _BITS), np.uint64(11)
_UNIT = 2.0**-53


class _Problem(NamedTuple):
    """What the kernel reads; numbers of ties and nodes as places in the order of colours.

    Attributes
    ----------
    kind
        _TWO, _POTTS or _COSTS.
    logits
        (2^bits + 1,): logit of the ends of the bins.
    nodes, bounds
        See :class:`flowcut.kernels.gibbs_layout.Order`.
    starts, neighbours
        (n + 1,) and (2 E,): the neighbours of each place.
    ties
        (2 E,): the tie e, or -1 - e where the place is its second end.
    field
        _TWO (N, n, 1): see above. _POTTS (N, n, J): exp(-unary). Else unary.
    slopes
        (N or 1, 2 E). _TWO: see above. _POTTS: exp(w). Else w.
    unary, weights
        For Potts energies at other temperatures, as for _COSTS.
    tables
        (N or 1, E or 1, J, J), or of size 0: cost 1 where labels differ.
    """

    kind: int
    logits: NDArray[np.float64]
    nodes: NDArray[np.int64]
    bounds: NDArray[np.int64]
    starts: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    ties: NDArray[np.int64]
    field: NDArray[np.float64]
    slopes: NDArray[np.float64]
    unary: NDArray[np.float64]
    weights: NDArray[np.float64]
    tables: NDArray[np.float64]


@inner
def _two_labels(problem: Any, item: int, x: Any, key: Any, cool: float, lo: int, hi: int) -> None:
    """Update places lo to hi; ``cool`` is 1 / T."""
    nodes, starts, neighbours, logits = problem.nodes, problem.starts, problem.neighbours, problem.logits
    field, slopes = problem.field[item % len(problem.field), :, 0], problem.slopes[item % len(problem.slopes)]
    first = starts[lo]
    for p in range(lo, hi):
        d = field[p]
        last = starts[p + 1]
        for e in range(first, last):
            d += slopes[e] * x[neighbours[e]]
        first = last
        d *= cool
        bits = absorb(key, nodes[p])
        place = np.int64(bits >> _U_BIN)
        # No jump depends on the label that is drawn: half of them would be guessed wrong.
        label = np.int32(d <= logits[place])
        if (d > logits[place]) & (d < logits[place + 1]):
            label = np.int32(np.int64(bits >> _U_11) * _UNIT >= 1.0 / (1.0 + math.exp(-d)))
        x[p] = label


@inner
def _potts(problem: Any, item: int, x: Any, key: Any, sums: Any, lo: int, hi: int) -> None:
    starts, neighbours = problem.starts, problem.neighbours
    factors, ties = problem.field[item % len(problem.field)], problem.slopes[item % len(problem.slopes)]
    for p in range(lo, hi):
        for j in range(len(sums)):
            sums[j] = factors[p, j]
        for e in range(starts[p], starts[p + 1]):
            sums[x[neighbours[e]]] *= ties[e]
        x[p] = pick(sums, np.int64(absorb(key, problem.nodes[p]) >> _U_11) * _UNIT)


@inner
def _costs(problem: Any, item: int, x: Any, key: Any, cool: float, sums: Any, lo: int, hi: int) -> None:
    starts, neighbours = problem.starts, problem.neighbours
    unary, weights = problem.unary[item % len(problem.unary)], problem.weights[item % len(problem.weights)]
    tables = problem.tables[item % len(problem.tables)]
    shared, whole = len(tables) == 1, tables.shape[2] > 0
    for p in range(lo, hi):
        for j in range(len(sums)):
            sums[j] = unary[p, j]
        for e in range(starts[p], starts[p + 1]):
            other, tie = x[neighbours[e]], problem.ties[e]
            if not whole:  # w for all labels but one; a constant for all does not count
                sums[other] -= weights[e]
            elif tie >= 0:
                table = tables[0 if shared else tie]
                for j in range(len(sums)):
                    sums[j] += weights[e] * table[j, other]
            else:
                table = tables[0 if shared else -1 - tie]
                for j in range(len(sums)):
                    sums[j] += weights[e] * table[other, j]
        boltzmann(sums, cool)
        x[p] = pick(sums, np.int64(absorb(key, problem.nodes[p]) >> _U_11) * _UNIT)


@inner
def boltzmann(costs: Any, cool: float) -> None:
    """exp(-(costs - min) / T) in place."""
    least = costs[0]
    for j in range(1, len(costs)):
        least = min(least, costs[j])
    for j in range(len(costs)):
        costs[j] = math.exp((least - costs[j]) * cool)


@inner
def pick(weights: Any, u: float) -> int:
    """The label where the running sum of the weights passes u times their sum."""
    total = 0.0
    for j in range(len(weights)):
        total += weights[j]
    level, reached, label = u * total, 0.0, 0
    for j in range(len(weights) - 1):
        reached += weights[j]
        label += reached <= level
    return label


@inner
def _colour(problem: Any, item: int, x: Any, key: Any, cool: float, sums: Any, lo: int, hi: int) -> None:
    if problem.kind == _TWO:
        _two_labels(problem, item, x, key, cool, lo, hi)
    elif problem.kind == _POTTS and cool == 1.0:
        _potts(problem, item, x, key, sums, lo, hi)
    else:
        _costs(problem, item, x, key, cool, sums, lo, hi)


@jit
def _run(
    problem: Any, labels: Any, cool: Any, thin: int, seed: int, sweep: int, x: Any, sums: Any, out: Any,
    first: int, last: int, strip: int, strips: int, barrier: Any,
) -> None:  # fmt: skip
    """All sweeps of chains first to last; x (n,) is where they happen, in the order of colours."""
    nodes, bounds, choices = problem.nodes, problem.bounds, problem.unary.shape[2]
    for m in range(first, last):
        for c in range(len(bounds) - 1):
            lo, hi = _part(bounds, c, strip, strips)
            for p in range(lo, hi):
                x[p] = labels[m, nodes[p]]
        if not meet(barrier, strips):
            return
        for s in range(len(cool)):
            key = sweep_key(seed, LABELS, m, sweep + s)
            for c in range(len(bounds) - 1):
                lo, hi = _part(bounds, c, strip, strips)
                _colour(problem, m, x, key, cool[s], sums[strip, :choices], lo, hi)
                if not meet(barrier, strips):
                    return
            if (s + 1) % thin == 0:
                for c in range(len(bounds) - 1):
                    lo, hi = _part(bounds, c, strip, strips)
                    for p in range(lo, hi):
                        out[s // thin, m, nodes[p]] = x[p]


@inner
def _part(bounds: Any, c: int, strip: int, strips: int) -> tuple[int, int]:
    """The places of colour c that belong to a strip."""
    count = bounds[c + 1] - bounds[c]
    return bounds[c] + count * strip // strips, bounds[c] + count * (strip + 1) // strips


def gibbs_cpu(
    labels: Tensor, unary: Tensor, pairs: Tensor, weights: Tensor, tables: Tensor, colours: Tensor,
    temperatures: Tensor, thin: int, seed: int, sweep: int,
) -> Tensor:  # fmt: skip
    """``gibbs_sweeps`` by Numba."""
    sweeps, (chains, count) = len(temperatures), labels.shape
    out = labels.new_empty((sweeps // thin, chains, count))
    if not out.numel():
        return out
    problem = _prepare(unary, pairs, weights, tables, colours)
    given, cool = labels.contiguous().numpy(), (1 / temperatures).numpy()
    args = problem, given, cool, thin, seed, sweep
    strips = strip_count(count) if chains == 1 else 1
    size = max(1, _PIECE // (count * sweeps))

    def run(piece: int) -> None:
        x, sums = np.empty(count, np.int32), np.empty((1, unary.shape[2] + _LINE))
        first, last = piece * size, min(chains, piece * size + size)
        _run(*args, x, sums, out.numpy(), first, last, 0, 1, new_barrier())

    if strips > 1:
        sums = np.empty((strips, unary.shape[2] + _LINE))
        run_strips(_run, (*args, np.empty(count, np.int32), sums, out.numpy(), 0, 1), strips)
    else:
        run_items(run, -(-chains // size))
    return out


def _prepare(unary: Tensor, pairs: Tensor, weights: Tensor, tables: Tensor, colours: Tensor) -> _Problem:
    order = order_by(colours)
    ties = adjacency(order.places[pairs], len(colours))
    costs, w = unary[:, order.nodes], weights[:, ties.ties]
    signed = torch.where(ties.backward, -1 - ties.ties, ties.ties)
    kind, field, slopes = _COSTS, costs[:0], w[:0]
    if unary.shape[2] == 2:
        kind, (field, slopes) = _TWO, _two_label_fields(costs, w, tables, ties.nodes, signed)
    elif tables.shape[-1] == 0 and _mild(costs, w, ties.nodes):
        kind = _POTTS
        field, slopes = (costs.amin(dim=2, keepdim=True) - costs).exp(), w.exp()
    neighbours = ties.neighbours.to(torch.int32)
    arrays = (order.nodes, order.bounds, ties.starts, neighbours, signed, field, slopes, costs, w, tables)
    return _Problem(kind, _logits(), *map(flat_view, arrays))


def _two_label_fields(
    costs: Tensor, w: Tensor, tables: Tensor, nodes: Tensor, signed: Tensor
) -> tuple[Tensor, Tensor]:
    """Field and slopes: with t[a, b] for label a here and b there,
    t[1, x] - t[0, x] = (t[1, 0] - t[0, 0]) + x (t[1, 1] - t[0, 1] - t[1, 0] + t[0, 0]).
    """
    if tables.shape[-1] == 0:
        constant, slopes = w, -2 * w
    else:
        tie = torch.where(signed < 0, -1 - signed, signed)
        t = tables[:, tie % tables.shape[1] if tables.shape[1] else tie]
        t = torch.where((signed < 0)[:, None, None], t.mT, t)
        constant = w * (t[..., 1, 0] - t[..., 0, 0])
        slopes = w * (t[..., 1, 1] - t[..., 0, 1]) - constant
    field = costs[..., 1] - costs[..., 0]
    field = field.expand(max(len(field), len(constant)), -1).clone()
    return field.index_add_(1, nodes, constant.expand(len(field), -1)).unsqueeze(2), slopes


def _mild(costs: Tensor, w: Tensor, nodes: Tensor) -> bool:
    """Whether products of the factors of any node can neither overflow nor vanish."""
    if not costs.numel():
        return True
    spread = costs.amax(dim=2) - costs.amin(dim=2)
    total = spread.amax(dim=0).index_add(0, nodes, w.abs().amax(dim=0))
    return bool(total.max() < _MILD)


@lru_cache(maxsize=1)
def _logits() -> NDArray[np.float64]:
    u = np.arange(2**_BITS + 1) / 2**_BITS
    with np.errstate(divide="ignore"):
        return np.log(u) - np.log1p(-u)
