"""Everything that a flow refuses, with what it says; and what it must not refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.inputs import check_positive, read_inputs
from flowcut.flow.linear import LinearAssignmentFlow, linear_assignment_flow
from flowcut.flow.nonlinear import assignment_flow
from flowcut.flow.weights import uniform_weights
from flowcut.flow.window import graph_window
from flowcut.kernels.layout import common_type

GRAPH = Graph(torch.tensor([[0, 1], [1, 2]]), 4)
INF, NAN = float("inf"), float("nan")


def _grid(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 4, 5, generator=g).to(dtype), uniform_weights((4, 5), items=2, dtype=dtype)


def _graph(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    distances = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    return distances, uniform_weights((4,), neighborhood=GRAPH, items=2, dtype=dtype)


def _with(value: Tensor, place: tuple[int, ...], number: float) -> Tensor:
    changed = value.clone()
    changed[place] = number
    return changed


def _flows(*args: Any, **settings: Any) -> list[Callable[[], Tensor]]:
    return [
        lambda: read_inputs(*args, settings.get("rho", 1.0), settings.get("neighborhood")).evidence,
        lambda: linear_assignment_flow(*args, **settings),
        lambda: assignment_flow(*args, **settings),
    ]


def _refused(message: str, *args: Any, kind: type[Exception] = ValueError, **settings: Any) -> None:
    for flow in _flows(*args, **settings):
        with pytest.raises(kind, match=message):
            flow()


@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_distances_that_are_not_finite(number: float, dtype: torch.dtype) -> None:
    distances, weights = _grid(dtype)
    _refused("^distances: expected finite values, got", _with(distances, (1, 2, 3, 4), number), weights)
    distances, weights = _graph(dtype)
    bad = _with(distances, (1, 2, 3), number)
    _refused("^distances: expected finite values, got", bad, weights, neighborhood=GRAPH)


@pytest.mark.parametrize("rho", [0.0, -1.0, NAN, INF])
def test_rho_out_of_range(rho: float) -> None:
    _refused(f"^rho: expected a finite number > 0, got {rho}", *_grid(), rho=rho)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("number", "got"),
    [(-0.25, r"a weight -0\.25"), (0.75, r"a sum 1\.6"), (NAN, "a sum nan"), (INF, "a sum inf")],
)
def test_weights_off_the_simplex(dtype: torch.dtype, number: float, got: str) -> None:
    distances, weights = _grid(dtype)
    bad = _with(weights, (1, 4, 2, 2), number)
    _refused(f"^weights: expected numbers >= 0 that sum to 1 .* each pixel .*got {got}", distances, bad)
    distances, weights = _graph(dtype)
    bad = _with(weights, (1, 4), number)
    _refused("^weights: expected numbers >= 0 that sum to 1 .* each node", distances, bad, neighborhood=GRAPH)


def test_negative_weights_whose_sum_is_one() -> None:
    distances, weights = _grid()
    weights[1, 4, 2, 2] -= 0.5
    weights[1, 3, 2, 2] += 0.5
    _refused(r"got a weight -0\.389", distances, weights)


def test_rows_of_zeros() -> None:
    distances, weights = _grid()
    weights[0, :, 1, 1] = 0
    _refused(r"^weights: .*\(see flowcut.normalize_weights\), got a sum 0$", distances, weights)
    distances, weights = _graph()
    _refused(r"^weights: .* got a sum 0$", distances, weights * 0, neighborhood=GRAPH)


@pytest.mark.parametrize("number", [NAN, INF, -1.0, 7.0])
def test_weights_without_a_neighbour_are_not_read(number: float) -> None:
    distances, weights = _grid()
    inside = Neighborhood.window(2, 3).inside((4, 5))
    junk = torch.where(inside, weights, number)
    for ours, expected in zip(_flows(distances, junk), _flows(distances, weights), strict=True):
        assert torch.equal(ours(), expected())


def test_shapes() -> None:
    distances, weights = _grid()
    _refused(
        r"^distances: expected shape \(N, J, \*spatial\) with J >= 1, got \(4, 5\)", distances[0, 0], weights
    )
    _refused(r"^distances: expected shape .* got \(2, 0, 4, 5\)", distances[:, :0], weights)
    _refused(
        r"^weights: expected shape \(2, 9, 4, 5\) to fit the distances, got \(1, 9, 4, 5\)",
        distances,
        weights[:1],
    )
    _refused(r"^weights: expected shape \(2, 9, 4, 5\) .* got \(2, 9, 4, 4\)", distances, weights[..., :4])
    _refused(
        r"^weights: expected shape \(N, K, 2 spatial axes\), got \(2, 9, 4\)", distances, weights[..., 0]
    )
    _refused(r"^weights: expected K = .* odd window, got 4", distances, weights[:, :4])
    _refused("^weights: expected 25 channels", distances, weights, neighborhood=Neighborhood.window(2, 5))
    distances, weights = _graph()
    _refused(r"^weights: expected shape \(N, 8\)", distances, weights[:, 1:], neighborhood=GRAPH)
    _refused("^distances: expected 4 nodes, got", distances[..., :3], weights, neighborhood=GRAPH)
    _refused("^distances: expected 1 spatial axes, got", distances[..., None], weights, neighborhood=GRAPH)


def test_an_even_window() -> None:
    with pytest.raises(ValueError, match=r"^size: expected an odd window side >= 1, got 4"):
        uniform_weights((4, 5), 4)


def test_types() -> None:
    distances, weights = _grid()
    _refused(
        "^distances: expected a floating-point tensor, got torch.int64",
        distances.long(),
        weights,
        kind=TypeError,
    )
    _refused(
        "^weights: expected a floating-point tensor, got torch.bool",
        distances,
        weights.bool(),
        kind=TypeError,
    )
    _refused("^distances: expected a tensor, got list", distances.tolist(), weights, kind=TypeError)
    assert common_type(distances, weights.double()) == torch.float64
    assert common_type(distances.half(), weights.bfloat16()) == torch.float32


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": 0.0}, "^time: expected a finite number > 0, got 0.0"),
        ({"time": -1.0}, "^time: expected a finite number > 0, got -1.0"),
        ({"time": NAN}, "^time: expected a finite number > 0, got nan"),
        ({"time": INF}, "^time: expected a finite number > 0, got inf"),
        ({"krylov_dim": 0}, "^krylov_dim: expected an integer >= 1, got 0"),
        ({"krylov_dim": 2.5}, "^krylov_dim: expected an integer >= 1, got 2.5"),
        ({"steps": 0}, "^steps: expected an integer >= 1, got 0"),
        ({"relinearizations": -1}, "^relinearizations: expected an integer >= 0, got -1"),
        ({"rank": 0}, "^rank: expected an integer >= 1, got 0"),
        ({"tolerance": 0.0}, "^tolerance: expected a finite number > 0, got 0.0"),
        ({"gradient": "adjoint"}, r"^gradient: expected one of \('convolution', .*\), got 'adjoint'"),
        ({"rho": 0.0}, "^rho: expected a finite number > 0, got 0.0"),
    ],
)
def test_settings_of_the_linear_flow(module: bool, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearAssignmentFlow(**settings) if module else linear_assignment_flow(*_grid(), **settings)


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (torch.full((2, 3, 4, 5), 0.5), "^initial: expected numbers that sum to 1"),
        (torch.full((2, 3, 4, 5), NAN), "^initial: expected numbers >= 0.* nan"),
        (
            torch.tensor([-1.0, 1, 1]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5),
            "^initial: expected numbers >= 0.* -1",
        ),
        (
            torch.full((3, 3, 4, 5), 1 / 3),
            r"^initial: expected shape \(2, 3, 4, 5\) or one item of it, got \(3, ",
        ),
        (torch.full((2, 3, 4, 4), 1 / 3), r"^initial: expected shape \(2, 3, 4, 5\)"),
    ],
)
def test_starts_off_the_simplex(initial: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_assignment_flow(*_grid(), initial=initial)
    with pytest.raises(TypeError, match=r"^initial: expected a floating-point tensor"):
        linear_assignment_flow(*_grid(), initial=initial.nan_to_num().long())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [1, 3, 9, 15])
def test_uniform_weights_of_any_window_pass_in_every_type(dtype: torch.dtype, size: int) -> None:
    """Rounding to a half type moves the sum of 225 weights by per cents."""
    weights = uniform_weights((20, 20), size, dtype=dtype)
    found = read_inputs(torch.rand(1, 2, 20, 20, dtype=torch.float64).to(dtype), weights, 2.0, None)
    assert found.evidence.dtype == found.weights.dtype
    assert found.evidence.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_node_with_many_neighbours_passes(dtype: torch.dtype) -> None:
    n = 600
    star = Graph(torch.stack([torch.zeros(n - 1, dtype=torch.int64), torch.arange(1, n)]), n)
    weights = uniform_weights((n,), neighborhood=star, dtype=dtype)
    assert weights.shape == (1, graph_window(star).size)
    read_inputs(torch.rand(1, 2, n).to(dtype), weights, 2.0, star)


def test_the_evidence_is_minus_the_distance_over_rho_and_so_is_its_derivative() -> None:
    for (distances, weights), neighborhood in ((_grid(torch.float64), None), (_graph(torch.float64), GRAPH)):
        d = distances.requires_grad_()
        evidence = read_inputs(d, weights, 0.25, neighborhood).evidence
        torch.testing.assert_close(evidence, d * -4)
        (gradient,) = torch.autograd.grad(evidence.sum(), d)
        assert (gradient == -4).all()


def test_an_empty_batch_is_no_error() -> None:
    distances, weights = _grid()
    for flow in _flows(distances[:0], weights[:0]):
        assert flow().shape == (0, 3, 4, 5)


def test_what_is_a_number_above_zero() -> None:
    check_positive("x", 1e-300)
    with pytest.raises(ValueError, match=r"^x: expected a finite number > 0, got 0"):
        check_positive("x", 0)
