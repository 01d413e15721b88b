"""From scores and ties to what :mod:`flowcut.kernels.total_variation_divide` works on, and back; Numba."""

from __future__ import annotations

import math
from typing import Any

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.max_flow_load import cut_off
from flowcut.kernels.total_variation_divide import EMPTY, FULL, NO_TIE


@jit
def measure(x: Any) -> tuple[float, float, float]:
    """Middle and half range of (n,) scores, and what no tie ever needs to carry.

    The cheapest flow with z* = x - div f takes no circles, so no tie carries more than sum (x - z*)_+ =
    1/2 ||x - z*||_1 <= 1/2 sqrt(n) ||x - z*|| <= 1/2 sqrt(n) ||x - mean|| (the constant picture ``mean`` is
    no better than z*). Ties are cut off at twice that, which is never reached: the residual of a huge weight
    would have no digits left for the flow.
    """
    low, high = x[0], x[0]
    for i in range(len(x)):
        low, high = min(low, x[i]), max(high, x[i])
    middle, scale = low / 2 + high / 2, high / 2 - low / 2
    if scale == 0:
        return middle, 0.0, 1.0
    total, squares = 0.0, 0.0
    for i in range(len(x)):
        here = (x[i] - middle) / scale
        total += here
        squares += here * here
    spread = squares - total * total / len(x)
    return middle, scale, scale * math.sqrt(len(x) * max(spread, 1.0))


@jit
def load_grid(x: Any, weights: Any, middle: float, cap: float, tables: Any, room: int, trees: Any) -> None:
    """Scores (R, W) and weights (K, R, W) into excess and residuals; what leaves the picture is no tie."""
    ahead, behind, shift = tables
    residual, excess, level = trees[:3]
    (rows, width), ties = x.shape, weights.shape[0]
    for a in range(2 * ties * room):
        residual[a], residual[len(residual) - 1 - a] = NO_TIE, NO_TIE
    for i in range(room):
        excess[i], excess[len(excess) - 1 - i], level[i], level[len(level) - 1 - i] = 0, 0, 0, 0
    for r in range(rows):
        for i in range(width):
            here = room + r * width + i
            excess[here] = x[r, i] - middle
            for k in range(ties):
                forth, back = NO_TIE, NO_TIE
                s = shift[k, r]
                if ahead[k, r] >= 0 and 0 <= i + s < width:
                    forth = _open(weights[k, r, i], cap, FULL)
                q = behind[k, r]
                if q >= 0:
                    s = shift[k, q]
                    if 0 <= i - s < width:
                        back = _open(weights[k, q, i - s], cap, EMPTY)
                residual[2 * (here * ties + k)], residual[2 * (here * ties + k) + 1] = forth, back


@inner
def _open(weight: float, cap: float, closed: float) -> float:
    """What an arc can take; a tie of weight 0 is closed from the beginning."""
    return min(weight, cap) if weight > 0 else closed


@inner
def _flow(weight: float, cap: float, residual: float) -> float:
    """The flow of one tie from what its arc can still take."""
    if residual == FULL:
        return weight
    if residual == EMPTY:
        return -weight
    return cut_off(min(weight, cap) - residual, weight, weight)


@inner
def _settle(here: int, there: int, weight: float, residual: float, sums: Any, block: Any) -> None:
    """A full tie takes its weight from the upper block and brings it to the lower one."""
    if residual == FULL:
        sums[block[here]] -= weight
        sums[block[there]] += weight
    elif residual == EMPTY:
        sums[block[here]] += weight
        sums[block[there]] -= weight


@inner
def _add_scores(x: Any, middle: float, sums: Any, counts: Any, block: Any, names: Any) -> None:
    """Number the blocks in the order of their first pixels; sums and counts of the scores."""
    for i in range(len(x)):
        names[i], sums[i], counts[i] = -1, 0, 0
    blocks = 0
    for i in range(len(x)):
        if names[block[i]] < 0:
            names[block[i]] = blocks
            blocks += 1
        block[i] = names[block[i]]
        sums[block[i]] += x[i] - middle
        counts[block[i]] += 1


@inner
def _values(middle: float, sums: Any, counts: Any, block: Any, z: Any) -> None:
    """z = (sum x - sum of what leaves the block) / |block|."""
    for i in range(len(z)):
        z[i] = middle + sums[block[i]] / counts[block[i]]


@jit
def unload_grid(
    x: Any, weights: Any, middle: float, cap: float, tables: Any, room: int, residual: Any, work: Any,
    block: Any, z: Any, flow: Any,
) -> None:  # fmt: skip
    """Blocks (n,) get their numbers; values z (n,) and, unless it has no ties, the flow (K, R, W)."""
    sums, counts, names = work
    _add_scores(x, middle, sums, counts, block, names)
    ahead, _, shift = tables
    ties, rows, width = weights.shape
    for k in range(ties):
        for r in range(rows):
            q, s = ahead[k, r], shift[k, r]
            if len(flow):
                flow[k, r, :] = 0
            if q < 0:
                continue
            for i in range(max(0, -s), min(width, width - s)):
                here, there, weight = r * width + i, q * width + i + s, weights[k, r, i]
                left = residual[2 * ((room + here) * ties + k)]
                _settle(here, there, weight, left, sums, block)
                if len(flow):
                    flow[k, r, i] = _flow(weight, cap, left)
    _values(middle, sums, counts, block, z)


@jit
def load_graph(x: Any, weights: Any, middle: float, cap: float, arcs: Any, trees: Any) -> None:
    """Scores (n,) and weights (E,) into excess and residuals; ``arcs`` (E, 2) are each tie's two arcs."""
    residual, excess = trees[:2]
    for i in range(len(x)):
        excess[i] = x[i] - middle
    for e in range(len(arcs)):
        residual[arcs[e, 0]] = _open(weights[e], cap, FULL)
        residual[arcs[e, 1]] = _open(weights[e], cap, EMPTY)


@jit
def unload_graph(
    x: Any, weights: Any, middle: float, cap: float, pairs: Any, arcs: Any, residual: Any, work: Any,
    block: Any, z: Any, flow: Any,
) -> None:  # fmt: skip
    """:func:`unload_grid` for ties (E,)."""
    sums, counts, names = work
    _add_scores(x, middle, sums, counts, block, names)
    for e in range(len(pairs)):
        left = residual[arcs[e, 0]]
        _settle(pairs[e, 0], pairs[e, 1], weights[e], left, sums, block)
        if len(flow):
            flow[e] = _flow(weights[e], cap, left)
    _values(middle, sums, counts, block, z)
