"""From capacities to the residuals that a search works on, and from residuals to a flow; Numba."""

from __future__ import annotations

from typing import Any

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.max_flow_trees import NOBODY


@inner
def cut_off(flow: float, forward: float, backward: float) -> float:
    """As much of a flow as the capacities allow."""
    return max(min(flow, forward), -backward)


@inner
def _flow(arc: int, forward: float, backward: float, residual: Any) -> float:
    """The flow of one tie; within its capacities, however the sums were rounded."""
    return cut_off(forward - residual[arc], forward, backward)


@jit
def load_grid(
    scores: Any, forward: Any, backward: Any, begun: Any, tables: Any, piece: Any, room: int, trees: Any
) -> None:
    """Scores (R, W) and capacities (K, R, W) into excess and residuals.

    Ties that leave the picture have no capacity, and ties between rows of different pieces not yet: see
    :func:`bridge_grid`.
    """
    residual, excess, level, parent = trees[:4]
    (rows, width), ties = scores.shape, forward.shape[0]
    level[:], parent[:] = 0, NOBODY
    for a in range(2 * ties * room):
        residual[a], residual[len(residual) - 1 - a] = 0, 0
    for i in range(room):
        excess[i], excess[len(excess) - 1 - i] = 0, 0
    for r in range(rows):
        for i in range(width):
            excess[room + r * width + i] = scores[r, i]
    if begun.shape[0]:
        _begin_grid(forward, backward, begun, tables, room, excess)
    for r in range(rows):
        for k in range(ties):
            _load_row(r, k, forward, backward, begun, tables, piece, room, residual)


@inner
def _load_row(
    r: int, k: int, forward: Any, backward: Any, begun: Any, tables: Any, piece: Any, room: int, residual: Any
) -> None:
    """The two arcs that tie k makes out of each pixel of a row, in the order of memory."""
    ahead, behind, shift = tables
    ties, _, width = forward.shape
    here, warm = room + r * width, begun.shape[0] > 0
    for i in range(width):
        residual[2 * ((here + i) * ties + k)] = 0
        residual[2 * ((here + i) * ties + k) + 1] = 0
    q, s = ahead[k, r], shift[k, r]
    if q >= 0 and piece[q] == piece[r]:
        for i in range(max(0, -s), min(width, width - s)):
            c, d = forward[k, r, i], backward[k, r, i]
            flow = cut_off(begun[k, r, i], c, d) if warm else 0.0
            residual[2 * ((here + i) * ties + k)] = c - flow
    q = behind[k, r]
    if q >= 0 and piece[q] == piece[r]:
        s = shift[k, q]
        for i in range(max(0, s), min(width, width + s)):
            c, d = forward[k, q, i - s], backward[k, q, i - s]
            flow = cut_off(begun[k, q, i - s], c, d) if warm else 0.0
            residual[2 * ((here + i) * ties + k) + 1] = d + flow


@inner
def _begin_grid(forward: Any, backward: Any, begun: Any, tables: Any, room: int, excess: Any) -> None:
    """What the flow to begin with takes and brings."""
    ahead, _, shift = tables
    ties, rows, width = forward.shape
    for k in range(ties):
        for r in range(rows):
            q, s = ahead[k, r], shift[k, r]
            if q >= 0:
                for i in range(max(0, -s), min(width, width - s)):
                    flow = cut_off(begun[k, r, i], forward[k, r, i], backward[k, r, i])
                    excess[room + r * width + i] -= flow
                    excess[room + q * width + i + s] += flow


@jit
def bridge_grid(
    forward: Any, backward: Any, begun: Any, tables: Any, piece: Any, room: int, residual: Any
) -> None:
    """Give the ties between different pieces their capacities too."""
    ahead, _, shift = tables
    ties, rows, width = forward.shape
    for k in range(ties):
        for r in range(rows):
            q, s = ahead[k, r], shift[k, r]
            if q < 0 or piece[q] == piece[r]:
                continue
            for i in range(max(0, -s), min(width, width - s)):
                here, there = room + r * width + i, room + q * width + i + s
                c, d = forward[k, r, i], backward[k, r, i]
                flow = cut_off(begun[k, r, i], c, d) if begun.shape[0] else 0.0
                residual[2 * (here * ties + k)] = c - flow
                residual[2 * (there * ties + k) + 1] = d + flow


@jit
def unload_grid(forward: Any, backward: Any, tables: Any, room: int, residual: Any, flow: Any) -> None:
    """Residuals to the flow (K, R, W), zero outside."""
    ahead, _, shift = tables
    ties, rows, width = forward.shape
    for k in range(ties):
        for r in range(rows):
            flow[k, r, :] = 0
            if ahead[k, r] < 0:
                continue
            s = shift[k, r]
            for i in range(max(0, -s), min(width, width - s)):
                arc = 2 * ((room + r * width + i) * ties + k)
                flow[k, r, i] = _flow(arc, forward[k, r, i], backward[k, r, i], residual)


@jit
def load_graph(
    scores: Any, forward: Any, backward: Any, begun: Any, pairs: Any, arcs: Any, trees: Any
) -> None:
    """Scores (n,) and capacities (E,) into excess and residuals; ``arcs`` (E, 2) are each tie's two arcs."""
    residual, excess = trees[:2]
    for i in range(len(scores)):
        excess[i] = scores[i]
    for e in range(len(pairs)):
        flow = cut_off(begun[e], forward[e], backward[e]) if len(begun) else 0.0
        excess[pairs[e, 0]] -= flow
        excess[pairs[e, 1]] += flow
        residual[arcs[e, 0]], residual[arcs[e, 1]] = forward[e] - flow, backward[e] + flow


@jit
def unload_graph(forward: Any, backward: Any, arcs: Any, residual: Any, flow: Any) -> None:
    """Residuals to the flow (E,)."""
    for e in range(len(flow)):
        flow[e] = _flow(arcs[e, 0], forward[e], backward[e], residual)
