"""Minimum cuts: enumeration, PyMaxflow, the certificate on many problems, real instances, refusals."""

from __future__ import annotations

import itertools
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.max_flow import MinCut, max_flow, solve_max_flow

_DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mrf"
_KINDS = ["integers", "reals", "contrast", "zeros", "ties", "disconnected"]


def _values(shape: tuple[int, ...], kind: str, g: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=g, dtype=torch.float64)
    if kind == "integers":
        return (6 * uniform).floor()
    if kind == "ties":
        return torch.ones(shape, dtype=torch.float64)
    if kind == "contrast":
        return 10 ** (16 * uniform - 8)
    if kind in ("zeros", "disconnected"):
        return uniform * (torch.rand(shape, generator=g) < 0.5)
    return uniform


def _problem(seed: int) -> tuple[str, Tensor, Tensor, Tensor | None, Neighborhood | Graph]:
    """One of hundreds: kind, 1 to 3 axes, all connectivities, graphs, directed ties."""
    g = torch.Generator().manual_seed(seed)
    kind, axes = _KINDS[seed % 6], (seed // 6) % 4
    where: Neighborhood | Graph
    if axes == 0:
        nodes = int(torch.randint(1, 40, (1,), generator=g))
        index = torch.randint(nodes, (2, 3 * nodes), generator=g)
        where = Graph(index[:, index[0] != index[1]], nodes)
        spatial, ties = (nodes,), (len(where),)
    else:
        largest = (60, 9, 4)[axes - 1]
        spatial = tuple(int(v) for v in torch.randint(1, largest + 1, (axes,), generator=g))
        where = Neighborhood.edges(axes, 1 + seed // 24 % axes)
        ties = (len(where), *spatial)
    sign = torch.randint(-1, 2, (2, 1, *spatial), generator=g)
    scores = sign * _values((2, 1, *spatial), kind, g) * (3 if kind != "ties" else 1)
    edges = _values((2, *ties), kind, g)
    reverse = _values((2, *ties), kind, g) if seed % 5 == 0 else None
    return kind, scores, edges, reverse, where


def _check_certificate(cut: MinCut, scores: Tensor, edges: Tensor, reverse: Tensor | None, where) -> None:
    """The gap is rounding, the flow keeps its bounds, and what is left over agrees with the labels."""
    reverse = edges if reverse is None else reverse
    total = scores.abs().flatten(1).sum(dim=1) + (edges + reverse).flatten(1).sum(dim=1)
    assert (cut.gap.abs() <= 1e-13 * total).all()
    assert (cut.flow <= edges).all()
    assert (-cut.flow <= reverse).all()
    assert cut.labels.shape == (scores.shape[0], *scores.shape[2:])
    # Pixel by pixel, by plain loops over the ties: s - div f >= 0 on ones and <= 0 on zeros.
    for n in range(len(scores)):
        left = scores[n, 0].numpy().copy()
        for here, there, flow in _listed(cut.flow[n], where, left.shape):
            left[here] -= flow
            left[there] += flow
        ones = cut.labels[n].numpy()
        slack = 1e-13 * float(total[n])
        assert (left[ones] >= -slack).all()
        assert (left[~ones] <= slack).all()


def _listed(values: Tensor, where: Neighborhood | Graph, spatial: tuple[int, ...]):
    """(pixel, pixel, value) of all ties inside."""
    if isinstance(where, Graph):
        yield from zip(*where.edge_index.tolist(), values.tolist(), strict=True)
        return
    for k, offset in enumerate(where.offsets):
        for here in itertools.product(*map(range, spatial)):
            there = tuple(np.add(here, offset))
            if all(0 <= t < size for t, size in zip(there, spatial, strict=True)):
                yield here, there, float(values[(k, *here)])
            else:
                assert values[(k, *here)] == 0


@pytest.mark.parametrize("block", range(6))
def test_certificate(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        _, scores, edges, reverse, where = _problem(seed)
        if isinstance(where, Neighborhood):
            inside = where.inside(tuple(scores.shape[2:]))
            edges, reverse = (t if t is None else torch.where(inside, t, 0.0) for t in (edges, reverse))
        cut = solve_max_flow(scores, edges, where, reverse)
        _check_certificate(cut, scores, edges, reverse, where)


def _energies(scores: Tensor, edges: Tensor, reverse: Tensor, where, spatial) -> dict[tuple[int, ...], float]:
    """The energy of every labeling of one small item."""
    s = scores.flatten().tolist()
    pixels = {p: i for i, p in enumerate(itertools.product(*map(range, spatial)))}
    if isinstance(where, Graph):
        pixels = {i: i for i in range(where.num_nodes)}
    ties = [
        (pixels[i], pixels[j], w, v)
        for (i, j, w), (_, _, v) in zip(
            _listed(edges, where, spatial), _listed(reverse, where, spatial), strict=True
        )
    ]
    found = {}
    for m in itertools.product((0, 1), repeat=len(s)):
        energy = sum(max(v, 0) * (1 - x) + max(-v, 0) * x for v, x in zip(s, m, strict=True))
        energy += sum(w * m[i] * (1 - m[j]) + v * (1 - m[i]) * m[j] for i, j, w, v in ties)
        found[m] = energy
    return found


@pytest.mark.parametrize(
    ("spatial", "where"),
    [
        ((10,), Neighborhood.edges(1)),
        ((3, 3), Neighborhood.edges(2)),
        ((2, 4), Neighborhood.edges(2, 2)),
        ((2, 2, 2), Neighborhood.edges(3, 3)),
        ((9,), Graph(torch.tensor([[0, 1, 2, 5, 5, 0, 8], [1, 2, 0, 6, 6, 7, 0]]), 9)),
    ],
)
@pytest.mark.parametrize("directed", [False, True])
def test_enumeration(spatial, where, directed: bool) -> None:
    g = torch.Generator().manual_seed(3)
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    inside = torch.ones(ties) if isinstance(where, Graph) else where.inside(spatial)
    for _ in range(6):
        scores = torch.randint(-4, 5, (1, 1, *spatial), generator=g).double()
        edges, reverse = (torch.randint(0, 4, (1, *ties), generator=g).double() * inside for _ in range(2))
        reverse = reverse if directed else edges
        cut = solve_max_flow(scores, edges, where, reverse if directed else None)
        energies = _energies(scores[0], edges[0], reverse[0], where, spatial)
        least = min(energies.values())
        best = [m for m, energy in energies.items() if energy == least]
        assert cut.energy.item() == cut.flow_value.item() == least
        # Of the optimal labelings the one that has a one only where all have it.
        assert cut.labels.flatten().int().tolist() == [min(column) for column in zip(*best, strict=True)]


def _peer(scores: Tensor, edges: Tensor, reverse: Tensor, where, spatial) -> tuple[float, list[bool]]:
    maxflow = pytest.importorskip("maxflow")
    number = np.arange(scores.numel()).reshape(spatial)
    graph = maxflow.GraphFloat()
    graph.add_nodes(scores.numel())
    for (i, j, w), (_, _, v) in zip(
        _listed(edges, where, spatial), _listed(reverse, where, spatial), strict=True
    ):
        graph.add_edge(number[i], number[j], w, v)
    for i, s in enumerate(scores.flatten().tolist()):
        graph.add_tedge(i, max(s, 0), max(-s, 0))
    return graph.maxflow(), [graph.get_segment(i) == 0 for i in range(scores.numel())]


def test_pymaxflow_finds_the_same() -> None:
    for seed in range(0, 600, 7):
        kind, scores, edges, reverse, where = _problem(seed)
        cut = solve_max_flow(scores, edges, where, reverse)
        spatial = tuple(scores.shape[2:])
        if isinstance(where, Neighborhood):
            edges = torch.where(where.inside(spatial), edges, 0.0)
            reverse = None if reverse is None else torch.where(where.inside(spatial), reverse, 0.0)
        back = edges if reverse is None else reverse
        for n in range(2):
            value, ones = _peer(scores[n], edges[n], back[n], where, spatial)
            largest = float(scores[n].abs().sum() + edges[n].sum() + back[n].sum())
            assert cut.flow_value[n].item() == pytest.approx(value, rel=0, abs=1e-13 * largest)
            if kind == "reals":  # one optimum
                assert cut.labels[n].flatten().tolist() == ones


def test_a_larger_picture_in_single_precision() -> None:
    g = torch.Generator().manual_seed(0)
    scores, edges = torch.randn(3, 1, 60, 70, generator=g), torch.rand(3, 4, 60, 70, generator=g)
    cut = solve_max_flow(scores, edges)
    assert torch.equal(cut.labels, max_flow(scores.double(), edges.double()))
    assert torch.equal(cut.labels, max_flow(scores, edges.unsqueeze(1)))
    assert (cut.gap.abs() <= 1e-9).all()
    assert 0.1 < cut.labels.float().mean() < 0.9
    labels = [max_flow(scores[n : n + 1], edges[n : n + 1]) for n in range(3)]
    assert torch.equal(cut.labels, torch.cat(labels))
    half = max_flow(scores.half(), edges.half())
    assert torch.equal(half, max_flow(scores.half().double(), edges.half().double()))


def test_no_ties_is_the_sign_of_the_score_and_strong_ties_are_the_sign_of_the_sum() -> None:
    scores = torch.tensor([[[2.0, -1.0, 0.0, 0.5]], [[-2.0, 1.0, 0.0, 0.5]]])
    assert max_flow(scores, torch.zeros(2, 1, 4)).int().tolist() == [[1, 0, 0, 1], [0, 1, 0, 1]]
    assert max_flow(scores, torch.full((2, 1, 4), 1e8)).int().tolist() == [[1] * 4, [0] * 4]
    # Either label: 0.
    assert not max_flow(scores.new_tensor([[[1.0, -1.0]]]), torch.ones(1, 1, 2)).any()
    assert not max_flow(torch.zeros(1, 1, 3, 3), torch.ones(1, 2, 3, 3)).any()


def test_what_both_labels_cost_alike_changes_nothing() -> None:
    g = torch.Generator().manual_seed(1)
    costs = torch.randint(0, 9, (1, 2, 7, 8), generator=g).double()
    edges = torch.randint(0, 4, (1, 2, 7, 8), generator=g).double()
    common = torch.randint(0, 9, (1, 1, 7, 8), generator=g).double()
    before, after = costs[:, :1] - costs[:, 1:], (costs + common)[:, :1] - (costs + common)[:, 1:]
    assert torch.equal(max_flow(before, edges), max_flow(after, edges))
    # The opposite problem has the opposite labels, ties between optima apart.
    scores = torch.randn(1, 1, 7, 8, generator=g)
    assert torch.equal(max_flow(-scores, edges), ~max_flow(scores, edges))


def test_directed_ties_count_one_way() -> None:
    scores, one, zero = torch.tensor([[[1.0, -1.0]]]), torch.full((1, 1, 2), 5.0), torch.zeros(1, 1, 2)
    # The first is 1 and the second 0: only the forward weight is paid for that.
    assert max_flow(scores, zero, reverse_edges=one).int().tolist() == [[1, 0]]
    cut = solve_max_flow(scores, one, reverse_edges=zero)
    assert cut.energy.item() == 1
    assert cut.flow.tolist() == [[[1.0, 0.0]]]


def test_start() -> None:
    g = torch.Generator().manual_seed(1)
    scores = torch.randint(-9, 10, (2, 1, 12, 13), generator=g).double()
    edges = torch.randint(0, 5, (2, 2, 12, 13), generator=g).double()
    first = solve_max_flow(scores, edges)
    again = solve_max_flow(scores + 1, edges, start=first.flow)
    assert torch.equal(again.labels, max_flow(scores + 1, edges))
    assert (again.gap == 0).all()
    wild = 100 * torch.randn(1, 1, 2, 12, 13, generator=g)
    assert torch.equal(max_flow(scores, edges, start=wild.round()), first.labels)


def test_nan_outside_is_ignored_and_gradients_stop() -> None:
    scores = torch.randn(1, 1, 4, 5, requires_grad=True)
    edges = torch.rand(1, 4, 4, 5)
    inside = Neighborhood.edges(2, 2).inside((4, 5))
    bad = torch.where(inside, edges, float("nan")).requires_grad_()
    cut = solve_max_flow(scores, bad, start=bad)
    assert torch.equal(cut.labels, max_flow(scores, edges))
    assert not any(t.requires_grad for t in cut)
    assert not cut.flow.isnan().any()


@pytest.mark.parametrize("shape", [(0, 1, 3, 4), (2, 1, 0, 4), (1, 1, 1, 1), (0, 1, 5)])
def test_empty_and_one_pixel(shape) -> None:
    axes = len(shape) - 2
    cut = solve_max_flow(torch.ones(shape), torch.ones(shape[0], axes, *shape[2:]))
    assert cut.labels.shape == (shape[0], *shape[2:])
    assert cut.labels.all()
    assert cut.gap.tolist() == [0.0] * shape[0]


def test_compiles_and_exports() -> None:
    scores, edges = torch.randn(2, 1, 5, 6), torch.rand(2, 2, 5, 6)
    expected = solve_max_flow(scores, edges)
    for run in (
        torch.compile(solve_max_flow, fullgraph=True, backend="aot_eager"),
        torch.export.export(_Module(), (scores, edges)).module(),
    ):
        found = run(scores, edges)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class _Module(torch.nn.Module):
    def forward(self, scores: Tensor, edges: Tensor) -> tuple[Tensor, ...]:
        return tuple(solve_max_flow(scores, edges))


def _with(value: float, where: tuple[int, ...]) -> Tensor:
    edges = torch.ones(1, 2, 3, 4)
    edges[where] = value
    return edges


_GRAPH = Graph(torch.tensor([[0], [1]]), 3)
_NAN, _INF = float("nan"), float("inf")
_SCORES, _EDGES = torch.zeros(1, 1, 3, 4), torch.ones(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"edges: expected finite values >= 0 .*, got -1 at", (_SCORES, _with(-1, (0, 0, 1, 1)))),
        (ValueError, r"edges: expected finite values >= 0 .*, got nan", (_SCORES, _with(_NAN, (0, 1, 0, 0)))),
        (ValueError, r"edges: expected finite values >= 0 .*, got inf", (_SCORES, _with(_INF, (0, 1, 0, 0)))),
        (ValueError, "scores: expected finite values, got nan", (_SCORES * _NAN, _EDGES)),
        (ValueError, "scores: expected one channel .*, got 2", (torch.zeros(1, 2, 3, 4), _EDGES)),
        (ValueError, r"scores: expected shape \(N, C, \*spatial\)", (torch.zeros(3, 4), _EDGES)),
        (ValueError, r"edges: expected shape \(1, 2, 3, 4\), got", (_SCORES, torch.ones(1, 2, 4, 3))),
        (ValueError, r"edges: expected shape \(1, 2, 3, 4\), got", (_SCORES, torch.ones(2, 2, 3, 4))),
        (ValueError, r"edges: expected shape \(1, 2, 3, 4\), got", (_SCORES, torch.ones(1, 2, 2, 3, 4))),
        (ValueError, "edges: expected 2, 4 channels", (_SCORES, torch.ones(1, 3, 3, 4))),
        (TypeError, "scores: expected a floating-point tensor", (_SCORES.long(), _EDGES)),
        (TypeError, "edges: expected a floating-point tensor", (_SCORES, _EDGES.long())),
        (TypeError, "edges: expected a tensor, got list", (_SCORES, [1.0])),
        (ValueError, "neighborhood: expected offsets of 2 axes", (_SCORES, _EDGES, Neighborhood.edges(3))),
        (ValueError, "neighborhood: expected no pixel tied to", (_SCORES, _EDGES, Neighborhood.window(2, 3))),
        (ValueError, r"scores: expected shape \(N, C, 3\)", (_SCORES, _EDGES, _GRAPH)),
        (ValueError, "reverse_edges: expected shape", (_SCORES, _EDGES, None, torch.ones(1, 1, 3, 4))),
        (ValueError, "reverse_edges: expected finite values >= 0", (_SCORES, _EDGES, None, -_EDGES)),
        (ValueError, "start: expected finite values inside", (_SCORES, _EDGES, None, None, _EDGES * _INF)),
    ],
)  # fmt: skip
def test_bad_inputs(error, message: str, arguments) -> None:
    with pytest.raises(error, match=message) as caught:
        max_flow(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not _DATA.is_dir(), reason="no MRF energies; set FLOWCUT_DATA to the folder with mrf/")
@pytest.mark.parametrize("path", sorted((_DATA / "maxflow").glob("*.max.xz")), ids=lambda path: path.stem)
def test_real_instances(path: Path) -> None:
    reference = json.loads((_DATA / "reference.json").read_text())
    known = reference[f"maxflow_{path.name.removesuffix('.max.xz')}"]
    scores, edges, reverse, graph, rest = _read_dimacs(path)
    cut = solve_max_flow(scores, edges, graph, reverse)
    assert cut.energy.item() + rest == cut.flow_value.item() + rest == known["flow"]


def _read_dimacs(path: Path) -> tuple[Tensor, Tensor, Tensor, Graph, float]:
    """Nodes 1 and 2 are source and sink; what flows through one node from source to sink comes on top."""
    arcs, nodes = [], 0
    with lzma.open(path, "rt") as lines:
        for line in lines:
            if line.startswith("p"):
                nodes = int(line.split()[2]) - 2
            elif line.startswith("a"):
                arcs.append([int(word) for word in line.split()[1:4]])
    table = np.array(arcs)
    tail, head, weight = table.T
    source, sink = np.zeros(nodes), np.zeros(nodes)
    np.add.at(source, head[tail == 1] - 3, weight[tail == 1])
    np.add.at(sink, tail[head == 2] - 3, weight[head == 2])
    inner = (tail > 2) & (head > 2)
    index = torch.from_numpy(np.stack([tail[inner], head[inner]]) - 3)
    scores = torch.from_numpy(source - sink).reshape(1, 1, -1)
    edges = torch.from_numpy(weight[inner].astype(np.float64))[None]
    through = float(np.minimum(source, sink).sum())
    return scores, edges, torch.zeros_like(edges), Graph(index, nodes), through
