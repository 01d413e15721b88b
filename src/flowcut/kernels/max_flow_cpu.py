"""Maximum flow on the CPU: pieces of a picture at once, then the whole; a batch item by item.

A picture of more than one piece (65 536 pixels: most of what a search touches then stays in the cache of its
core) is first solved piece by piece, without the ties between them. That sends most of the flow. Then those
ties get their capacities and one more search completes it: its result is a maximum flow whatever was sent
before. Pieces depend on the shape alone, so that the result does not depend on the number of threads.

Searches of different pieces share the arrays. They read each other's levels and excess across ties that have
no capacity yet, and whatever they see there, they do nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.jit import jit
from flowcut.kernels.layout import offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.max_flow_load import bridge_grid, load_graph, load_grid, unload_graph, unload_grid
from flowcut.kernels.max_flow_net import graph_net, grid_net
from flowcut.kernels.max_flow_search import search
from flowcut.kernels.max_flow_trees import CONTROLS, Trees, exchange, mark_source_side, plant
from flowcut.kernels.threads import run_items
from flowcut.kernels.workspace import workspace

_PIECE = 1 << 16


@jit
def _run_piece(net: Any, trees: Any, first: int, count: int) -> None:
    """Send what can be sent between some consecutive nodes."""
    exchange(first, count, net, trees)
    plant(first, count, trees)
    search(net, trees)


@jit
def _run(net: Any, trees: Any, room: int, mask: Any, fresh: bool) -> None:
    """Send what can be sent, and tell the side of the source."""
    if fresh:
        exchange(room, len(mask), net, trees)
    plant(room, len(mask), trees)
    mark_source_side(search(net, trees), net, trees, room, mask)


def tree_shapes(
    nodes: int, room: int, arcs: int, place: type[np.signedinteger[Any]]
) -> list[tuple[tuple[int, ...], Any]]:
    """Shapes and types of the work arrays of a search, in the order of :class:`Trees`."""
    wide = nodes + 2 * room
    return [
        ((arcs,), np.float64), ((wide,), np.float64), ((wide,), np.int32), ((wide,), place), ((wide,), place),
        ((wide,), np.int32), ((nodes + 3,), np.int32), ((wide,), np.uint8), ((4, nodes), np.int32),
        ((CONTROLS,), np.int64),
    ]  # fmt: skip


def _trees(nodes: int, room: int, arcs: int, place: type[np.signedinteger[Any]]) -> Trees:
    """Work arrays of this thread for one search."""
    return Trees(*workspace(tree_shapes(nodes, room, arcs, place)))


def _run_pieces(net: Any, trees: Trees, room: int, width: int, bounds: NDArray[np.int64]) -> None:
    """Search in all pieces, from row ``bounds[p]`` to row ``bounds[p + 1]``, on several threads."""
    lists = trees.lists.reshape(-1)
    buckets = np.empty((len(bounds) - 1, int(np.diff(bounds).max()) * width + 3), dtype=np.int32)

    def run(p: int) -> None:
        first, last = (int(bound) * width for bound in bounds[p : p + 2])
        own = trees._replace(
            lists=lists[4 * first : 4 * last].reshape(4, -1),
            bucket=buckets[p],
            control=np.empty(CONTROLS, dtype=np.int64),
        )
        _run_piece(tuple(net), tuple(own), room + first, last - first)

    run_items(run, len(bounds) - 1)


def grid_max_flow_cpu(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, offsets: list[int], proof: bool
) -> tuple[Tensor, Tensor]:
    """``grid_max_flow`` by Numba."""
    spatial = tuple(scores.shape[1:])
    table = offsets_from_flat(list(offsets), len(spatial))
    mask, flow = _outputs(scores, len(table) if proof else 0, spatial)
    if not mask.numel():
        return mask, flow
    net, room = grid_net(spatial, table)
    tables = tuple(row_tables(spatial, table))
    s, m = rows_view(scores, 1, spatial), mask.reshape(len(mask), -1).numpy()
    c, d, b, f = (rows_view(t, 2, spatial) for t in (forward, backward, begun, flow))
    (rows, width), place = rows_and_columns(spatial), np.int16 if net.degree < 1 << 15 else np.int32
    pieces = max(1, min(rows, rows * width // _PIECE))
    bounds = np.arange(pieces + 1) * rows // pieces
    piece = np.repeat(np.arange(pieces), np.diff(bounds))

    def run(n: int) -> None:
        trees = _trees(rows * width, room, (rows * width + 2 * room) * net.degree, place)
        ties, start = (c[n % len(c)], d[n % len(d)]), b[n % len(b)]
        load_grid(s[n], *ties, start, tables, piece, room, tuple(trees))
        if pieces > 1:
            _run_pieces(net, trees, room, width, bounds)
            bridge_grid(*ties, start, tables, piece, room, trees.residual)
        _run(tuple(net), tuple(trees), room, m[n], pieces == 1)
        if proof:
            unload_grid(*ties, tables, room, trees.residual, f[n])

    run_items(run, len(mask))
    return mask, flow


def graph_max_flow_cpu(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, pairs: Tensor, proof: bool
) -> tuple[Tensor, Tensor]:
    """``graph_max_flow`` by Numba."""
    mask, flow = _outputs(scores, len(pairs) if proof else 0, ())
    if not mask.numel():
        return mask, flow
    ends, nodes = pairs.contiguous().numpy(), scores.shape[1]
    net, arcs = graph_net(ends, nodes)
    m, f = mask.numpy(), flow.numpy()
    s, c, d, b = (t.detach().contiguous().numpy() for t in (scores, forward, backward, begun))

    def run(n: int) -> None:
        trees = _trees(nodes, 0, 2 * len(ends), np.int32)
        ties = c[n % len(c)], d[n % len(d)]
        load_graph(s[n], *ties, b[n % len(b)], ends, arcs, tuple(trees))
        _run(tuple(net), tuple(trees), 0, m[n], True)
        if proof:
            unload_graph(*ties, arcs, trees.residual, f[n])

    run_items(run, len(mask))
    return mask, flow


def _outputs(scores: Tensor, ties: int, spatial: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    mask = torch.empty(scores.shape, dtype=torch.bool)
    return mask, torch.empty((len(scores), ties, *spatial), dtype=torch.float64)
