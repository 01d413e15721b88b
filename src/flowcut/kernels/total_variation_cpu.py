"""Total variation on the CPU, item by item and channel by channel over the threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.layout import offsets_from_flat, row_tables
from flowcut.kernels.max_flow_cpu import tree_shapes
from flowcut.kernels.max_flow_net import Net, graph_net, grid_net
from flowcut.kernels.max_flow_trees import Trees
from flowcut.kernels.threads import run_items
from flowcut.kernels.total_variation_divide import divide
from flowcut.kernels.total_variation_load import load_graph, load_grid, measure, unload_graph, unload_grid
from flowcut.kernels.workspace import workspace

Found = tuple[Tensor, Tensor, Tensor]
Work = tuple[NDArray[Any], ...]
# Of half the range of the scores: excess below this is rounding.
TOLERANCE = 1e-12


def _arrays(nodes: int, room: int, arcs: int, place: type[np.signedinteger[Any]]) -> tuple[Trees, Work, Work]:
    """Work arrays of this thread: for searches, for the pieces, and for what comes out."""
    searching = tree_shapes(nodes, room, arcs, place)
    pieces: list[tuple[tuple[int, ...], Any]] = [((nodes,), np.int32)] * 2 + [((nodes, 2), np.int32)]
    sums: list[tuple[tuple[int, ...], Any]] = [
        ((nodes,), np.float64),
        ((nodes,), np.int64),
        ((nodes,), np.int64),
    ]
    arrays = workspace([*searching, *pieces, *sums])
    count = len(searching)
    return Trees(*arrays[:count]), tuple(arrays[count : count + 3]), tuple(arrays[count + 3 :])


def _solve(
    x: NDArray[np.float64],
    net: Net,
    room: int,
    place: type[np.signedinteger[Any]],
    load: Callable[..., object],
    unload: Callable[..., object],
    block: NDArray[np.int64],
) -> None:
    """One picture: ``load(middle, cap, trees)``, divide, ``unload(middle, cap, residual, work)``."""
    nodes = len(x)
    arcs = (nodes + 2 * room) * net.degree if net.heads is None else len(net.heads)
    trees, pieces, sums = _arrays(nodes, room, arcs, place)
    middle, scale, cap = measure(x)
    load(middle, cap, tuple(trees))
    divide(tuple(net), tuple(trees), pieces, room, TOLERANCE * scale, block)
    unload(middle, cap, trees.residual, sums)


def grid_total_variation_cpu(scores: Tensor, weights: Tensor, offsets: list[int], proof: bool) -> Found:
    """``grid_total_variation`` by Numba."""
    spatial, channels = tuple(scores.shape[2:]), scores.shape[1]
    table = offsets_from_flat(list(offsets), len(spatial))
    found = _outputs(scores, (len(table) if proof else 0, *spatial))
    if not scores.numel():
        return found
    net, room = grid_net(spatial, table)
    tables = tuple(row_tables(spatial, table))
    x, w, f = (rows_view(t, lead, spatial) for t, lead in ((scores, 2), (weights, 3), (found[1], 3)))
    z, block = (t.reshape(*t.shape[:2], -1).numpy() for t in (found[0], found[2]))
    place = np.int16 if net.degree < 1 << 15 else np.int32

    def run(item: int) -> None:
        n, c = divmod(item, channels)
        here, ties = x[n, c], w[n % len(w), c % w.shape[1]]

        def load(middle: float, cap: float, trees: Any) -> None:
            load_grid(here, ties, middle, cap, tables, room, trees)

        def unload(middle: float, cap: float, residual: Any, work: Any) -> None:
            unload_grid(
                here.reshape(-1),
                ties,
                middle,
                cap,
                tables,
                room,
                residual,
                work,
                block[n, c],
                z[n, c],
                f[n, c],
            )

        _solve(here.reshape(-1), net, room, place, load, unload, block[n, c])

    run_items(run, scores.shape[0] * channels)
    return found


def graph_total_variation_cpu(scores: Tensor, weights: Tensor, pairs: Tensor, proof: bool) -> Found:
    """``graph_total_variation`` by Numba."""
    (items, channels, nodes), ends = scores.shape, pairs.contiguous().numpy()
    found = _outputs(scores, (len(pairs) if proof else 0,))
    if not scores.numel():
        return found
    net, arcs = graph_net(ends, nodes)
    x, w = (t.detach().contiguous().numpy() for t in (scores, weights))
    z, f, block = (t.numpy() for t in found)

    def run(item: int) -> None:
        n, c = divmod(item, channels)
        here, ties = x[n, c], w[n % len(w), c % w.shape[1]]

        def load(middle: float, cap: float, trees: Any) -> None:
            load_graph(here, ties, middle, cap, arcs, trees)

        def unload(middle: float, cap: float, residual: Any, work: Any) -> None:
            unload_graph(here, ties, middle, cap, ends, arcs, residual, work, block[n, c], z[n, c], f[n, c])

        _solve(here, net, 0, np.int32, load, unload, block[n, c])

    run_items(run, items * channels)
    return found


def _outputs(scores: Tensor, ties: tuple[int, ...]) -> Found:
    z = torch.empty(scores.shape, dtype=torch.float64)
    flow = torch.empty((*scores.shape[:2], *ties), dtype=torch.float64)
    return z, flow, torch.empty(scores.shape, dtype=torch.int64)
