"""The residual and the error it certifies: kernels = reference = dense, and never less than the truth."""

from __future__ import annotations

import pytest
import torch

from flowcut.kernels.residual import _graph_reference, _grid_reference, graph_residual, grid_residual
from tests.kernels.dense import (
    EDGE_CASES,
    Case,
    apply,
    close,
    graph_laplacians,
    laplacians,
    positive,
    random,
    scrambled,
    with_junk,
)

_DOORS = pytest.mark.parametrize("judge", [grid_residual, _grid_reference], ids=["numba", "reference"])
_CASES = pytest.mark.parametrize("case", EDGE_CASES, ids=str)


@_DOORS
@_CASES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_residual_norm_and_bound(judge, case: Case, dtype: torch.dtype, groups: int) -> None:
    edges = with_junk(positive(2, groups, len(case.neighborhood), *case.spatial, dtype=dtype), case)
    leak, rhs = positive(1, groups, *case.spatial, dtype=dtype), random(2, 3, *case.spatial, dtype=dtype)
    a = laplacians(edges, leak, case, 3)
    truth = torch.linalg.solve(a, rhs.double().flatten(2)[..., None])[..., 0].reshape(rhs.shape)
    for distance in (1.0, 1e-4, 1e-9):
        x = truth + distance * random(2, 3, *case.spatial, seed=7)
        r, norm, bound = judge(edges, leak, rhs, x, case.flat)
        expected = rhs.double() - apply(a, x)
        close(r, expected, torch.float64)
        size = rhs.double().flatten(2).norm(dim=2)
        torch.testing.assert_close(norm, expected.flatten(2).norm(dim=2) / size, rtol=1e-5, atol=1e-13)
        error = (x - truth).abs().flatten(2).amax(dim=2)
        assert bool((error <= bound).all())
        ratio = (expected.abs() / leak.double()).flatten(2).amax(dim=2)
        torch.testing.assert_close(bound, ratio, rtol=1e-5, atol=1e-12)
    r = judge(scrambled(edges), scrambled(leak), scrambled(rhs), scrambled(x), case.flat)[0]
    assert r.is_contiguous()
    close(r, expected, torch.float64)


@_DOORS
def test_the_difference_form_sees_what_a_matrix_would_lose(judge) -> None:
    # Constant x on ties of 1e12: A x = leak x exactly, where summing the matrix' rows leaves 1e-4.
    edges, leak = torch.full((1, 1, 2, 6, 6), 1e12).double(), torch.ones(1, 1, 6, 6).double()
    x = torch.full((1, 1, 6, 6), 0.1).double()
    r, norm, _ = judge(edges, leak, x, x, [1, 0, 0, 1])
    assert not r.any()
    assert not norm.any()


@_DOORS
def test_zero_confidence_makes_the_bound_infinite_and_nan_shows(judge) -> None:
    edges, leak = torch.ones(1, 1, 1, 3).double(), torch.tensor([[[1.0, 0.0, 1.0]]]).double()
    rhs, x = torch.ones(1, 1, 3).double(), torch.zeros(1, 1, 3).double()
    assert float(judge(edges, leak, rhs, x, [1])[2]) == float("inf")
    assert float(judge(edges, leak, 0 * rhs, x, [1])[2]) == 0
    x[0, 0, 0] = torch.nan
    _, norm, bound = judge(edges, leak, rhs, x, [1])
    assert bool(torch.isnan(norm).all())
    assert not bool((bound < float("inf")).any())


@_DOORS
def test_empty_input(judge) -> None:
    for items, spatial in ((0, (3, 4)), (2, (0, 4))):
        x = torch.ones(items, 3, *spatial).double()
        r, norm, bound = judge(
            torch.ones(items, 1, 2, *spatial), torch.ones(1, 1, *spatial), x, x, [1, 0, 0, 1]
        )
        assert r.shape == x.shape
        assert norm.shape == bound.shape == (items, 3)
        assert not norm.any()
        assert not bound.any()


@pytest.mark.parametrize("judge", [graph_residual, _graph_reference], ids=["operation", "reference"])
def test_graphs(judge) -> None:
    index = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 0, 2, 3, 1]])
    edges, leak, rhs = positive(2, 3, 6), positive(1, 1, 6), random(2, 3, 6)
    a = graph_laplacians(index, edges, leak, 3)
    truth = torch.linalg.solve(a, rhs[..., None])[..., 0]
    x = truth + 1e-3 * random(2, 3, 6, seed=5)
    r, norm, bound = judge(index, edges, leak, rhs, x)
    close(r, rhs - apply(a, x), torch.float64)
    torch.testing.assert_close(norm, r.norm(dim=2) / rhs.norm(dim=2))
    assert bool(((x - truth).abs().amax(dim=2) <= bound).all())
