"""Maximum flow: Numba = reference on integers, warm starts, ties, threads, the operation's shapes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import max_flow_cpu
from flowcut.kernels.max_flow import graph_max_flow, grid_max_flow
from flowcut.kernels.max_flow_guard import guard_ties
from flowcut.kernels.max_flow_net import graph_net, grid_net
from flowcut.kernels.max_flow_reference import graph_max_flow_reference, grid_max_flow_reference

_GRIDS = [
    ((17,), Neighborhood.edges(1)),
    ((6, 7), Neighborhood.edges(2)),
    ((5, 6), Neighborhood.edges(2, 2)),
    ((3, 4, 3), Neighborhood.edges(3)),
    ((3, 3, 4), Neighborhood.edges(3, 2)),
    ((3, 3, 3), Neighborhood.edges(3, 3)),
    ((2, 3, 2, 2), Neighborhood.edges(4)),
    ((1, 1), Neighborhood.edges(2, 2)),
    ((1, 5), Neighborhood.edges(2, 2)),
    # Steps larger than the picture, both ways of one tie, and a knight's move.
    ((4, 5), Neighborhood(((0, 9), (0, 1), (0, -1), (7, -7), (2, 1)))),
]
_CASES = pytest.mark.parametrize(("spatial", "neighborhood"), _GRIDS)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _integers(shape: tuple[int, ...], low: int, high: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=g).double()


def _grid(spatial: tuple[int, ...], neighborhood: Neighborhood, items: int, seed: int) -> tuple[Tensor, ...]:
    ties = (items, len(neighborhood), *spatial)
    scores = _integers((items, *spatial), -9, 9, seed)
    return (
        scores,
        _integers(ties, 0, 5, seed + 1),
        _integers(ties, 0, 5, seed + 2),
        torch.zeros(1, 0, *spatial),
    )


def _left(scores: Tensor, flow: Tensor, pairs: Tensor) -> Tensor:
    """(N, n): scores - div f."""
    left = scores.clone()
    left.index_add_(1, pairs[:, 0], -flow)
    return left.index_add_(1, pairs[:, 1], flow)


def _graph(nodes: int, ties: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Several ties between the same nodes, and nodes without any, occur."""
    pairs = _integers((4 * ties, 2), 0, nodes - 1, seed).long()
    pairs = pairs[pairs[:, 0] != pairs[:, 1]][:ties]
    scores = _integers((2, nodes), -9, 9, seed + 1)
    return (
        scores,
        _integers((2, len(pairs)), 0, 6, seed + 2),
        _integers((1, len(pairs)), 0, 6, seed + 3),
        pairs,
    )


@_CASES
def test_numba_finds_the_cut_of_the_reference(spatial, neighborhood) -> None:
    for seed in range(3):
        arguments = _grid(spatial, neighborhood, 2, 10 * seed)
        mask, flow = grid_max_flow(*arguments, neighborhood.flat, True)
        theirs, other = grid_max_flow_reference(*arguments, neighborhood.flat, True)
        assert torch.equal(mask, theirs)
        inside = neighborhood.inside(spatial)
        assert mask.dtype == torch.bool
        for f in (flow, other):
            assert (f[:, ~inside] == 0).all()
            assert (f <= arguments[1])[:, inside].all()
            assert (f >= -arguments[2])[:, inside].all()


def test_numba_finds_the_cut_of_the_reference_on_graphs() -> None:
    for seed in range(20):
        scores, forward, backward, pairs = _graph(12, seed * 2, seed)
        none = torch.zeros(1, 0, dtype=torch.float64)
        mask, flow = graph_max_flow(scores, forward, backward, none, pairs, True)
        theirs, other = graph_max_flow_reference(scores, forward, backward, none, pairs, True)
        assert torch.equal(mask, theirs)
        for f in (flow, other):
            # Excess remains on ones, a lack on zeros, and between them all is full: so the flow is maximal.
            left = _left(scores, f, pairs)
            here, there = mask[:, pairs[:, 0]], mask[:, pairs[:, 1]]
            assert (f == forward)[here & ~there].all()
            assert (f == -backward)[there & ~here].all()
            assert (left[mask] >= 0).all()
            assert (left[~mask] <= 0).all()


def test_the_flow_is_as_large_as_scipy_s() -> None:
    for seed in range(20):
        scores, forward, backward, pairs = _graph(40, 110, 100 + seed)
        _, flow = graph_max_flow(
            scores, forward, backward, torch.zeros(1, 0, dtype=torch.float64), pairs, True
        )
        left = _left(scores, flow, pairs)
        ours = (scores.clamp(min=0) - left.clamp(min=0)).sum(dim=1)
        for n in range(2):
            s, c, d = scores[n].numpy(), forward[n].numpy(), backward[0].numpy()
            i, j = pairs.T.numpy()
            v = np.arange(40)
            source, sink = np.full(40, 40), np.full(40, 41)
            rows, columns = np.concatenate([i, j, source, v]), np.concatenate([j, i, v, sink])
            values = np.concatenate([c, d, np.maximum(s, 0), np.maximum(-s, 0)])
            network = coo_array((values, (rows, columns)), (42, 42)).tocsr().astype(np.int32)
            assert ours[n] == maximum_flow(network, 40, 41).flow_value


@_CASES
@pytest.mark.parametrize("piece", [1, 8])
def test_pieces_change_nothing(spatial, neighborhood, piece: int, monkeypatch) -> None:
    monkeypatch.setattr(max_flow_cpu, "_PIECE", piece)
    for seed in range(3):
        *arguments, none = _grid(spatial, neighborhood, 2, 10 * seed + 5)
        expected = grid_max_flow_reference(*arguments, none, neighborhood.flat, True)
        for begun in (none, expected[1], _integers(tuple(arguments[1].shape), -20, 20, seed)):
            mask, flow = grid_max_flow(*arguments, begun, neighborhood.flat, True)
            assert torch.equal(mask, expected[0])
            assert torch.equal(flow, flow.round())


def test_many_pieces_on_several_threads(monkeypatch) -> None:
    neighborhood = Neighborhood.edges(2, 2)
    scores, forward, backward, none = _grid((120, 130), neighborhood, 2, 0)
    mask, _ = grid_max_flow(scores, forward, backward, none, neighborhood.flat, True)
    monkeypatch.setattr(max_flow_cpu, "_PIECE", 500)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(grid_max_flow(scores, forward, backward, none, neighborhood.flat, True))
    assert torch.equal(found[0][0], mask)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@_CASES
def test_a_flow_to_begin_with_changes_nothing(spatial, neighborhood) -> None:
    *arguments, none = _grid(spatial, neighborhood, 2, 3)
    mask, flow = grid_max_flow(*arguments, none, neighborhood.flat, True)
    wild = _integers(tuple(arguments[1].shape), -20, 20, 7)
    for door in (grid_max_flow, grid_max_flow_reference):
        for begun in (flow, wild, wild[:1], 0 * wild):
            assert torch.equal(door(*arguments, begun, neighborhood.flat, True)[0], mask)
    # A maximum flow is returned as it is.
    assert torch.equal(grid_max_flow(*arguments, flow, neighborhood.flat, True)[1], flow)


def test_a_flow_to_begin_with_on_a_graph() -> None:
    scores, forward, backward, pairs = _graph(12, 30, 5)
    mask, flow = graph_max_flow(
        scores, forward, backward, torch.zeros(1, 0, dtype=torch.float64), pairs, True
    )
    wild = _integers(tuple(flow.shape), -20, 20, 7)
    for door in (graph_max_flow, graph_max_flow_reference):
        for begun in (flow, wild, wild[:1]):
            assert torch.equal(door(scores, forward, backward, begun, pairs, True)[0], mask)


@_CASES
def test_values_of_ties_that_leave_the_picture_are_never_read(spatial, neighborhood) -> None:
    scores, forward, backward, none = _grid(spatial, neighborhood, 2, 5)
    expected = grid_max_flow(scores, forward, backward, none, neighborhood.flat, True)
    outside = ~neighborhood.inside(spatial)
    bad = [torch.where(outside, float("nan"), t) for t in (forward, backward, 0 * forward)]
    for door in (grid_max_flow, grid_max_flow_reference):
        mask, flow = door(scores, *bad, neighborhood.flat, True)
        assert torch.equal(mask, expected[0])
        assert (flow[:, outside] == 0).all()


def test_the_same_bits_for_any_number_of_threads_and_items() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 20, 30, generator=g, dtype=torch.float64)
    ties = torch.rand(9, 2, 20, 30, generator=g, dtype=torch.float64)
    none, flat = torch.zeros(1, 0, 20, 30, dtype=torch.float64), Neighborhood.edges(2).flat
    torch.set_num_threads(1)
    mask, flow = grid_max_flow(scores, ties, ties, none, flat, True)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        again = grid_max_flow(scores, ties, ties, none, flat, True)
        assert torch.equal(again[0], mask)
        assert torch.equal(again[1], flow)
    assert torch.equal(grid_max_flow(scores[4:5], ties[4:5], ties[4:5], none, flat, True)[1], flow[4:5])
    shared = grid_max_flow(scores, ties[:1], ties[:1], none, flat, True)
    assert torch.equal(shared[1][8], grid_max_flow(scores[8:], ties[:1], ties[:1], none, flat, True)[1][0])


def test_inputs_may_lie_anywhere_in_memory_and_stay_as_they_are() -> None:
    neighborhood = Neighborhood.edges(2, 2)
    arguments = _grid((4, 5), neighborhood, 3, 2)
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in arguments]
    before = [t.clone() for t in strided]
    assert torch.equal(
        grid_max_flow(*strided, neighborhood.flat, True)[1],
        grid_max_flow(*arguments, neighborhood.flat, True)[1],
    )
    assert all(torch.equal(a, b) for a, b in zip(before, strided, strict=True))


def test_operations() -> None:
    for spatial, neighborhood in _GRIDS[:4]:
        arguments = _grid(spatial, neighborhood, 2, 1)
        torch.library.opcheck(grid_max_flow, (*arguments, neighborhood.flat, True))
        torch.library.opcheck(grid_max_flow, (*arguments[:3], arguments[1], neighborhood.flat, True))
    *arguments, pairs = _graph(12, 30, 5)
    torch.library.opcheck(graph_max_flow, (*arguments, torch.zeros(1, 0, dtype=torch.float64), pairs, True))


def test_without_a_proof_the_flow_is_left_out() -> None:
    neighborhood = Neighborhood.edges(2)
    arguments = _grid((4, 5), neighborhood, 3, 2)
    for door in (grid_max_flow, grid_max_flow_reference):
        mask, flow = door(*arguments, neighborhood.flat, False)
        assert torch.equal(mask, door(*arguments, neighborhood.flat, True)[0])
        assert flow.shape == (3, 0, 4, 5)
    torch.library.opcheck(grid_max_flow, (*arguments, neighborhood.flat, False))
    *given, pairs = _graph(12, 30, 5)
    none = torch.zeros(1, 0, dtype=torch.float64)
    for one in (graph_max_flow, graph_max_flow_reference):
        mask, flow = one(*given, none, pairs, False)
        assert torch.equal(mask, one(*given, none, pairs, True)[0])
        assert flow.shape == (2, 0)
    torch.library.opcheck(graph_max_flow, (*given, none, pairs, False))


def test_the_guard_sees_ties_inside_only() -> None:
    neighborhood = Neighborhood.edges(2, 2)
    ties = torch.where(neighborhood.inside((3, 4)), torch.rand(2, 4, 3, 4), float("nan"))
    assert guard_ties(ties, 0.0, "edges: expected", neighborhood.flat).tolist() == [0, 0]
    torch.library.opcheck(guard_ties, (ties, 0.0, "edges: expected", neighborhood.flat))
    torch.library.opcheck(guard_ties, (torch.rand(2, 4), 0.0, "edges: expected", []))
    ties[1, 3, 1, 2] = -2
    with pytest.raises(ValueError, match=r"edges: expected, got -2 at index \(1, 3, 1, 2\)"):
        guard_ties(ties, 0.0, "edges: expected", neighborhood.flat)


def test_vmap_is_a_loop() -> None:
    neighborhood = Neighborhood.edges(2)
    scores, forward, backward, none = _grid((4, 5), neighborhood, 6, 2)
    expected = grid_max_flow(scores, forward, backward, none, neighborhood.flat, True)

    def solve(s: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        return grid_max_flow(s, c, d, none, neighborhood.flat, True)

    parts = [t.reshape(3, 2, *t.shape[1:]) for t in (scores, forward, backward)]
    mask, flow = torch.vmap(solve)(*parts)
    assert torch.equal(mask.flatten(0, 1), expected[0])
    assert torch.equal(flow.flatten(0, 1), expected[1])
    shared, _ = torch.vmap(solve, in_dims=(0, None, None))(parts[0], forward[:1], backward[:1])
    assert torch.equal(
        shared.flatten(0, 1),
        grid_max_flow(scores, forward[:1], backward[:1], none, neighborhood.flat, True)[0],
    )


@pytest.mark.parametrize("spatial", [(0, 3), (3, 0), (4, 3)])
def test_empty(spatial) -> None:
    neighborhood = Neighborhood.edges(2)
    for items in (0, 2):
        if items and 0 not in spatial:
            continue
        arguments = _grid(spatial, neighborhood, items, 0)
        for door in (grid_max_flow, grid_max_flow_reference):
            mask, flow = door(*arguments, neighborhood.flat, True)
            assert mask.shape == (items, *spatial)
            assert flow.shape == (items, 2, *spatial)
    none = torch.zeros(1, 0, dtype=torch.float64)
    pairs = torch.zeros(0, 2, dtype=torch.int64)
    for door in (graph_max_flow, graph_max_flow_reference):
        mask, flow = door(torch.tensor([[1.0, 0.0, -1.0]]).double(), none, none, none, pairs, True)
        assert mask.tolist() == [[True, False, False]]
        assert flow.shape == (1, 0)


def test_arcs_of_a_grid_and_of_a_graph_have_sisters() -> None:
    net, room = grid_net((3, 4), ((1, 0), (0, 1)))
    assert net.steps.tolist() == [4, -4, 1, -1]
    assert room == 4
    pairs = np.array([[0, 1], [2, 1], [0, 1]])
    net, arcs = graph_net(pairs, 4)
    assert net.starts is not None
    assert net.heads is not None
    assert net.sisters is not None
    assert net.starts.tolist() == [0, 2, 5, 6, 6]
    assert (net.sisters[net.sisters] == np.arange(6)).all()
    assert (net.heads[arcs] == pairs[:, ::-1]).all()
    assert (net.heads[net.sisters[arcs]] == pairs).all()


def test_a_long_chain_and_a_large_star() -> None:
    # A path as long as the picture: the flow passes every tie.
    length = 20_000
    scores = torch.zeros(1, length, dtype=torch.float64)
    scores[0, 0], scores[0, -1] = 5, -3
    ties = torch.full((1, 1, length), 4.0, dtype=torch.float64)
    mask, flow = grid_max_flow(scores, ties, ties, torch.zeros(1, 0, length, dtype=torch.float64), [1], True)
    assert (flow[0, 0, :-1] == 3).all()
    assert mask.all()
    # One node with all ties: it is an orphan again and again.
    count = 40_000
    scores = torch.ones(1, count + 1, dtype=torch.float64)
    scores[0, 1 + count // 2 :] = -1
    scores[0, 0] = 0
    pairs = torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(1, count + 1)], dim=1)
    ties = torch.ones(1, count, dtype=torch.float64)
    mask, flow = graph_max_flow(scores, ties, ties, torch.zeros(1, 0, dtype=torch.float64), pairs, True)
    assert not mask.any()
    assert flow.abs().sum() == count
