"""SoftCut is an electric circuit (thesis, Sect. 2.1), and a cut sees the whole picture (thesis, Appendix A).

Currents are added up node by node in plain Python, potentials come from networkx' resistances between nodes
and from closed forms, so that nothing here is computed the way the layer computes it.
"""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as connected_components
from torch import Tensor

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood

EXACT = fc.CG(rtol=1e-13)
numbers = st.integers(-(10**6), 10**6).map(lambda n: n / 1e4)


def _solve(scores: Tensor, edges: Tensor, confidence: Tensor | float = 1.0, connectivity: int = 1) -> Tensor:
    where = Neighborhood.edges(scores.ndim - 2, connectivity)
    return fc.soft_cut(scores, edges, confidence, solver=fc.Cholesky(), neighborhood=where)


def _resistors(edges: Tensor, connectivity: int = 1) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Pixel, neighbour and conductance of every resistor of one picture, edges (K, *spatial)."""
    spatial = tuple(edges.shape[1:])
    found = []
    for k, offset in enumerate(Neighborhood.edges(len(spatial), connectivity).offsets):
        for i in itertools.product(*map(range, spatial)):
            j = tuple(a + b for a, b in zip(i, offset, strict=True))
            if all(0 <= a < n for a, n in zip(j, spatial, strict=True)):
                found.append((i, j, float(edges[(k, *i)])))
    return found


@settings(deadline=None)
@given(score=numbers)
def test_one_pixel_keeps_its_score(score: float) -> None:
    """By Ohm's law V = R_0 I = 1 I: no neighbour, no change."""
    scores = torch.tensor([[[[score]]]], dtype=torch.float64)
    assert float(fc.soft_cut(scores, torch.ones(1, 2, 1, 1, dtype=torch.float64))) == score


@settings(max_examples=40, deadline=None)
@given(first=numbers, second=numbers, exponent=st.floats(-12, 12))
def test_two_pixels_obey_kirchhoff_and_the_closed_form(first: float, second: float, exponent: float) -> None:
    """Thesis, Fig. 11 and (24), for weak, medium and very strong edges."""
    g = 10**exponent
    scores = torch.tensor([[[first, second]]], dtype=torch.float64)
    v = fc.soft_cut(scores, torch.full((1, 1, 2), g, dtype=torch.float64), solver=EXACT).flatten().tolist()
    size = max(abs(first), abs(second), 1e-300)
    assert v[0] == pytest.approx((g * (first + second) + first) / (2 * g + 1), abs=1e-12 * size)
    assert v[1] == pytest.approx((g * (first + second) + second) / (2 * g + 1), abs=1e-12 * size)
    # (24b) and (24c): the current i through the edge; (24a): it drops v_0 - v_1 there.
    current = first - v[0]
    assert second + current == pytest.approx(v[1], abs=1e-12 * size)
    assert current / g == pytest.approx(v[0] - v[1], abs=1e-11 * size * max(1, 1 / g))


def test_two_pixels_go_from_their_scores_to_the_mean() -> None:
    """Thesis, Fig. 9: at infinite conductance two resistors of 1 Ohm lie parallel to both generators."""
    scores = torch.tensor([3.0, -1.0], dtype=torch.float64).expand(61, 1, 2)
    conductances = torch.logspace(-15, 15, 61, dtype=torch.float64)
    v = fc.soft_cut(scores, conductances[:, None, None].expand(-1, 1, 2), solver=EXACT)[:, 0]
    torch.testing.assert_close(v[0], scores[0, 0], rtol=0, atol=1e-14)
    torch.testing.assert_close(v[-1], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-14)
    assert (v[:, 0].diff() <= 1e-14).all()
    assert (v[:, 1].diff() >= -1e-14).all()


@pytest.mark.parametrize("spatial", [(12,), (3, 4), (2, 3, 2)])
def test_perfect_ties_give_n_pixels_their_mean(spatial: tuple[int, ...]) -> None:
    """N resistors of 1 Ohm in parallel: V = sum I / N."""
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 1, *spatial, generator=g, dtype=torch.float64)
    v = _solve(scores, torch.full((1, len(spatial), *spatial), 1e11, dtype=torch.float64))
    torch.testing.assert_close(v, scores.mean().expand_as(v), rtol=0, atol=1e-9)


def test_perfect_edges_partition_the_picture() -> None:
    """Thesis, Fig. 10: every part takes the mean of its scores, sure pixels speak for unsure ones."""
    g = torch.Generator().manual_seed(0)
    parts = torch.randint(3, (7, 8), generator=g)
    scores = torch.randn(1, 1, 7, 8, generator=g, dtype=torch.float64)
    edges = torch.zeros(1, 2, 7, 8, dtype=torch.float64)
    edges[0, 0, :-1] = torch.where(parts[:-1] == parts[1:], 1e11, 0.0)
    edges[0, 1, :, :-1] = torch.where(parts[:, :-1] == parts[:, 1:], 1e11, 0.0)
    v = _solve(scores, edges)[0, 0]
    for value in range(3):
        pieces, count = connected_components(parts.numpy() == value)
        for piece in range(1, count + 1):
            inside = torch.from_numpy(pieces == piece)
            mean = scores[0, 0][inside].mean()
            torch.testing.assert_close(v[inside], mean.expand(int(inside.sum())), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("spatial", "connectivity"), [((9,), 1), ((5, 6), 1), ((5, 6), 2), ((3, 4, 3), 3)])
def test_no_current_is_lost_at_any_node(spatial: tuple[int, ...], connectivity: int) -> None:
    """Thesis (25): what the generator gives flows through R_0 and to the neighbours, at every node."""
    g = torch.Generator().manual_seed(1)
    ties = len(Neighborhood.edges(len(spatial), connectivity))
    scores = torch.randn(1, 1, *spatial, generator=g, dtype=torch.float64)
    edges = 10 ** (4 * torch.rand(1, ties, *spatial, generator=g, dtype=torch.float64) - 2)
    confidence = 0.1 + torch.rand(1, 1, *spatial, generator=g, dtype=torch.float64)
    for solver in (EXACT, fc.Cholesky()):
        where = Neighborhood.edges(len(spatial), connectivity)
        v = fc.soft_cut(scores, edges, confidence, solver=solver, neighborhood=where)[0, 0]
        lost = {i: float(confidence[0, 0][i] * (scores[0, 0][i] - v[i])) for i in np.ndindex(spatial)}
        for i, j, conductance in _resistors(edges[0], connectivity):
            current = conductance * float(v[i] - v[j])
            lost[i] -= current
            lost[j] += current
        assert max(map(abs, lost.values())) < 1e-9


def test_potentials_are_those_of_a_resistor_network() -> None:
    """A unit current into p, out at the ground o: V_q = (R_po + R_qo - R_pq) / 2, resistances by networkx."""
    g = torch.Generator().manual_seed(2)
    spatial = (4, 5)
    edges = 0.1 + 3 * torch.rand(1, 2, *spatial, generator=g, dtype=torch.float64)
    confidence = 0.2 + torch.rand(1, 1, *spatial, generator=g, dtype=torch.float64)
    network = nx.Graph()
    for i, j, conductance in _resistors(edges[0]):
        network.add_edge(i, j, weight=conductance)
    for i in np.ndindex(spatial):
        network.add_edge(i, "ground", weight=float(confidence[0, 0][i]))
    resistance = nx.resistance_distance(network, weight="weight", invert_weight=False)
    p = (1, 3)
    scores = torch.zeros(1, 1, *spatial, dtype=torch.float64)
    # The generator of score s behind a resistor of conductance d is a current d s.
    scores[0, 0][p] = 1 / confidence[0, 0][p]
    v = _solve(scores, edges, confidence)[0, 0]
    for q in np.ndindex(spatial):
        expected = (resistance[p]["ground"] + resistance[q]["ground"] - resistance[p].get(q, 0.0)) / 2
        assert float(v[q]) == pytest.approx(expected, abs=1e-12)


# Appendix A.


def _path(p: tuple[int, int], q: tuple[int, int], connectivity: int) -> list[tuple[int, int]]:
    """From p to q, first diagonally where that is allowed, then straight."""
    way = [p]
    while way[-1] != q:
        (y, x), (dy, dx) = way[-1], (np.sign(b - a) for a, b in zip(way[-1], q, strict=True))
        both = dy != 0 and dx != 0
        way.append((y + int(dy), x if both and connectivity == 1 else x + int(dx)))
    return way


def _far(p: tuple[int, int], shape: tuple[int, int], distance: int, connectivity: int) -> tuple[int, int]:
    """A pixel at this distance in the lattice."""
    for q in itertools.product(*map(range, shape)):
        steps = [abs(a - b) for a, b in zip(p, q, strict=True)]
        if (sum(steps) if connectivity == 1 else max(steps)) == distance:
            return q
    raise AssertionError(distance)


def _construction(
    shape: tuple[int, int], way: list[tuple[int, int]], strength: float, connectivity: int
) -> Tensor:
    """Edges of strength M along the way, 0 elsewhere: the subgraph A of the proof."""
    offsets = Neighborhood.edges(2, connectivity).offsets
    edges = torch.zeros(1, len(offsets), *shape, dtype=torch.float64)
    for i, j in itertools.pairwise(way):
        step = (j[0] - i[0], j[1] - i[1])
        first, step = (i, step) if step in offsets else (j, (-step[0], -step[1]))
        edges[(0, offsets.index(step), *first)] = strength
    return edges


@pytest.mark.parametrize("layer", ["max_flow", "soft_cut", "total_variation"])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_no_distance_bounds_what_a_pixel_sees(layer: str, connectivity: int, sign: float) -> None:
    """Theorem A.1, by its proof: for every k < d_border a pixel p' at distance k + 1 changes the label of p.

    Along a path A of n pixels from p to p' all scores are B; outside, nothing touches A. Then the score of p'
    alone goes below -(n - 1) B, and with ties M strong enough all of A changes its label.
    """
    shape, p, b = (6, 9), (1, 2), sign
    where = Neighborhood.edges(2, connectivity)
    # d_border: from p to the farthest pixel.
    border = 4 + 6 if connectivity == 1 else 6
    for distance in range(1, border + 1):
        q = _far(p, shape, distance, connectivity)
        way = _path(p, q, connectivity)
        n = len(way)
        assert n == distance + 1
        # For SoftCut the sign follows the mean of A up to (length)^2 / M.
        edges = _construction(shape, way, {"soft_cut": 1e7}.get(layer, 4.0 * n), connectivity)
        g = torch.Generator().manual_seed(distance)
        scores = torch.randn(1, 1, *shape, generator=g, dtype=torch.float64)
        for i in way:
            scores[0, 0][i] = b
        changed = scores.clone()
        changed[0, 0][q] = -b * (n - 1) - 0.5 * b
        before, after = (_labels(layer, s, edges, where) for s in (scores, changed))
        for i in way:
            assert bool(before[i]) == (b > 0)
            assert bool(after[i]) == (b < 0)
        outside = torch.ones(shape, dtype=torch.bool)
        outside[tuple(zip(*way, strict=True))] = False
        assert torch.equal(before[outside], after[outside])


def _labels(layer: str, scores: Tensor, edges: Tensor, where: Neighborhood) -> Tensor:
    if layer == "max_flow":
        return fc.max_flow(scores, edges, where)[0]
    if layer == "total_variation":
        return fc.total_variation(scores, edges, where)[0, 0] > 0
    return fc.soft_cut(scores, edges, solver=fc.Cholesky(), neighborhood=where)[0, 0] > 0


def _influence(edges: Tensor, p: tuple[int, ...], confidence: float = 1.0) -> Tensor:
    """d x_p / d s_q for all q; edges (K, *spatial)."""
    scores = torch.zeros(1, 1, *edges.shape[1:], dtype=torch.float64, requires_grad=True)
    x = fc.soft_cut(scores, edges[None], confidence, solver=fc.Cholesky())
    return torch.autograd.grad(x[0, 0][p], scores)[0][0, 0]


def test_every_score_on_a_path_of_positive_edges_has_influence() -> None:
    """Appendix A, last remark: d x_p / d s_q > 0 exactly where a path joins p and q. They sum to 1."""
    g = torch.Generator().manual_seed(3)
    for _ in range(10):
        edges = torch.rand(2, 6, 7, generator=g, dtype=torch.float64)
        edges *= torch.rand(2, 6, 7, generator=g) < 0.55
        network = nx.Graph()
        network.add_nodes_from(np.ndindex(6, 7))
        network.add_edges_from((i, j) for i, j, weight in _resistors(edges) if weight > 0)
        influence = _influence(edges, (3, 3))
        reached = nx.node_connected_component(network, (3, 3))
        assert {q for q in np.ndindex(6, 7) if influence[q] > 0} == reached
        assert all(influence[q] == 0 for q in np.ndindex(6, 7) if q not in reached)
        assert float(influence.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("w", [0.01, 0.5, 3.0, 100.0])
def test_influence_decays_as_the_green_function_of_a_chain(w: float) -> None:
    """A chain of n pixels, all edges w: (1 + 2 w) g_q - w (g_{q-1} + g_{q+1}) = [q = p] inside.

    Exponentials e^{+-r q} with cosh r = 1 + 1 / (2 w) solve it away from p; at the ends no current leaves, so
    that g is even about 1/2 and n + 1/2; and the step in its slope at p is -1 / w. Together

        d x_p / d s_q = cosh(r (min(p, q) - 1/2)) cosh(r (n + 1/2 - max(p, q))) / (w sinh(r) sinh(r n)).
    """
    n, r = 24, math.acosh(1 + 1 / (2 * w))
    edges = torch.full((1, n), w, dtype=torch.float64)
    for p in (1, 7, 24):
        influence = _influence(edges, (p - 1,))
        for q in range(1, n + 1):
            low, high = min(p, q), max(p, q)
            expected = math.cosh(r * (low - 0.5)) * math.cosh(r * (n + 0.5 - high))
            expected /= w * math.sinh(r) * math.sinh(r * n)
            assert float(influence[q - 1]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("w", [0.05, 1.0, 20.0])
def test_far_from_the_ends_influence_is_a_plain_exponential(w: float) -> None:
    """e^{-r |p - q|} / sqrt(1 + 4 w), the middle of a chain whose ends are too far to matter."""
    r, n = math.acosh(1 + 1 / (2 * w)), 601
    influence = _influence(torch.full((1, n), w, dtype=torch.float64), (n // 2,))
    steps = torch.arange(40, dtype=torch.float64)
    expected = torch.exp(-r * steps) / math.sqrt(1 + 4 * w)
    torch.testing.assert_close(influence[n // 2 : n // 2 + 40], expected, rtol=1e-8, atol=0)


def test_the_set_that_a_cut_sees_against_enumeration() -> None:
    """A label of max_flow is seen to depend on score q exactly where some value of that score changes it."""
    g = torch.Generator().manual_seed(4)
    spatial, p = (2, 3), (0, 0)
    seen_some = 0
    for _ in range(20):
        scores = torch.randn(1, 1, *spatial, generator=g, dtype=torch.float64)
        edges = 2 * torch.rand(1, 2, *spatial, generator=g, dtype=torch.float64)
        for q in np.ndindex(spatial):
            found = set()
            for value in (-1e3, 1e3):
                moved = scores.clone()
                moved[0, 0][q] = value
                found.add(bool(fc.max_flow(moved, edges)[0][p]))
                assert bool(fc.max_flow(moved, edges)[0][p]) == _enumerated(moved[0, 0], edges[0])[p]
            # Labels are monotone in every score, so that the extremes show all that any value can do.
            between = scores.expand(9, -1, -1, -1).clone()
            between[:, 0, q[0], q[1]] = torch.linspace(-8, 8, 9, dtype=torch.float64)
            assert set(fc.max_flow(between, edges.expand(9, -1, -1, -1))[(slice(None), *p)].tolist()) <= found
            seen_some += len(found) == 2 and q != p
    assert seen_some > 5


def _enumerated(scores: Tensor, edges: Tensor) -> np.ndarray:
    """The labeling of least energy, (1) of the thesis."""
    best, result = math.inf, np.zeros(scores.shape, dtype=bool)
    ties = _resistors(edges)
    for bits in itertools.product((False, True), repeat=scores.numel()):
        labels = np.array(bits).reshape(scores.shape)
        energy = sum(
            max(s, 0.0) * (not m) + max(-s, 0.0) * m
            for s, m in zip(scores.flatten().tolist(), labels.flatten().tolist(), strict=True)
        )
        energy += sum(w for i, j, w in ties if labels[i] != labels[j])
        if energy < best:
            best, result = energy, labels
    return result
