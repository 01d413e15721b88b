"""Exact minimum cuts against PyMaxflow (Boykov-Kolmogorov), whole calls and the bare search."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare import Duel, duel_rows, seconds_rows
from benchmarks.cut_instances import KINDS, Instance, energy, listed, real, synthetic
from benchmarks.harness import Contender, take_turns
from benchmarks.options import Options
from benchmarks.problem import Outcome
from flowcut.cut.max_flow import max_flow, solve_max_flow

try:
    import maxflow
except ImportError:  # a peer, not a part
    maxflow = None

TITLE = "Minimum cuts: 1.3 times faster than PyMaxflow, with equal values"
TARGET = 1.3
# Relative: sums of some 100 000 numbers in double precision, in another order.
ACCURACY = 1e-10
OURS = "flowcut"
_EMPTY = np.empty(0)


def run(options: Options) -> dict[str, Any]:
    """Instance by instance: equal values first, then turns. ``--size`` replaces 512 (and 256 by its half)."""
    if maxflow is None:
        return {"refused": "PyMaxflow is not installed"}
    side = options.side(512)
    cube = max(2, round(64 * side / 512))
    shapes = [(side // 2, side // 2), (side, side), (cube, cube, cube)]
    instances = [synthetic(kind, shape) for shape in shapes for kind in KINDS]
    if options.size is None:
        instances += real()
    return {"families": [_compare(instance, options) for instance in instances]}


def _compare(instance: Instance, options: Options) -> dict[str, Any]:
    certificate = solve_max_flow(*_arguments(instance))
    least = certificate.flow_value.item()
    rows: list[Contender | dict[str, Any]] = []
    for name, solve in (
        (OURS, _ours(instance)),
        ("PyMaxflow, add_grid_edges", _peer(instance, _grid_edges)),
        ("PyMaxflow, add_edges", _peer(instance, _edges)),
    ):
        # Our flow proves that no labeling costs less; a labeling that costs as much is optimal.
        error = abs(energy(instance, solve().value) - least) / max(least, 1e-300)
        if error <= ACCURACY:
            rows.append(Contender(name, "", solve, {"energy": error}))
        else:
            rows.append({"contender": name, "errors": {"energy": error}, "refused": "not optimal"})
    take_turns([row for row in rows if isinstance(row, Contender)], options.effort)
    done = [row.row() if isinstance(row, Contender) else row for row in rows]
    duel = Duel(OURS.__eq__, lambda name: name != OURS, TARGET).judge(done)
    return {"family": instance.name, "flow": least, "rows": done, "duel": duel}


def _arguments(instance: Instance) -> tuple[Any, ...]:
    return instance.scores, instance.edges, instance.neighborhood, instance.reverse


def _ours(instance: Instance) -> Callable[[], Outcome]:
    def solve() -> Outcome:
        return Outcome(max_flow(*_arguments(instance))[0].numpy(), _EMPTY, _EMPTY)

    return solve


def _peer(instance: Instance, connect: Callable[[Any, Any, Instance, Any], None]) -> Callable[[], Outcome]:
    """Building the graph and reading the labels count as assembly; lists of ties are made beforehand."""
    s = instance.scores[0, 0].numpy()
    ties = listed(instance)

    def solve() -> Outcome:
        start = time.perf_counter()
        graph = maxflow.GraphFloat(s.size, len(ties[0]))
        nodes = graph.add_grid_nodes(s.shape)
        connect(graph, nodes, instance, ties)
        graph.add_grid_tedges(nodes, np.maximum(s, 0), np.maximum(-s, 0))
        begun = time.perf_counter()
        graph.maxflow()
        ended = time.perf_counter()
        labels = ~graph.get_grid_segments(nodes)
        return Outcome(labels, _EMPTY, _EMPTY, begun - start + time.perf_counter() - ended)

    return solve


def _grid_edges(graph: Any, nodes: NDArray[np.int64], instance: Instance, ties: Any) -> None:
    for k, offset in enumerate(instance.neighborhood.offsets):
        structure = np.zeros((3,) * nodes.ndim)
        structure[tuple(1 + o for o in offset)] = 1
        forward = instance.edges[0, k].numpy()
        graph.add_grid_edges(nodes, forward, structure, symmetric=instance.reverse is None)
        if instance.reverse is not None:
            # Weights belong to the pixel that an arc leaves: move them to the other end.
            backward = np.roll(instance.reverse[0, k].numpy(), offset, axis=tuple(range(nodes.ndim)))
            graph.add_grid_edges(nodes, backward, np.flip(structure))


def _edges(graph: Any, nodes: NDArray[np.int64], instance: Instance, ties: Any) -> None:
    graph.add_edges(*ties)


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The verdicts, and the seconds of whole calls and of the peers' bare search."""
    if "refused" in result:
        return [(f"{TITLE}: {result['refused']}", [], [])]
    families = result["families"]
    return [
        (f"{TITLE} (one picture at a time)", *duel_rows(families)),
        ("Seconds from tensors or arrays to labels (median)", *seconds_rows(families)),
        ("Seconds without the peer's graph building", *seconds_rows(families, "seconds_without_assembly")),
    ]
