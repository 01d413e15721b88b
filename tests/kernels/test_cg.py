"""Whole solves as one operation: Numba = reference = dense solve, stopping, certificate, refusals."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.core.results import NotConvergedError, Result
from flowcut.core.warnings import FlowcutWarning
from flowcut.kernels.cg import _graph_cg_reference, _grid_cg_reference, graph_cg, grid_cg
from flowcut.kernels.layout import schur_offsets, schur_paths
from tests.kernels.dense import (
    EDGE_CASES,
    TYPES,
    Case,
    graph_laplacians,
    laplacians,
    positive,
    random,
    scrambled,
    with_junk,
)


def _numba(edges: Tensor, leak: Tensor, rhs: Tensor, flat: list[int], rtol: float, steps: int = 5000):
    return grid_cg(edges, leak, rhs, flat, rtol, steps, "scores", "ignore")


def _reference(edges: Tensor, leak: Tensor, rhs: Tensor, flat: list[int], rtol: float, steps: int = 5000):
    # The body that other devices run, which dispatch never reaches on the CPU.
    return _grid_cg_reference(edges, leak, rhs, flat, rtol, steps, "scores", "ignore")


_DOORS = pytest.mark.parametrize("solve", [_numba, _reference], ids=["numba", "reference"])
_CASES = pytest.mark.parametrize("case", EDGE_CASES, ids=str)


def _system(
    case: Case, groups: int, leak: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    edges = with_junk(positive(2, groups, len(case.neighborhood), *case.spatial, dtype=dtype), case)
    return (
        edges,
        positive(*leak, *case.spatial, seed=1, dtype=dtype),
        random(2, 3, *case.spatial, dtype=dtype),
    )


def _truth(edges: Tensor, leak: Tensor, rhs: Tensor, case: Case) -> Tensor:
    a = laplacians(edges, leak, case, rhs.shape[1])
    return torch.linalg.solve(a, rhs.double().flatten(2)[..., None])[..., 0].reshape(rhs.shape)


def _true_error(x: Tensor, truth: Tensor) -> Tensor:
    return (x.double() - truth).abs().flatten(2).amax(dim=2)


@_DOORS
@_CASES
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_solves_the_dense_system_within_its_bound(solve, case: Case, dtype: torch.dtype, groups: int) -> None:
    edges, leak, rhs = _system(case, groups, (2, groups), dtype)
    rtol = 1e-12 if dtype == torch.float64 else 1e-6
    x, bound, residual, steps, result = solve(edges, leak, rhs, case.flat, rtol)
    truth = _truth(edges, leak, rhs, case)
    assert x.dtype == dtype
    assert x.is_contiguous()
    assert not result.any()
    assert bool((steps >= 0).all())
    error = _true_error(x, truth)
    assert bool((error <= bound).all())
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert float((error / truth.abs().flatten(2).amax(dim=2)).max()) < tolerance
    if dtype != torch.bfloat16:
        assert float(residual.max()) <= rtol
        assert float(bound.max()) < 1e3 * tolerance


@pytest.mark.parametrize("leak", [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("case", [EDGE_CASES[5], EDGE_CASES[6]], ids=str)
def test_leak_and_edges_are_shared_independently(leak: tuple[int, int], groups: int, case: Case) -> None:
    edges, d, rhs = _system(case, groups, leak, torch.float64)
    x = _numba(edges, d, rhs, case.flat, 1e-12)[0]
    assert float(_true_error(x, _truth(edges, d, rhs, case)).max()) < 1e-10
    y = _numba(scrambled(edges), scrambled(d), scrambled(rhs), case.flat, 1e-12)[0]
    torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-12, 1e20, 1e30])
def test_size_of_the_right_hand_side_does_not_matter(scale: float, dtype: torch.dtype) -> None:
    case = EDGE_CASES[5]
    edges, leak, rhs = _system(case, 1, (1, 1), dtype)
    for solve, tiny in ((_numba, scale), (_reference, scale)):
        x, bound, _, steps, result = solve(edges, leak, (rhs.double() * tiny).to(dtype), case.flat, 1e-6)
        truth = _truth(edges, leak, (rhs.double() * tiny).to(dtype), case)
        error = _true_error(x, truth)
        assert not result.any()
        assert int(steps.min()) > 0
        assert bool((error <= bound).all())
        assert float((error / truth.abs().max()).max()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("contrast", [1e-12, 1e-3, 1e3, 1e6, 1e12])
def test_strong_ties_lose_no_digits(contrast: float, dtype: torch.dtype) -> None:
    case = Case((12, 11), Neighborhood.edges(2))
    edges, leak, rhs = _system(case, 1, (1, 1), dtype)
    edges = (edges.double() * contrast).to(dtype)
    x, bound, _, _, result = _numba(edges, leak, rhs, case.flat, 1e-6)
    truth = _truth(edges, leak, rhs, case)
    assert bool((_true_error(x, truth) <= bound + 1e-13 * contrast).all())
    if contrast <= 1e6:
        assert not result.any()
        assert float(_true_error(x, truth).max()) < 1e-4


@_DOORS
def test_every_right_hand_side_stops_by_itself(solve) -> None:
    case = Case((14, 14), Neighborhood.edges(2))
    edges = torch.cat([torch.full((1, 1, 2, 14, 14), 1e-3), torch.full((1, 1, 2, 14, 14), 1e3)]).double()
    leak = torch.ones(1, 1, 14, 14).double()
    rhs = random(2, 2, 14, 14)
    rhs[0, 1] = 0
    x, bound, residual, steps, result = solve(edges, leak, rhs, case.flat, 1e-8)
    assert not result.any()
    assert 0 < int(steps[0, 0]) < 6 < int(steps[1].min())
    # A right-hand side of zero is solved by zero, exactly and at once.
    assert not x[0, 1].any()
    assert [int(steps[0, 1]), float(residual[0, 1]), float(bound[0, 1])] == [0, 0.0, 0.0]
    alone = solve(edges[1:], leak, rhs[1:, 1:], case.flat, 1e-8)
    torch.testing.assert_close(alone[0][0], x[1, 1:], rtol=0, atol=0)


@_DOORS
def test_too_few_steps_is_a_result_with_an_honest_bound(solve) -> None:
    case = Case((12, 11), Neighborhood.edges(2))
    edges, leak, rhs = _system(case, 1, (1, 1), torch.float64)
    x, bound, residual, steps, result = solve(100 * edges, leak, rhs, case.flat, 1e-10, 3)
    assert bool((result == Result.NOT_CONVERGED).all())
    assert bool((steps == 3).all())
    assert bool((residual > 1e-10).all())
    assert bool((_true_error(x, _truth(100 * edges, leak, rhs, case)) <= bound).all())


@pytest.mark.parametrize("graph", [False, True])
def test_failure_is_reported_as_asked(graph: bool) -> None:
    n = 40
    leak, rhs, edges = torch.full((1, 1, n), 1e-3), random(1, 2, n), torch.ones(1, 1, 1, n)
    index = torch.stack([torch.arange(n - 1), torch.arange(1, n)])

    def solve(on_failure: str) -> None:
        if graph:
            graph_cg(index, edges[:, :, 0, 1:], leak, rhs, 1e-9, 2, "scores", on_failure)
        else:
            grid_cg(edges, leak, rhs, [1], 1e-9, 2, "scores", on_failure)

    with pytest.warns(FlowcutWarning, match="2 of 2 right-hand sides"):
        solve("warn")
    with pytest.raises(NotConvergedError, match="item 0, channel 0"):
        solve("raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve("ignore")


_GRID = (torch.ones(1, 1, 2, 3, 4), torch.ones(1, 1, 3, 4), torch.ones(1, 2, 3, 4))
_NAN, _INF = float("nan"), float("inf")


@pytest.mark.parametrize(("which", "value", "message"), [
    (2, _NAN, "scores: expected finite values, got nan at index (0, 0, 1, 1)"),
    (2, _INF, "scores: expected finite values, got inf at index (0, 0, 1, 1)"),
    (0, _NAN, "edges: expected finite values >= 0 inside the picture, got nan at index (0, 0, 0, 1, 1)"),
    (0, -1.0, "edges: expected finite values >= 0 inside the picture, got -1.0 at index (0, 0, 0, 1, 1)"),
    (0, _INF, "edges: expected finite values >= 0 inside the picture, got inf at index (0, 0, 0, 1, 1)"),
    (1, _NAN, "confidence: expected values >= 0, not NaN, got nan at index (0, 0, 1, 1)"),
    (1, -1.0, "confidence: expected values >= 0, not NaN, got -1.0 at index (0, 0, 1, 1)"),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_bad_values_are_refused_by_name(which: int, value: float, message: str, dtype: torch.dtype) -> None:
    inputs = [t.to(dtype).clone() for t in _GRID]
    inputs[which][(0, 0, 0, 1, 1) if which == 0 else (0, 0, 1, 1)] = value
    with pytest.raises(ValueError) as caught:
        grid_cg(*inputs, [1, 0, 0, 1], 1e-5, 100, "scores", "warn")
    assert str(caught.value) == message
    edges, leak, rhs = (t.flatten(2) for t in inputs)
    index = torch.stack([torch.arange(11), torch.arange(1, 12)])
    with pytest.raises(ValueError, match=message.split(",")[0].split(" inside")[0]):
        graph_cg(index, edges[..., :11], leak, rhs, 1e-5, 100, "scores", "warn")


@pytest.mark.parametrize("which", [0, 2])
def test_unchecked_infinities_pass_through_as_nan_for_their_item_alone(which: int) -> None:
    inputs = [t.repeat(2, *(1,) * (t.ndim - 1)) for t in _GRID]
    inputs[which][(0, ..., 1, 1)] = _INF
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, bound, _, _, result = grid_cg(*inputs, [1, 0, 0, 1], 1e-5, 100, "", "raise")
    assert bool(torch.isnan(x[0]).all())
    assert bool(torch.isnan(bound[0]).all())
    assert bool((result[0] == Result.NOT_FINITE).all())
    assert bool(torch.isfinite(x[1]).all())
    assert not result[1].any()


def test_overflow_of_finite_values_is_not_silent() -> None:
    edges, leak, rhs = (t.double() for t in _GRID)
    result = grid_cg(edges * 1e308, leak, rhs, [1, 0, 0, 1], 1e-5, 100, "scores", "ignore")[4]
    assert bool((result == Result.NOT_CONVERGED).all())
    result = grid_cg(edges, leak, rhs * 1e200, [1, 0, 0, 1], 1e-5, 100, "scores", "ignore")[4]
    assert bool((result == Result.NOT_CONVERGED).all())


def test_a_piece_without_confidence_is_refused() -> None:
    edges, leak, rhs = (t.clone() for t in _GRID)
    edges[0, 0, 1, :, 1] = 0  # cut between columns 1 and 2
    leak[..., 2:] = 0
    with pytest.raises(
        ValueError, match=r"^confidence: .* piece of 6 pixels without any \(item 0, channel 0\)"
    ):
        grid_cg(edges, leak, rhs, [1, 0, 0, 1], 1e-5, 100, "scores", "warn")
    leak[..., 0, 3] = 1
    x, _, _, _, result = grid_cg(edges, leak, leak * rhs, [1, 0, 0, 1], 1e-6, 100, "scores", "warn")
    assert not result.any()
    torch.testing.assert_close(x, torch.ones_like(x), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="piece of 1 pixels"):
        grid_cg(
            torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), [1], 1e-5, 9, "scores", "warn"
        )


def test_empty_input() -> None:
    for items, spatial in ((0, (3, 4)), (2, (0, 4))):
        x, *report = grid_cg(
            torch.ones(items, 1, 2, *spatial), torch.ones(1, 1, *spatial), torch.ones(items, 3, *spatial),
            [1, 0, 0, 1], 1e-5, 100, "scores", "warn",
        )  # fmt: skip
        assert x.shape == (items, 3, *spatial)
        assert [r.shape for r in report] == [(items, 3)] * 4
    index = torch.tensor([[0], [1]])
    x = graph_cg(index, torch.ones(0, 1, 1), torch.ones(1, 1, 2), torch.ones(0, 3, 2), 1e-5, 9, "b", "warn")[
        0
    ]
    assert x.shape == (0, 3, 2)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_paths_over_a_red_pixel_make_the_ties_of_the_black_half(ndim: int) -> None:
    axes, offsets = np.eye(ndim, dtype=int), schur_offsets(ndim)
    assert len(offsets) == ndim**2
    undirected = set(offsets) | {tuple(-v for v in o) for o in offsets}
    steps = [s * axes[a] for a in range(ndim) for s in (1, -1)]
    reached = {tuple(int(v) for v in u + v) for u in steps for v in steps} - {(0,) * ndim}
    assert undirected == reached
    found: dict[int, set[tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for tie, a, sign_a, b, sign_b in schur_paths(ndim).tolist():
        first, second = sign_a * axes[a], sign_b * axes[b]
        assert tuple(first + second) == offsets[tie]
        found.setdefault(tie, set()).add((tuple(first), tuple(second)))
    for tie, offset in enumerate(offsets):
        wanted = {(tuple(u), tuple(v)) for u in steps for v in steps if tuple(u + v) == offset}
        assert found[tie] == wanted


_INDEX = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 0, 2, 3, 1]])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("reference", [False, True])
def test_graphs(dtype: torch.dtype, groups: int, reference: bool) -> None:
    edges, leak = positive(2, groups, 6, dtype=dtype), positive(2, groups, 6, seed=1, dtype=dtype)
    rhs = random(2, 3, 6, dtype=dtype)
    dense = graph_laplacians(_INDEX, edges, leak, 3)
    solve = _graph_cg_reference if reference else graph_cg
    x, bound, residual, _, result = solve(_INDEX, edges, leak, rhs, 1e-11, 500, "scores", "raise")
    truth = torch.linalg.solve(dense, rhs.double()[..., None])[..., 0]
    assert x.dtype == dtype
    assert not result.any()
    assert float(residual.max()) <= 1e-11
    error = _true_error(x, truth)
    assert bool((error <= bound).all())
    assert float(error.max()) < {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    y = solve(scrambled(_INDEX), *map(scrambled, (edges, leak, rhs)), 1e-11, 500, "scores", "raise")[0]
    assert y.is_contiguous()
    torch.testing.assert_close(x, y)


def test_a_graph_with_bare_nodes_has_no_nan_in_its_bound() -> None:
    index, leak = torch.tensor([[0, 2], [1, 3]]), torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    rhs = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    x, bound, _, _, result = graph_cg(index, torch.ones(1, 1, 2), leak, rhs, 1e-9, 100, "scores", "raise")
    torch.testing.assert_close(x[0], torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0] * 4]))
    assert not result.any()
    assert not bool(torch.isnan(bound).any())


def test_condition_number_alone_sets_the_steps_on_a_path() -> None:
    # A path with leak d and ties w: eigenvalues d + 2w(1 - cos), so CG's textbook rate bounds the steps.
    n, d, w, rtol = 400, 1.0, 100.0, 1e-8
    rhs = random(1, 1, n)
    steps = _numba(torch.full((1, 1, 1, n), w).double(), torch.full((1, 1, n), d).double(), rhs, [1], rtol)[3]
    root = math.sqrt((d + 4 * w) / d)
    assert int(steps) <= math.log(2 * root / rtol) / -math.log((root - 1) / (root + 1))
