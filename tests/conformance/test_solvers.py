"""Every solver of the zoo: right answers, honest verdicts, bounds that hold."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flowcut as fc
from flowcut.core.results import Result
from flowcut.linear.system import System
from tests.truths.dense import dense_matrix, dense_soft_cut, grid_ties
from tests.zoo import SOLVERS
from tests.zoo.entry import SolverEntry, generator

pytestmark = pytest.mark.parametrize("entry", SOLVERS, ids=lambda e: e.name)


def _problem(spatial=(5, 6), connectivity=1, groups=1, dtype=torch.float64, channels=2, contrast=1.0):
    g = generator(spatial, connectivity, groups)
    offsets = fc.Neighborhood.edges(len(spatial), connectivity).offsets
    b = torch.randn(2, channels, *spatial, generator=g, dtype=torch.float64)
    edges = torch.randn(2, groups, len(offsets), *spatial, generator=g, dtype=torch.float64)
    confidence = 0.1 + torch.rand(2, 1, *spatial, generator=g, dtype=torch.float64)
    return b.to(dtype), (contrast * edges).exp().to(dtype), confidence.to(dtype), offsets


@pytest.mark.parametrize("spatial", [(5, 6), (11,), (3, 4, 3)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_equals_dense(entry: SolverEntry, spatial: tuple[int, ...], groups: int) -> None:
    for connectivity in range(1, len(spatial) + 1):
        b, edges, confidence, offsets = _problem(spatial, connectivity, groups)
        operator = fc.GridOperator(edges, confidence, fc.Neighborhood(offsets))
        solution = fc.solve(operator, confidence * b, entry.solver)
        truth = dense_soft_cut(b, edges, confidence, offsets)
        assert solution.success
        torch.testing.assert_close(solution.value, truth, rtol=0, atol=entry.tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("contrast", [0.5, 3.0])
def test_bound_holds_and_is_tight(entry: SolverEntry, dtype: torch.dtype, contrast: float) -> None:
    b, edges, confidence, offsets = _problem((24, 21), contrast=contrast, dtype=dtype)
    operator = fc.GridOperator(edges, confidence)
    solution = fc.solve(operator, b, entry.solver)
    matrices = [dense_matrix(edges[n, 0].double(), confidence[n, 0].double(), offsets) for n in range(2)]
    for n, c in itertools.product(range(2), range(2)):
        truth = torch.linalg.solve(matrices[n], b[n, c].double().reshape(-1))
        error = (solution.value[n, c].double().reshape(-1) - truth).abs().max()
        # The dense truth has rounding errors of its own.
        noise = 1e-13 * float(truth.abs().max())
        assert error <= solution.error_bound[n, c] + noise
        assert solution.error_bound[n, c] <= 1e3 * (error + 100 * noise)


def test_a_looser_answer_still_has_a_valid_bound(entry: SolverEntry) -> None:
    if entry.hasty is None:
        pytest.skip("a direct solver cannot be hurried")
    b, edges, confidence, offsets = _problem((16, 17), contrast=2.0)
    solution = fc.solve(fc.GridOperator(edges, confidence), b, entry.hasty, on_failure="ignore")
    truth = dense_soft_cut(b / confidence, edges, confidence, offsets)
    error = (solution.value - truth).abs().flatten(2).amax(dim=2)
    assert (error <= solution.error_bound).all()
    assert (solution.error_bound <= 1e3 * error).all()
    assert (error > 1e-8).all()


def test_failure_is_a_result_a_warning_or_an_error(entry: SolverEntry) -> None:
    if entry.hasty is None:
        pytest.skip("a direct solver cannot be hurried")
    b, edges, confidence, _ = _problem((16, 17), contrast=2.0)
    operator = fc.GridOperator(edges, confidence)
    silent = fc.solve(operator, b, entry.hasty, on_failure="ignore")
    assert (silent.result == Result.NOT_CONVERGED).all()
    assert not silent.success
    with pytest.warns(fc.FlowcutWarning, match="max_steps"):
        fc.solve(operator, b, entry.hasty, on_failure="warn")
    with pytest.raises(fc.NotConvergedError, match="4 of 4 right-hand sides"):
        fc.solve(operator, b, entry.hasty, on_failure="raise")


def test_each_right_hand_side_stops_by_itself(entry: SolverEntry) -> None:
    if entry.name == "thesis_cg":
        pytest.skip("its rule is for the whole batch: that is what is wrong with it")
    b, edges, confidence, offsets = _problem((9, 8))
    scale = torch.tensor([[1e-6, 1.0], [0.0, 1e6]], dtype=torch.float64)[..., None, None]
    solution = fc.solve(fc.GridOperator(edges, confidence), scale * b, entry.solver)
    truth = scale * dense_soft_cut(b / confidence, edges, confidence, offsets)
    assert solution.success
    torch.testing.assert_close(solution.value, truth, rtol=1e-9, atol=0)


def test_infinity_in_the_adjoint_passes_through(entry: SolverEntry) -> None:
    """A gradient scaler sends infinities on purpose: NaN for that item, no error, no other item."""
    if entry.name == "thesis_cg":
        pytest.skip("its rule is for the whole batch: one item spoils all")
    b, edges, confidence, _ = _problem((6, 5), dtype=torch.float32)
    scores = b.requires_grad_()
    x = fc.soft_cut(scores, edges, confidence, solver=entry.solver)
    incoming = torch.ones_like(x)
    incoming[0, 0, 2, 2] = float("inf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (gradient,) = torch.autograd.grad(x, scores, incoming)
    assert torch.isnan(gradient[0, 0]).all()
    assert torch.isfinite(gradient[1]).all()


def test_on_a_graph(entry: SolverEntry) -> None:
    if not entry.graphs:
        pytest.skip("a solver for grids")
    b, edges, confidence, offsets = _problem((4, 5))
    ties = [(i, j, edges[:, :, k, y, x]) for k, (y, x), i, j in grid_ties((4, 5), offsets)]
    index = torch.tensor([[i, j] for i, j, _ in ties]).T
    graph = fc.Graph(index, 20)
    weights = torch.stack([w for _, _, w in ties], dim=-1)
    scores = b.flatten(2).requires_grad_()
    weights = weights.requires_grad_()
    x = fc.soft_cut(scores, weights, confidence.flatten(2), solver=entry.solver, neighborhood=graph)
    truth = dense_soft_cut(b.detach(), edges, confidence, offsets).flatten(2)
    torch.testing.assert_close(x, truth, rtol=0, atol=entry.tolerance)
    assert torch.autograd.gradcheck(
        lambda s, w: fc.soft_cut(s, w, confidence.flatten(2), solver=entry.solver, neighborhood=graph),
        (scores, weights),
    )


def test_shapes_without_values(entry: SolverEntry) -> None:
    """What compilation is told of a solver's operations is what their bodies do."""
    b, edges, confidence, _ = _problem((4, 3))
    system = fc.GridOperator(edges, confidence).system()
    out = entry.solver.compute(entry.solver.init(system, "b"), b, "b", "warn")
    with FakeTensorMode() as mode:
        shapes = [mode.from_tensor(t) for t in (system.edges, system.leak, b)]
        blank = System(shapes[0], shapes[1], None, system.offsets)
        told = entry.solver.compute(entry.solver.init(blank, "b"), shapes[2], "b", "warn")
    for real, shape in zip(out, told, strict=True):
        assert (real.shape, real.dtype, real.stride()) == (shape.shape, shape.dtype, shape.stride())
