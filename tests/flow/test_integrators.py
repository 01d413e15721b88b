"""Schemes against exact solutions: orders, tolerances, stops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import flowcut as fc
from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.integrators import LONGEST_STEP, RKMK, GeometricEuler, integrate, plan_steps
from flowcut.flow.stopping import EntropyBelow, IntegralWithin
from flowcut.flow.tableaus import BOGACKI_SHAMPINE, CLASSICAL, DORMAND_PRINCE, EULER, HEUN, KUTTA, Tableau

SCHEMES = {1: GeometricEuler, 2: RKMK, 3: RKMK, 4: RKMK}


def _scheme(order: int, step: float, **options):
    return GeometricEuler(step, **options) if order == 1 else RKMK(step, order, **options)


def _selection(logits: Tensor) -> Tensor:
    """dW/dt = R_W W for two labels: u' = tanh(u / 2) for u = v_0 - v_1, so sinh(u/2) = e^{t/2} sinh(u0/2)."""
    return logits.softmax(dim=1)


def _exact(start: float, time: float) -> float:
    return 2 * math.asinh(math.exp(time / 2) * math.sinh(start / 2))


def _start(u: float = 0.8) -> Tensor:
    return torch.tensor([[[u / 2], [-u / 2]]], dtype=torch.float64)


def _difference(found) -> float:
    return float(found.logits[0, 0, 0] - found.logits[0, 1, 0])


@pytest.mark.parametrize("order", SCHEMES)
def test_order_is_the_slope_of_the_error(order: int) -> None:
    errors = []
    for step in (0.2, 0.1, 0.05):
        found = integrate(_selection, _start(), _scheme(order, step), time=2.0)
        errors.append(abs(_difference(found) - _exact(0.8, 2.0)))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("tableau", [EULER, HEUN, KUTTA, CLASSICAL, BOGACKI_SHAMPINE, DORMAND_PRINCE])
def test_tableaus_meet_the_conditions_of_their_order(tableau: Tableau) -> None:
    """sum b = 1, sum b c = 1/2, sum b c^2 = 1/3, sum b A c = 1/6, ...: the quadrature ones and two trees."""
    s = len(tableau.stages)
    a = torch.zeros(s, s, dtype=torch.float64)
    for row, values in enumerate(tableau.stages):
        assert len(values) == row
        a[row, :row] = torch.tensor(values, dtype=torch.float64)
    c = a.sum(dim=1)
    for order, b in ((tableau.order, tableau.weights), (tableau.order - 1, tableau.embedded)):
        if not b:
            continue
        b = torch.tensor(b, dtype=torch.float64)
        assert len(b) == s
        for power in range(order):
            assert float((b * c**power).sum()) == pytest.approx(1 / (power + 1), abs=1e-12)
        if order >= 3:
            assert float(b @ a @ c) == pytest.approx(1 / 6, abs=1e-12)
        if order >= 4:
            assert float(b @ (c * (a @ c))) == pytest.approx(1 / 8, abs=1e-12)
            assert float(b @ a @ a @ c) == pytest.approx(1 / 24, abs=1e-12)


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
def test_adaptive_error_follows_the_tolerance(order: int, tolerance: float) -> None:
    scheme = AdaptiveRKMK(tolerance, tolerance, order)
    found = integrate(_selection, _start(), scheme, time=5.0)
    error = abs(_difference(found) - _exact(0.8, 5.0))
    # Errors of single steps are amplified by up to e^{T/2} = 12 and add up over the steps.
    assert 1e-4 * tolerance < error < 100 * tolerance
    assert found.time.item() == 5.0
    assert found.converged.all()


def test_adaptive_steps_are_few_and_an_item_s_own() -> None:
    """A hard item makes no easy one slower, and a batch gives what its items give alone."""
    speed = torch.tensor([1.0, 40.0], dtype=torch.float64).reshape(2, 1, 1)
    starts = _start().repeat(2, 1, 1)
    scheme = AdaptiveRKMK(1e-6, 1e-6, order=5)
    both = integrate(lambda v: speed * v.softmax(dim=1), starts, scheme, time=1.0)
    assert both.steps[0] < both.steps[1]
    assert both.logits[1, 0, 0] * 2 == pytest.approx(_exact(0.8, 40.0), rel=1e-5)
    for n in range(2):
        alone = integrate(lambda v, n=n: speed[n] * v.softmax(dim=1), starts[n : n + 1], scheme, time=1.0)
        assert torch.equal(alone.logits[0], both.logits[n])
        assert alone.steps[0] == both.steps[n]


def test_the_last_step_lands_on_the_time() -> None:
    for step, growth, time in ((0.1, 1.0, 1.0), (0.3, 1.0, 1.0), (0.1, 1.3, 7.7), (9.0, 1.0, 0.5)):
        lengths, arrives = plan_steps(step, growth, 1000, time)
        assert arrives
        assert math.fsum(lengths) == pytest.approx(time, rel=1e-12)
        assert min(lengths) > 1e-6
    assert len(plan_steps(0.1, 1.0, 1000, 1.0)[0]) == 10
    assert plan_steps(0.1, 1.0, 9, 1.0) == ([0.1] * 9, False)


def test_long_growing_flows_stay_finite_in_single_precision() -> None:
    """Steps stop growing before anything overflows."""
    lengths, _ = plan_steps(0.1, 2.0, 2000, None)
    assert max(lengths) == LONGEST_STEP
    never = integrate(
        _selection,
        torch.tensor([[[1e-3], [-1e-3]], [[0.0], [0.0]]]),
        GeometricEuler(0.1, growth=2.0, max_steps=2000),
        until=IntegralWithin(1e-9),
        on_failure="ignore",
    )
    assert torch.isfinite(never.logits).all()
    assert never.converged.tolist() == [True, False]
    torch.testing.assert_close(never.logits.softmax(dim=1)[:, 0, 0], torch.tensor([1.0, 0.5]))


def test_items_stop_by_themselves() -> None:
    starts = torch.cat([_start(0.1), _start(2.0)])
    rule = IntegralWithin(0.01)
    both = integrate(_selection, starts, GeometricEuler(0.1), until=rule)
    assert both.steps[0] > both.steps[1] > 0
    torch.testing.assert_close(both.time, 0.1 * both.steps.double())
    for n in range(2):
        alone = integrate(_selection, starts[n : n + 1], GeometricEuler(0.1), until=rule)
        assert torch.equal(alone.logits[0], both.logits[n])
    # One step earlier the rule was not met.
    before = integrate(_selection, starts[:1], GeometricEuler(0.1), time=0.1 * (int(both.steps[0]) - 1))
    assert rule.met(both.logits).all()
    assert not rule.met(before.logits).any()


def test_growing_steps_reach_slow_limits() -> None:
    found = integrate(_selection, _start(1e-6), GeometricEuler(0.1, growth=1.1), until=IntegralWithin(1e-3))
    assert int(found.steps) <= 90


@pytest.mark.parametrize("scheme", [GeometricEuler(0.1), RKMK(0.1), AdaptiveRKMK()], ids=str)
def test_time_and_stop_whichever_comes_first(scheme) -> None:
    early = integrate(_selection, _start(), scheme, time=100.0, until=EntropyBelow(0.5))
    assert early.converged.all()
    assert early.time.item() < 10
    late = integrate(_selection, _start(), scheme, time=0.5, until=EntropyBelow(0.5), on_failure="ignore")
    assert not late.converged.any()
    assert late.time.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "scheme", [GeometricEuler(0.1, max_steps=5), RKMK(0.1, max_steps=5), AdaptiveRKMK(max_steps=2)], ids=str
)
def test_failure_is_reported_as_asked(scheme) -> None:
    def run(on_failure: str):
        starts = torch.cat([_start(30.0), _start()])
        return integrate(_selection, starts, scheme, until=EntropyBelow(1e-3), on_failure=on_failure)

    with pytest.warns(fc.FlowcutWarning, match=r"1 of 2 items: EntropyBelow.*raise max_steps.*item 1"):
        run("warn")
    with pytest.raises(fc.NotConvergedError, match="max_steps"):
        run("raise")
    assert run("ignore").converged.tolist() == [True, False]


def test_an_adaptive_scheme_that_does_not_arrive_says_so() -> None:
    with pytest.raises(fc.NotConvergedError, match=r"time 100 was not reached: raise .*max_steps"):
        integrate(_selection, _start(), AdaptiveRKMK(max_steps=3), time=100.0, on_failure="raise")
    nan = integrate(
        lambda v: v * math.nan, _start(), AdaptiveRKMK(max_steps=20), time=1.0, on_failure="ignore"
    )
    assert not nan.converged.any()
    assert torch.isfinite(nan.logits).all()


def test_entropy_rule_is_a_share_of_log_j_averaged_over_pixels() -> None:
    p = torch.tensor([[0.9, 0.5], [0.1, 0.5]], dtype=torch.float64)[None]
    share = (-(p * p.log()).sum(dim=1) / math.log(2)).mean().item()
    assert EntropyBelow(share + 1e-9).met(p.log()).item()
    assert not EntropyBelow(share - 1e-9).met(p.log()).item()
    assert EntropyBelow(0.5).met(torch.zeros(2, 1, 3)).all()  # a single label
    assert EntropyBelow(0.5).met(torch.tensor([[[1e30], [0.0]]])).all()


def test_integral_rule_is_the_distance_to_a_vertex() -> None:
    p = torch.tensor([[0.99, 0.02], [0.01, 0.98]], dtype=torch.float64)[None]
    assert IntegralWithin(0.0200001).met(p.log()).item()
    assert not IntegralWithin(0.0199999).met(p.log()).item()
    assert IntegralWithin(1e-12).met(torch.tensor([[[0.0], [-40.0]]])).item()


def test_constants_of_a_pixel_do_not_matter() -> None:
    shift = lambda v: v.softmax(dim=1) + 1e3 * torch.rand(1, 1, 1, dtype=torch.float64)  # noqa: E731
    for scheme in (GeometricEuler(0.1), RKMK(0.1), AdaptiveRKMK()):
        plain = integrate(_selection, _start(), scheme, time=1.0)
        shifted = integrate(shift, _start() + 5.0, scheme, time=1.0)
        torch.testing.assert_close(shifted.logits, plain.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", [RKMK(0.25, order=3), AdaptiveRKMK(1e-3, 1e-3)], ids=str)
def test_derivatives_are_those_of_the_steps(scheme) -> None:
    logits = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits.requires_grad_()
    rate = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    call = lambda v, r: integrate(lambda u: r * u.softmax(dim=1), v, scheme, time=1.0).logits  # noqa: E731
    # The adaptive scheme's step lengths are held fixed, which the tolerance makes up for.
    loose = {"rtol": 1e-2, "atol": 1e-3} if isinstance(scheme, AdaptiveRKMK) else {}
    assert torch.autograd.gradcheck(call, (logits, rate), **loose)


def test_fixed_times_compile_and_stops_say_why_they_do_not() -> None:
    def fixed(v: Tensor) -> Tensor:
        return integrate(_selection, v, RKMK(0.2, order=2, growth=1.2), time=1.0).logits

    compiled = torch.compile(fixed, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(_start()), fixed(_start()))
    torch.testing.assert_close(torch.vmap(fixed)(_start()[None])[0], fixed(_start()))
    for options in (
        {"integrator": GeometricEuler(), "until": EntropyBelow()},
        {"integrator": AdaptiveRKMK(), "time": 1.0},
    ):
        call = lambda v, options=options: integrate(_selection, v, **options).logits  # noqa: E731
        with pytest.raises(Exception, match="expected eager execution"):
            torch.compile(call, fullgraph=True, backend="aot_eager")(_start())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GeometricEuler(0.0), "step: expected a finite number > 0, got 0.0"),
        (lambda: GeometricEuler(math.nan), "step: .*nan"),
        (lambda: RKMK(-1.0), "step: .*-1.0"),
        (lambda: RKMK(0.1, order=5), "order: expected 2, 3 or 4, got 5"),
        (lambda: RKMK(0.1, growth=0.9), "growth: expected a finite number >= 1, got 0.9"),
        (lambda: GeometricEuler(growth=math.nan), "growth: .*nan"),
        (lambda: GeometricEuler(max_steps=0), "max_steps: expected at least 1, got 0"),
        (lambda: AdaptiveRKMK(rtol=0), "rtol: .*got 0"),
        (lambda: AdaptiveRKMK(atol=-1), "atol: .*got -1"),
        (lambda: AdaptiveRKMK(first_step=math.inf), "first_step: .*inf"),
        (lambda: AdaptiveRKMK(order=4), "order: expected 3 or 5, got 4"),
        (lambda: AdaptiveRKMK(max_steps=0), "max_steps: .*0"),
        (lambda: EntropyBelow(0.0), "threshold: expected a number between 0 and 1, got 0.0"),
        (lambda: IntegralWithin(math.nan), "tolerance: .*nan"),
        (lambda: integrate(_selection, _start(), RKMK()), "time: .*neither"),
        (lambda: integrate(_selection, _start(), RKMK(), time=0.0), "time: .*> 0, got 0.0"),
        (lambda: integrate(_selection, _start(), RKMK(), time=-2.0), "time: .*> 0, got -2.0"),
        (lambda: integrate(_selection, _start(), RKMK(), time=math.nan), "time: .*nan"),
        (
            lambda: integrate(_selection, _start(), RKMK(0.1, max_steps=9), time=1.0),
            "time: expected what 9 steps of 0.1.*got 1.0.*AdaptiveRKMK",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
