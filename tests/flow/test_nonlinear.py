"""The assignment flow against the literal equations of the paper."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import flowcut as fc
from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.adjoint import average
from flowcut.flow.inputs import read_inputs
from flowcut.flow.integrators import RKMK, GeometricEuler
from flowcut.flow.nonlinear import (
    AssignmentFlow,
    assignment_flow,
    integrate_assignment_flow,
)
from flowcut.flow.rounding import round_assignment
from flowcut.flow.stopping import EntropyBelow, IntegralWithin
from flowcut.flow.weights import normalize_weights, softmax_weights, uniform_weights
from tests.truths.flows import dense_omega, literal_similarity, replicate, window_offsets

RHO = 0.4


def _random(spatial=(3, 4), labels=3, items=1, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    distances = torch.rand(items, labels, *spatial, generator=g, dtype=torch.float64)
    logits = torch.randn(items, 3 ** len(spatial), *spatial, generator=g, dtype=torch.float64)
    return distances.to(dtype), softmax_weights(logits).to(dtype)


def _flat(distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """One item as (n, J) and a dense matrix (n, n)."""
    return distances[0].flatten(1).T, dense_omega(weights[0], window_offsets(distances.ndim - 2, 3))


def test_similarity_is_the_formula_of_the_paper() -> None:
    """(2.5b) as printed equals softmax(sum_k omega_ik (log W_k - D_k / rho))."""
    distances, weights = _random()
    d, omega = _flat(distances, weights)
    w = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(dim=1)
    printed = literal_similarity(w, d, omega, RHO)
    evidence, own, window = read_inputs(distances, weights, RHO, None)
    logits = w.log().T.reshape(distances.shape)
    ours = average(window, own, logits + evidence).softmax(dim=1)
    torch.testing.assert_close(ours[0].flatten(1).T, printed)


@pytest.mark.parametrize("start", ["barycenter", "elsewhere"])
def test_flow_is_scipy_s_solution_of_the_equation_in_w(start: str) -> None:
    distances, weights = _random()
    d, omega = _flat(distances, weights)
    w0 = torch.full((12, 3), 1 / 3, dtype=torch.float64)
    if start == "elsewhere":
        g = torch.Generator().manual_seed(5)
        w0 = torch.randn(12, 3, generator=g, dtype=torch.float64).softmax(dim=1)

    def right_hand_side(_: float, y) -> Tensor:
        w = torch.from_numpy(y).reshape(12, 3)
        return replicate(w, literal_similarity(w, d, omega, RHO)).flatten().numpy()

    solved = solve_ivp(right_hand_side, (0, 2.0), w0.flatten().numpy(), rtol=1e-9, atol=1e-11)
    truth = torch.from_numpy(solved.y[:, -1]).reshape(12, 3)
    initial = w0.T.reshape(distances.shape)
    for integrator in (RKMK(0.05), AdaptiveRKMK(1e-9, 1e-9, order=5)):
        ours = assignment_flow(distances, weights, RHO, 2.0, initial, integrator)
        torch.testing.assert_close(ours[0].flatten(1).T, truth, rtol=0, atol=1e-7)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_order_on_pictures(order: int) -> None:
    distances, weights = _random()
    exact = assignment_flow(distances, weights, RHO, 1.0, integrator=AdaptiveRKMK(1e-12, 1e-12, order=5))
    errors = []
    for step in (0.25, 0.125):
        integrator = GeometricEuler(step) if order == 1 else RKMK(step, order)
        ours = assignment_flow(distances, weights, RHO, 1.0, integrator=integrator)
        errors.append((ours - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_converges_to_integral_assignments() -> None:
    distances, weights = _random((8, 9), labels=4, items=2, dtype=torch.float32)
    by_entropy = assignment_flow(distances, weights, RHO)
    assert EntropyBelow(1e-3).met(by_entropy.log()).all()
    within = assignment_flow(
        distances, weights, RHO, integrator=GeometricEuler(0.1, growth=1.1), until=IntegralWithin(1e-4)
    )
    assert (within.amax(dim=1) >= 1 - 1e-4).all()
    assert torch.equal(round_assignment(within), within.argmax(dim=1))


def test_stays_on_the_simplex_for_long_times_in_single_precision() -> None:
    distances, weights = _random((6, 7), labels=5, dtype=torch.float32)
    for integrator, time in ((GeometricEuler(0.5), 900.0), (GeometricEuler(0.1, growth=1.2), 1e7)):
        w = assignment_flow(1e3 * distances, weights, 0.01, time, integrator=integrator)
        assert (w >= 0).all()
        torch.testing.assert_close(w.sum(dim=1), torch.ones(1, 6, 7))


def test_grid_as_a_graph() -> None:
    """The 4-neighbourhood of a picture as offsets and as a list of ties."""
    height, width = 4, 5
    offsets = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))
    g = torch.Generator().manual_seed(0)
    grid = normalize_weights(
        torch.rand(2, 5, height, width, generator=g, dtype=torch.float64), fc.Neighborhood(offsets)
    )
    distances = torch.rand(2, 3, height, width, generator=g, dtype=torch.float64)
    number = torch.arange(height * width).reshape(height, width)
    ties = torch.cat(
        [
            torch.stack([number[:-1].flatten(), number[1:].flatten()]),
            torch.stack([number[:, :-1].flatten(), number[:, 1:].flatten()]),
        ],
        dim=1,
    )
    graph = fc.Graph(ties, height * width)
    forward = [grid[:, 1, :-1].flatten(1), grid[:, 2, :, :-1].flatten(1)]
    backward = [grid[:, 3, 1:].flatten(1), grid[:, 4, :, 1:].flatten(1)]
    weights = torch.cat([*forward, *backward, grid[:, 0].flatten(1)], dim=1)
    on_grid = assignment_flow(distances, grid, RHO, 2.0, neighborhood=fc.Neighborhood(offsets))
    on_graph = assignment_flow(distances.flatten(2), weights, RHO, 2.0, neighborhood=graph)
    torch.testing.assert_close(on_graph, on_grid.flatten(2))


def test_layer_returns_logits_of_the_function() -> None:
    distances, weights = _random(items=2)
    layer = AssignmentFlow(RHO, 2.0)
    logits = layer(distances, weights)
    torch.testing.assert_close(logits.softmax(dim=1), assignment_flow(distances, weights, RHO, 2.0))
    torch.testing.assert_close(logits.sum(dim=1), torch.zeros(2, 3, 4, dtype=torch.float64))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(distances, weights), logits)
    assert "rho=0.4, time=2.0, integrator=GeometricEuler(step=0.1" in repr(layer)


def test_a_flow_can_be_taken_up_again() -> None:
    distances, weights = _random()
    whole = integrate_assignment_flow(distances, weights, RHO, 2.0)
    half = integrate_assignment_flow(distances, weights, RHO, 1.0)
    again = integrate_assignment_flow(distances, weights, RHO, 1.0, half.logits)
    torch.testing.assert_close(again.logits, whole.logits)
    by_w = assignment_flow(distances, weights, RHO, 1.0, half.logits.softmax(dim=1))
    torch.testing.assert_close(by_w, whole.logits.softmax(dim=1))
    saturated = torch.zeros(1, 3, 3, 4)
    saturated[:, 1] = 1
    after = assignment_flow(distances.float(), weights.float(), RHO, 1.0, saturated)
    assert torch.isfinite(after).all()
    assert (after[:, 1] == 1).all()


def test_training_through_the_layer() -> None:
    """Gradients with respect to distances, weights and the start, against finite differences."""
    distances, weights = _random((2, 2), labels=2)
    logits, start = torch.randn_like(weights), torch.randn_like(distances)
    inputs = tuple(t.requires_grad_() for t in (distances, logits, start))
    layer = AssignmentFlow(RHO, 0.6, RKMK(0.3, order=3))
    assert torch.autograd.gradcheck(lambda d, l, s: layer(d, softmax_weights(l), s), inputs)
    until = AssignmentFlow(RHO, None, GeometricEuler(0.5), EntropyBelow(0.3))
    until(distances, softmax_weights(logits), start).square().sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_integrated_in_single(dtype: torch.dtype) -> None:
    distances, weights = (t.to(dtype) for t in _random((5, 6)))
    w = assignment_flow(distances, weights, RHO, 3.0)
    assert w.dtype == dtype
    assert torch.equal(w, assignment_flow(distances.float(), weights, RHO, 3.0).to(dtype))


def test_a_single_label_gets_everything() -> None:
    distances, weights = _random(labels=1)
    assert (assignment_flow(distances, weights, RHO) == 1).all()
    assert (assignment_flow(distances, weights, RHO, 2.0) == 1).all()


def test_one_pixel_follows_its_own_distances() -> None:
    distances = torch.tensor([[[0.3], [0.1], [0.5]]])
    w = assignment_flow(distances, torch.ones(1, 1, 1))
    assert w[0, :, 0].argmax() == 1
    assert w[0, 1, 0] > 0.99


def test_constant_data_leave_the_barycenter() -> None:
    weights = uniform_weights((4, 5), dtype=torch.float64)
    w = assignment_flow(torch.full((1, 3, 4, 5), 0.7).double(), weights, RHO, 5.0)
    torch.testing.assert_close(w, torch.full_like(w, 1 / 3))
    with pytest.warns(
        fc.FlowcutWarning, match=r"EntropyBelow\(threshold=0.001\) was not met: raise max_steps"
    ):
        assignment_flow(torch.zeros(1, 3, 4, 5), weights, integrator=GeometricEuler(max_steps=3))
    # Labels that are equally good stay equal.
    distances = torch.tensor([0.2, 0.2, 0.9]).double().reshape(1, 3, 1, 1).expand(1, 3, 4, 5)
    w = assignment_flow(distances, weights, RHO, 10.0)
    assert torch.equal(w[:, 0], w[:, 1])
    assert (w[:, 2] < w[:, 0]).all()


def test_averaging_removes_noise() -> None:
    """Two half planes with noisy distances: uniform weights give the half planes back."""
    g = torch.Generator().manual_seed(0)
    truth = (torch.arange(24) >= 12).long().expand(1, 24, 24)
    noisy = truth + 0.45 * torch.randn(1, 24, 24, generator=g)
    distances = torch.stack([noisy.abs(), (noisy - 1).abs()], dim=1)
    before = (distances.argmin(dim=1) != truth).float().mean()
    w = assignment_flow(distances, uniform_weights((24, 24)), rho=0.5)
    after = (round_assignment(w) != truth).float().mean()
    assert before > 0.08
    assert after < 0.02


def _set(name: str, value: float):
    def change(arguments) -> None:
        arguments[name] = arguments[name].clone()
        arguments[name].view(-1)[57] = value

    return change


def _replace(**values):
    return lambda arguments: arguments.update(values)


BAD_INPUT = {
    "nan distance": (_set("distances", math.nan), ValueError, "distances: .*nan"),
    "infinite distance": (_set("distances", math.inf), ValueError, "distances: .*inf"),
    "rho zero": (_replace(rho=0.0), ValueError, "rho: expected a finite number > 0, got 0.0"),
    "rho negative": (_replace(rho=-1.0), ValueError, "rho: .*-1.0"),
    "rho nan": (_replace(rho=math.nan), ValueError, "rho: .*nan"),
    "weights off the simplex": (_set("weights", 5.0), ValueError, "weights: .*sum to 1.*normalize_weights"),
    "nan weight": (_set("weights", math.nan), ValueError, "weights: .*nan"),
    "zero rows": (_replace(weights=torch.zeros(1, 9, 4, 5)), ValueError, "weights: .*sum 0"),
    "even window": (_replace(weights=torch.ones(1, 4, 4, 5) / 4), ValueError, "weights: .*odd window, got 4"),
    "time zero": (_replace(time=0.0), ValueError, "time: expected a finite number > 0, got 0.0"),
    "time negative": (_replace(time=-3.0), ValueError, "time: .*-3.0"),
    "integer distances": (_replace(distances=torch.ones(1, 3, 4, 5).long()), TypeError, "distances: .*int64"),
    "rank": (_replace(distances=torch.ones(4, 5)), ValueError, r"distances: .*\(N, J, \*spatial\)"),
    "other size": (_replace(distances=torch.ones(1, 3, 4, 6)), ValueError, "weights: expected shape"),
    "start negative": (_set("initial", -0.1), ValueError, "initial: expected numbers >= 0, got -0.1"),
    "start nan": (_set("initial", math.nan), ValueError, "initial: .*nan"),
    "start off the simplex": (_set("initial", 0.9), ValueError, "initial: .*sum to 1.*got 1.56"),
    "start of another shape": (
        _replace(initial=torch.full((1, 2, 4, 5), 0.5)),
        ValueError,
        r"initial: expected shape \(1, 3, 4, 5\) or one item of it, got \(1, 2, 4, 5\)",
    ),
    "integer start": (_replace(initial=torch.ones(1, 3, 4, 5).int()), TypeError, "initial: .*int32"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_clear_line(case: str) -> None:
    change, error, message = BAD_INPUT[case]
    arguments = {
        "distances": torch.rand(1, 3, 4, 5),
        "weights": uniform_weights((4, 5)),
        "rho": 1.0,
        "time": 1.0,
        "initial": torch.full((1, 3, 4, 5), 1 / 3),
    }
    change(arguments)
    with pytest.raises(error, match=message) as caught:
        assignment_flow(**arguments)
    assert "\n" not in str(caught.value)


def test_bad_logits_are_named() -> None:
    distances, weights = _random()
    with pytest.raises(ValueError, match="initial_logits: expected finite values, got inf"):
        integrate_assignment_flow(
            distances, weights, time=1.0, initial_logits=torch.full((1, 3, 3, 4), math.inf)
        )
