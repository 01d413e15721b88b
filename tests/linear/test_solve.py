"""solve(): certificates where confidence is missing, operators, pins, and what is differentiable."""

from __future__ import annotations

import math

import pytest
import torch

import flowcut as fc
from flowcut.core.results import Result
from flowcut.linear.adjoint import edge_gradient
from tests.truths.dense import dense_matrix
from tests.truths.families import make_family

SOLVERS = [fc.CG(rtol=1e-6), fc.CG(rtol=1e-3), fc.Cholesky(), fc.Auto(rtol=1e-6)]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bound_without_confidence_almost_everywhere(solver, dtype: torch.dtype) -> None:
    """Confidence at one pixel in two hundred: still a finite bound, within 10^3 of the error."""
    _, edges = make_family("cam1000", (32, 32), dtype)
    confidence = torch.zeros(1, 1, 32, 32, dtype=dtype)
    confidence[..., ::13, ::17] = 1
    b = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype) * confidence
    solution = fc.solve(fc.GridOperator(edges, confidence), b, solver)
    matrix = dense_matrix(edges[0].double(), confidence[0, 0].double(), ((1, 0), (0, 1)))
    truth = torch.linalg.solve(matrix, b.double().reshape(-1)).reshape(b.shape)
    error = float((solution.value.double() - truth).abs().max())
    noise = 1e-9  # of the dense truth: its condition number is 1e7
    assert math.isfinite(solution.error_bound)
    assert error <= solution.error_bound + noise
    assert solution.error_bound <= 1e3 * (error + noise)


def test_pinned_right_hand_side_is_the_value() -> None:
    confidence = torch.tensor([[[math.inf, 0.0, math.inf]]]).double()
    operator = fc.GridOperator(torch.ones(1, 1, 3).double(), confidence)
    solution = fc.solve(operator, torch.tensor([[[2.0, 0.0, 6.0]]]).double(), fc.Cholesky())
    assert solution.value.flatten().tolist() == pytest.approx([2, 4, 6], abs=1e-14)
    assert solution.error_bound < 1e-12


def test_operator_products_and_dense_form() -> None:
    g = torch.Generator().manual_seed(0)
    edges = torch.rand(2, 3, 4, 5, 6, generator=g, dtype=torch.float64)
    confidence = torch.rand(2, 1, 5, 6, generator=g, dtype=torch.float64)
    # Three labels, eight neighbours; without neighborhood= this is read as a volume.
    operator = fc.GridOperator(edges, confidence, fc.Neighborhood.edges(2, 2))
    x = torch.randn(2, 3, 5, 6, generator=g, dtype=torch.float64)
    dense = operator.to_dense()
    assert dense.shape == (2, 3, 30, 30)
    torch.testing.assert_close(operator.mv(x).flatten(2), (dense @ x.flatten(2)[..., None])[..., 0])
    offsets = operator.neighborhood.offsets
    torch.testing.assert_close(dense[1, 2], dense_matrix(edges[1, 2], confidence[1, 0], offsets))
    leaves = [t.requires_grad_() for t in (edges, confidence, x)]
    call = lambda e, d, v: fc.GridOperator(e, d, operator.neighborhood).mv(v)  # noqa: E731
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


def test_edge_gradient_is_the_derivative_of_the_quadratic_form() -> None:
    g = torch.Generator().manual_seed(1)
    edges = torch.rand(1, 1, 2, 3, 4, generator=g, dtype=torch.float64).requires_grad_()
    u, v = torch.randn(2, 1, 2, 3, 4, generator=g, dtype=torch.float64)
    operator = fc.GridOperator(edges)
    (truth,) = torch.autograd.grad((u * operator.mv(v)).sum(), edges)
    torch.testing.assert_close(edge_gradient(operator.system(), u, v), truth)


def test_solution_is_differentiable_and_named() -> None:
    edges = torch.rand(1, 2, 3, 4, dtype=torch.float64).requires_grad_()
    b = torch.randn(1, 1, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e, r: fc.solve(fc.GridOperator(e), r, fc.CG(rtol=1e-13)).value, (edges, b)
    )
    solution = fc.solve(fc.GridOperator(edges), b)
    assert solution.success
    assert Result(int(solution.result)).message == "the tolerance was met"
    assert solution.stats.residual.shape == solution.stats.steps.shape == (1, 1)


def test_empty_batch() -> None:
    solution = fc.solve(fc.GridOperator(torch.ones(0, 2, 3, 4)), torch.ones(0, 1, 3, 4))
    assert solution.value.shape == (0, 1, 3, 4)
    assert solution.success


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fc.GridOperator(torch.ones(1, 2, 3, 4).int()), TypeError, "edges: .*int32"),
        (lambda: fc.GridOperator(torch.ones(1, 5, 3, 4)), ValueError, "edges: expected 2, 4"),
        (lambda: fc.GridOperator(torch.ones(3)), ValueError, "edges: "),
        (lambda: fc.GridOperator(torch.ones(1, 2, 3, 4), torch.ones(1, 1, 3, 5)), ValueError, "confidence: "),
        (lambda: fc.GridOperator(torch.ones(1, 2, 3, 4), math.nan), ValueError, "confidence: .*nan"),
        (
            lambda: fc.solve(fc.GridOperator(torch.ones(1, 2, 3, 4)), torch.full((1, 1, 3, 4), math.nan)),
            ValueError,
            "b: .*nan",
        ),
        (
            lambda: fc.solve(fc.GridOperator(torch.ones(1, 2, 3, 4)), torch.ones(1, 1, 3, 5)),
            ValueError,
            r"b: .*\(3, 4\).*\(1, 1, 3, 5\)",
        ),
    ],
)
def test_bad_input(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
