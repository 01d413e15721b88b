"""S-flows against exact laws, SciPy and their own limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import flowcut as fc
from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.couplings import ConvolutionCouplings, DenseCouplings, WindowCouplings
from flowcut.flow.integrators import RKMK, GeometricEuler
from flowcut.flow.s_flow import SFlow, integrate_s_flow, s_flow
from flowcut.flow.stopping import IntegralWithin
from tests.truths.flows import replicate

PRECISE = AdaptiveRKMK(1e-10, 1e-10, order=5)
GROWING = GeometricEuler(0.1, growth=1.1)


def _problem(m: int = 3, j: int = 3, n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and symmetric matrices as in RAF, Theorem 1."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(m, n, n, generator=g, dtype=torch.float64)
    omega = (z + z.mT).clamp_min(0) / 2 + 1e-2 * torch.eye(n, dtype=torch.float64)
    return torch.randn(m, j, n, generator=g, dtype=torch.float64), omega


@pytest.mark.parametrize("integrator", [PRECISE, RKMK(0.02)], ids=str)
def test_is_scipy_s_solution_of_the_equation_in_s(integrator) -> None:
    """RAF (2), dS/dt = R_S (Omega S), with matrices."""
    logits, omega = _problem()
    ours = s_flow(logits.softmax(dim=1), DenseCouplings(omega), 2.0, integrator)
    for m in range(3):

        def right_hand_side(_: float, y, m: int = m):
            s = torch.from_numpy(y).reshape(6, 3)
            return replicate(s, omega[m] @ s).flatten().numpy()

        start = logits[m].softmax(dim=0).T.flatten().numpy()
        solved = solve_ivp(right_hand_side, (0, 2.0), start, rtol=1e-10, atol=1e-12)
        truth = torch.from_numpy(solved.y[:, -1]).reshape(6, 3).T
        torch.testing.assert_close(ours[m], truth, rtol=0, atol=1e-7)


def test_two_labels_follow_the_hyperbolic_tangent() -> None:
    """For two labels the difference u of logits obeys du/dt = Omega tanh(u / 2)."""
    logits, omega = _problem(m=2, j=2)
    found = integrate_s_flow(logits, DenseCouplings(omega), 3.0, PRECISE).logits
    for m in range(2):
        start = (logits[m, 0] - logits[m, 1]).numpy()
        matrix = omega[m].numpy()
        solved = solve_ivp(lambda _, u: matrix @ np.tanh(u / 2), (0, 3.0), start, rtol=1e-10, atol=1e-12)  # noqa: B023
        truth = torch.from_numpy(solved.y[:, -1])
        torch.testing.assert_close(found[m, 0] - found[m, 1], truth, rtol=0, atol=1e-7)


def test_one_node_by_hand() -> None:
    """n = 1, J = 2: sinh(u / 2) = e^{omega t / 2} sinh(u_0 / 2)."""
    omega, u0, time = 1.7, 0.4, 2.0
    start = torch.tensor([[[u0], [0.0]]], dtype=torch.float64)
    found = integrate_s_flow(start, DenseCouplings(torch.tensor([[[omega]]]).double()), time, PRECISE)
    u = 2 * math.asinh(math.exp(omega * time / 2) * math.sinh(u0 / 2))
    assert float(found.logits[0, 0, 0] - found.logits[0, 1, 0]) == pytest.approx(u, rel=1e-7)


def test_limits_are_integral() -> None:
    """RAF, Theorem 1, in single precision."""
    logits, omega = _problem(m=64, j=3, n=8)
    found = s_flow(
        logits.float().softmax(dim=1), DenseCouplings(omega.float()), None, GROWING, IntegralWithin(1e-3)
    )
    assert (found.amax(dim=1) >= 1 - 1e-3).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(64, 8))


def test_the_potential_grows() -> None:
    """<S, Omega S> never falls, for each kind of symmetric couplings."""
    g = torch.Generator().manual_seed(0)
    edges = torch.randn(2, 2, 4, 5, generator=g, dtype=torch.float64)
    kernel = torch.randn(2, 3, 3, 3, 3, generator=g, dtype=torch.float64)
    matrix = torch.randn(2, 20, 20, generator=g, dtype=torch.float64)
    for couplings in (
        WindowCouplings(edges, 0.1),
        ConvolutionCouplings(kernel + kernel.transpose(1, 2).flip(3, 4)),
        DenseCouplings(matrix + matrix.mT),
    ):
        logits = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
        last = torch.full((2,), -math.inf, dtype=torch.float64)
        for _ in range(15):
            logits = integrate_s_flow(logits, couplings, 0.02, RKMK(0.02)).logits
            s = logits.softmax(dim=1)
            potential = (s * couplings.apply(s)).flatten(1).sum(dim=1)
            assert (potential >= last).all()
            last = potential


def test_window_couplings_equal_their_dense_matrix() -> None:
    g = torch.Generator().manual_seed(0)
    edges = torch.rand(2, 2, 3, 4, generator=g, dtype=torch.float64)
    window = WindowCouplings(edges, 0.2)
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 1, 3, 4)
    matrix = torch.stack([window.apply(e[None])[:, 0].flatten(1) for e in basis], dim=2)
    logits = torch.randn(2, 3, 3, 4, generator=g, dtype=torch.float64)
    ours, dense = (integrate_s_flow(logits, c, 1.5).logits for c in (window, DenseCouplings(matrix)))
    torch.testing.assert_close(ours, dense)


def test_convolution_with_a_graph_of_the_same_ties() -> None:
    """A stationary kernel without label interaction is a constant window coupling."""
    kernel = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    for j in range(2):
        kernel[j, j] = torch.tensor([[0, 0.5, 0], [0.25, 0.125, 0.25], [0, 0.5, 0]])
    edges = torch.tensor([0.5, 0.25], dtype=torch.float64).reshape(1, 2, 1, 1).expand(1, 2, 4, 5)
    logits = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_kernel = s_flow(None, ConvolutionCouplings(kernel), 1.0, initial_logits=logits)
    torch.testing.assert_close(
        by_kernel, s_flow(None, WindowCouplings(edges, 0.125), 1.0, initial_logits=logits)
    )


def test_samples_share_what_is_given_once() -> None:
    logits, omega = _problem(m=4)
    one_start = s_flow(None, DenseCouplings(omega), 1.0, initial_logits=logits[:1])
    assert one_start.shape == (4, 3, 6)
    one_matrix = s_flow(None, DenseCouplings(omega[:1]), 1.0, initial_logits=logits)
    for m in range(4):
        alone = s_flow(None, DenseCouplings(omega[m : m + 1]), 1.0, initial_logits=logits[:1])
        torch.testing.assert_close(one_start[m], alone[0])
        alone = s_flow(None, DenseCouplings(omega[:1]), 1.0, initial_logits=logits[m : m + 1])
        torch.testing.assert_close(one_matrix[m], alone[0])


def test_start_as_assignments_or_logits() -> None:
    logits, omega = _problem()
    couplings = DenseCouplings(omega)
    by_s = s_flow(logits.softmax(dim=1), couplings, 1.0)
    torch.testing.assert_close(by_s, s_flow(None, couplings, 1.0, initial_logits=logits))
    torch.testing.assert_close(SFlow(1.0)(logits, couplings).softmax(dim=1), by_s)
    assert "time=1.0, integrator=GeometricEuler(step=0.1" in repr(SFlow())


def test_vertices_stay_where_they_are() -> None:
    _, omega = _problem(m=1, n=6)
    start = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 0, 1, 2]]), 3).mT.float()
    end = s_flow(start, DenseCouplings(omega.float()), 5.0)
    torch.testing.assert_close(end, start)


@pytest.mark.parametrize("kind", ["dense", "window", "kernel"])
def test_gradients_through_the_flow(kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    make = {
        "dense": (DenseCouplings, (2, 4, 4)),
        "window": (WindowCouplings, (2, 2, 2, 2)),
        "kernel": (ConvolutionCouplings, (2, 2, 2, 3, 3)),
    }
    couplings, shape = make[kind]
    logits = torch.randn(1, 2, 2, 2, generator=g, dtype=torch.float64, requires_grad=True)
    values = torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)
    layer = SFlow(0.6, RKMK(0.3, order=2))
    assert torch.autograd.gradcheck(lambda v, c: layer(v, couplings(c)), (logits, values))
    compiled = torch.compile(lambda v, c: layer(v, couplings(c)), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, values), layer(logits, couplings(values)))
    by_stop = s_flow(None, couplings(values), None, GROWING, initial_logits=logits, on_failure="ignore")
    by_stop.square().sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_integrated_in_single(dtype: torch.dtype) -> None:
    logits, omega = (t.to(dtype) for t in _problem())
    ours = s_flow(None, DenseCouplings(omega), 1.0, initial_logits=logits)
    assert ours.dtype == dtype
    single = s_flow(None, DenseCouplings(omega.float()), 1.0, initial_logits=logits.float())
    assert torch.equal(ours, single.to(dtype))


@pytest.mark.parametrize("couplings", ["dense", "window", "kernel"])
def test_no_samples_and_a_single_label(couplings: str) -> None:
    make = {
        "dense": lambda m, j: DenseCouplings(torch.ones(m, 6, 6)),
        "window": lambda m, j: WindowCouplings(torch.ones(m, 2, 2, 3)),
        "kernel": lambda m, j: ConvolutionCouplings(torch.ones(m, j, j, 3, 3)),
    }[couplings]
    assert s_flow(torch.ones(0, 2, 2, 3) / 2, make(0, 2), 1.0).shape == (0, 2, 2, 3)
    assert (s_flow(torch.ones(2, 1, 2, 3), make(2, 1)) == 1).all()


def test_extreme_couplings_stay_numbers() -> None:
    logits, omega = _problem()
    for factor in (1e6, 1e30):
        end = s_flow(None, DenseCouplings((factor * omega).float()), 1.0, initial_logits=logits.float())
        assert torch.isfinite(end).all()
        torch.testing.assert_close(end.sum(dim=1), torch.ones(3, 6))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"initial": None}, ValueError, "initial: expected assignments or initial_logits, got neither"),
        ({"initial_logits": torch.zeros(1, 2, 4)}, ValueError, "initial: .*got both"),
        ({"initial": torch.ones(1, 2, 4)}, ValueError, "initial: .*sum to 1.*got 2"),
        ({"initial": -torch.ones(1, 2, 4)}, ValueError, "initial: .*>= 0, got -1"),
        ({"initial": torch.full((1, 2, 4), math.nan)}, ValueError, "initial: .*nan"),
        ({"initial": torch.ones(4)}, ValueError, r"initial: expected shape \(M, J, \*spatial\)"),
        ({"initial": torch.ones(3, 2, 4) / 2}, ValueError, r"initial: expected shape \(2, 2, 4\)"),
        ({"initial": torch.ones(1, 2, 4).int()}, TypeError, "initial: .*int32"),
        ({"time": 0.0}, ValueError, "time: .*> 0, got 0.0"),
        ({"time": -1.0}, ValueError, "time: .*-1.0"),
        ({"initial": torch.ones(1, 2, 5) / 2}, ValueError, "matrix: expected 5 rows"),
        (
            {"initial": None, "initial_logits": torch.full((1, 2, 4), math.inf)},
            ValueError,
            "initial_logits: expected finite values, got inf",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(change, error: type[Exception], message: str) -> None:
    arguments = {
        "initial": torch.ones(1, 2, 4) / 2,
        "couplings": DenseCouplings(torch.ones(2, 4, 4)),
        "time": 1.0,
    }
    with pytest.raises(error, match=message) as caught:
        s_flow(**{**arguments, **change})
    assert "\n" not in str(caught.value)


def test_a_stop_that_is_not_met_is_reported() -> None:
    """Equal labels never decide."""
    undecided, couplings = torch.ones(1, 2, 4) / 2, DenseCouplings(torch.ones(1, 4, 4))
    with pytest.warns(fc.FlowcutWarning, match="raise max_steps"):
        s_flow(undecided, couplings, integrator=GeometricEuler(max_steps=5))
