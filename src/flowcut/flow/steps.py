"""What every integrator is made of: the step of a tableau, what it returns, and how it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowcut.core.results import NotConvergedError, OnFailure
from flowcut.core.warnings import FlowcutWarning
from flowcut.flow.simplex import project_tangent
from flowcut.flow.stopping import Stop
from flowcut.flow.tableaus import Tableau

# F as a function of logits, (N, J, *spatial) to the same shape; constants per pixel do not matter.
Field = Callable[[Tensor], Tensor]


class Integrated(NamedTuple):
    """Where a flow arrived.

    Attributes
    ----------
    logits
        (N, J, *spatial), zero mean over the labels: W = softmax(logits).
    time
        (N,) float64: how far each item was integrated.
    steps
        (N,) int64.
    converged
        (N,) bool: whether the stop was met, or without one, ``time`` was reached.
    """

    logits: Tensor
    time: Tensor
    steps: Tensor
    converged: Tensor


class Integrator(Protocol):
    """A scheme: a frozen dataclass with a bound on its steps."""

    @property
    def max_steps(self) -> int:
        """Give up after so many steps."""

    def run(
        self, field: Field, logits: Tensor, time: float | None, until: Stop | None, on_failure: OnFailure
    ) -> Integrated:
        """Integrate from ``logits`` until ``time`` or ``until``, whichever comes first.

        Where the end depends on the data, an end that was not reached is reported.
        """


def advance(tableau: Tableau, field: Field, logits: Tensor, h: float | Tensor) -> tuple[Tensor, list[Tensor]]:
    """One step and its slopes k_s; h is a number or one for every item, (N, 1, ...)."""
    slopes: list[Tensor] = []
    for row in tableau.stages:
        slopes.append(field(combine(logits, h, row, slopes)))
    # Zero mean: logits then grow only as far as labels differ.
    return project_tangent(combine(logits, h, tableau.weights, slopes)), slopes


def combine(base: Tensor, h: float | Tensor, coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Base + h sum_s c_s k_s."""
    for c, slope in zip(coefficients, slopes, strict=True):
        if c:
            base = base + (h * c) * slope
    return base


def check_eager(what: object) -> None:
    """Refuse to be traced where the number of steps depends on the data.

    Raises
    ------
    RuntimeError
        Inside ``torch.compile`` or ``torch.export``.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            f"{type(what).__name__}: expected eager execution, because the number of steps depends on "
            f"the data; to compile or export give a time, no `until`, and GeometricEuler or RKMK"
        )


def item_shape(flags: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, ..., 1), to act on the items of ``like``."""
    return flags.reshape(-1, *(1,) * (like.ndim - 1))


def report_unfinished(
    found: Integrated, integrator: Integrator, time: float | None, until: Stop | None, on_failure: OnFailure
) -> None:
    """Warn, raise or stay silent about items that did not come to their end.

    Raises
    ------
    NotConvergedError
        ``on_failure`` is "raise" and one did not.
    """
    failed = (~found.converged).nonzero()
    if on_failure == "ignore" or not len(failed):
        return
    item = int(failed[0])
    reached = f"time {float(found.time[item]):.3g} after {int(found.steps[item])} steps of {integrator}"
    goal = f"{until} was not met" if until is not None else f"time {time:g} was not reached"
    remedy = "raise max_steps, the step or its growth"
    if time is not None and until is not None:
        remedy = "raise the time or max_steps"
    text = f"{len(failed)} of {len(found.converged)} items: {goal}: {remedy} (item {item}: {reached})"
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=2)
