r"""Flows on the assignment manifold, integrated.

All flows here have the form dW/dt = R_W F(W). The manifold is acted on by the group (R^J, +) through
the lifting map, W -> exp_W(v) = W e^v / <W, e^v> for every pixel: exp_W(u + v) = exp_{exp_W(u)}(v), and
constants act as the identity. Runge-Kutta-Munthe-Kaas methods write W(t) = exp_{W0}(v(t)) and integrate
dv/dt = dexp^{-1}_v F in the algebra by a Runge-Kutta tableau. The group is abelian: dexp^{-1} is the
identity. So

    dv/dt = F(softmax(log W0 + v)),          W = softmax(log W0 + v),

and the method is the tableau applied to logits log W0 + v; one Euler stage of it is the geometric Euler
method W <- exp_W(h F(W)). Indeed d/dt log W = F - <W, F> equals F up to a constant of each pixel, which the
softmax does not see. Logits do not underflow where W does, so that nothing is computed on W.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.results import OnFailure
from flowcut.flow.inputs import check_positive
from flowcut.flow.simplex import project_tangent
from flowcut.flow.steps import (
    Field,
    Integrated,
    Integrator,
    advance,
    check_eager,
    item_shape,
    report_unfinished,
)
from flowcut.flow.stopping import Stop
from flowcut.flow.tableaus import CLASSICAL, EULER, HEUN, KUTTA, Tableau

# Growing steps grow up to this: far beyond any transient, far below overflow of single precision.
LONGEST_STEP = 1e6


@dataclass(frozen=True)
class GeometricEuler:
    """W <- exp_W(h F(W)): one evaluation a step, order 1.

    With a fixed time and no stop the steps are a plain loop of known length, which compiles, exports,
    vmaps and differentiates. The last step is shortened to arrive at the time.

    Parameters
    ----------
    step
        Length h of the first step, > 0.
    growth
        Every step is this times longer than the one before, >= 1. Slow tails of an S-flow converge
        in some 90 steps that grow by 1.1.
    max_steps
        Give up after so many steps, >= 1.

    Raises
    ------
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> integrate(lambda v: v, torch.tensor([[1.0, -1.0]]), GeometricEuler(0.1), time=0.2).logits.tolist()
    [[1.21..., -1.21...]]
    """

    step: float = 0.1
    growth: float = 1.0
    max_steps: int = 2000

    def __post_init__(self) -> None:
        _check_steps(self.step, self.growth, self.max_steps)

    def run(
        self, field: Field, logits: Tensor, time: float | None, until: Stop | None, on_failure: OnFailure
    ) -> Integrated:
        """See :class:`flowcut.flow.steps.Integrator`."""
        return _run_planned(EULER, self, field, logits, time, until, on_failure)


@dataclass(frozen=True)
class RKMK:
    """Runge-Kutta-Munthe-Kaas of order 2 (Heun), 3 (Kutta) or 4 (the classical one).

    As many evaluations a step as the order; otherwise like :class:`GeometricEuler`.

    Parameters
    ----------
    step, growth, max_steps
        As in :class:`GeometricEuler`.
    order
        2, 3 or 4.

    Raises
    ------
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> integrate(lambda v: v, torch.tensor([[1.0, -1.0]]), RKMK(0.1, order=2), time=0.2).logits.tolist()
    [[1.22..., -1.22...]]
    """

    step: float = 0.1
    order: int = 4
    growth: float = 1.0
    max_steps: int = 2000

    def __post_init__(self) -> None:
        _check_steps(self.step, self.growth, self.max_steps)
        if self.order not in _RKMK:
            raise ValueError(f"order: expected 2, 3 or 4, got {self.order}")

    def run(
        self, field: Field, logits: Tensor, time: float | None, until: Stop | None, on_failure: OnFailure
    ) -> Integrated:
        """See :class:`flowcut.flow.steps.Integrator`."""
        return _run_planned(_RKMK[self.order], self, field, logits, time, until, on_failure)


_RKMK = {2: HEUN, 3: KUTTA, 4: CLASSICAL}


def integrate(
    field: Field,
    logits: Tensor,
    integrator: Integrator,
    time: float | None = None,
    until: Stop | None = None,
    on_failure: OnFailure = "warn",
) -> Integrated:
    """Integrate d logits / dt = field(logits), and say so if that did not come to its end.

    Parameters
    ----------
    field
        F as a function of logits; constants per pixel do not matter.
    logits
        (N, J, *spatial), finite: where to start.
    integrator
        :class:`GeometricEuler`, :class:`RKMK` or :class:`flowcut.flow.adaptive.AdaptiveRKMK`.
    time
        How long, > 0. With ``until`` the latest time.
    until
        Rule by which an item stops earlier; an item that stopped stays as it is.
    on_failure
        What to do when an item did not meet ``until``, or an adaptive scheme did not reach ``time``:
        "warn", "raise" or "ignore".

    Raises
    ------
    ValueError
        ``time`` <= 0, neither ``time`` nor ``until``, or a fixed step that cannot reach ``time``.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    >>> integrate(lambda v: v, torch.tensor([[1.0, -1.0]]), RKMK(0.1), time=1.0).logits.tolist()
    [[2.718..., -2.718...]]
    """
    if time is not None:
        check_positive("time", time)
    elif until is None:
        raise ValueError("time: expected a number or a rule `until`, got neither")
    return integrator.run(field, project_tangent(logits), time, until, on_failure)


def plan_steps(step: float, growth: float, max_steps: int, time: float | None) -> tuple[list[float], bool]:
    """Lengths of at most ``max_steps`` steps, and whether they end at ``time``.

    Examples
    --------
    >>> plan_steps(0.5, 2.0, 10, 2.0)
    ([0.5, 1.0, 0.5], True)
    """
    lengths: list[float] = []
    left, longest = time, max(step, LONGEST_STEP)
    for _ in range(max_steps):
        # A last step that is longer by rounding is better than one more step of no length.
        if left is not None and left <= step * (1 + 1e-9):
            return [*lengths, left], True
        lengths.append(step)
        left = None if left is None else left - step
        step = min(step * growth, longest)
    return lengths, False


def _run_planned(
    tableau: Tableau,
    integrator: GeometricEuler | RKMK,
    field: Field,
    logits: Tensor,
    time: float | None,
    until: Stop | None,
    on_failure: OnFailure,
) -> Integrated:
    step, growth, limit = integrator.step, integrator.growth, integrator.max_steps
    lengths, arrives = plan_steps(step, growth, limit, time)
    if until is not None:
        found = _run_until(tableau, field, logits, lengths, until)
        report_unfinished(found, integrator, time, until, on_failure)
        return found
    if not arrives or time is None:
        raise ValueError(
            f"time: expected what {limit} steps of {step:g} (growing by {growth:g}) can reach, got {time}; "
            f"use a longer step, growth > 1, a larger max_steps, or AdaptiveRKMK"
        )
    for h in lengths:
        logits, _ = advance(tableau, field, logits, h)
    items = torch.ones(logits.shape[0], dtype=torch.int64, device=logits.device)
    return Integrated(logits, items.double() * time, items * len(lengths), items > 0)


def _run_until(
    tableau: Tableau, field: Field, logits: Tensor, lengths: list[float], until: Stop
) -> Integrated:
    check_eager(until)
    done = until.met(logits)
    time, steps = torch.zeros_like(done, dtype=torch.float64), torch.zeros_like(done, dtype=torch.int64)
    for h in lengths:
        if bool(done.all()):
            break
        new, _ = advance(tableau, field, logits, h)
        # Items that are done stay, so that a batch gives what its items give alone.
        logits = torch.where(item_shape(done, logits), logits, new)
        time, steps = time + h * ~done, steps + ~done
        done = done | until.met(logits)
    return Integrated(logits, time, steps, done)


def _check_steps(step: float, growth: float, max_steps: int) -> None:
    check_positive("step", step)
    if not 1 <= growth < float("inf"):
        raise ValueError(f"growth: expected a finite number >= 1, got {growth}")
    if max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, got {max_steps}")
