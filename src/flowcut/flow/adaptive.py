"""Runge-Kutta-Munthe-Kaas with steps as long as an error estimate allows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.results import OnFailure
from flowcut.flow.inputs import check_positive
from flowcut.flow.integrators import LONGEST_STEP
from flowcut.flow.simplex import project_tangent
from flowcut.flow.steps import (
    Field,
    Integrated,
    advance,
    check_eager,
    combine,
    item_shape,
    report_unfinished,
)
from flowcut.flow.stopping import Stop
from flowcut.flow.tableaus import BOGACKI_SHAMPINE, DORMAND_PRINCE, Tableau

_TABLEAUS = {3: BOGACKI_SHAMPINE, 5: DORMAND_PRINCE}


@dataclass(frozen=True)
class AdaptiveRKMK:
    """An embedded pair: Bogacki-Shampine 3(2) or Dormand-Prince 5(4) on logits.

    Each item has its own step lengths, so that a batch gives what its items give alone. A step is
    accepted where the two results differ by at most atol + rtol |logit| in every logit (zero mean over
    the labels); the next is 0.9 err^(-1/order) times as long, between 0.2 and 5. Derivatives are
    those of the steps taken, their lengths held fixed. Eager only: the number of steps depends on the data.

    Parameters
    ----------
    rtol, atol
        Error of one step, relative and absolute, > 0.
    order
        3 or 5.
    first_step
        Length of the first trial, > 0.
    max_steps
        Give up after so many trials.

    Raises
    ------
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> scheme = AdaptiveRKMK(1e-6, order=5)
    >>> scheme.run(lambda v: v, torch.tensor([[1.0, -1.0]]), 1.0, None, "warn").logits.tolist()
    [[2.718..., -2.718...]]
    """

    rtol: float = 1e-4
    atol: float = 1e-4
    order: int = 3
    first_step: float = 0.1
    max_steps: int = 2000

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "first_step"):
            check_positive(name, getattr(self, name))
        if self.order not in _TABLEAUS:
            raise ValueError(f"order: expected 3 or 5, got {self.order}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: expected at least 1, got {self.max_steps}")

    def run(
        self, field: Field, logits: Tensor, time: float | None, until: Stop | None, on_failure: OnFailure
    ) -> Integrated:
        """See :class:`flowcut.flow.steps.Integrator`."""
        check_eager(self)
        tableau = _TABLEAUS[self.order]
        end = torch.inf if time is None else float(time)
        now = torch.zeros(logits.shape[0], dtype=torch.float64, device=logits.device)
        h, steps = torch.full_like(now, self.first_step), torch.zeros_like(now, dtype=torch.int64)
        met = torch.zeros_like(now, dtype=torch.bool) if until is None else until.met(logits)
        done = met
        for _ in range(self.max_steps):
            if bool(done.all()):
                break
            last = h >= (end - now) * (1 - 1e-9)
            length = torch.where(last, end - now, h)
            new, error = self._trial(tableau, field, logits, length)
            accepted = (error <= 1) & ~done
            logits = torch.where(item_shape(accepted, logits), new, logits)
            now = torch.where(accepted, torch.where(last, end, now + length), now)
            steps = steps + accepted
            # No error at all, or none that is a number: the bounds decide.
            factor = 0.9 * error.clamp_min(1e-12) ** (-1 / tableau.order)
            h = length * torch.nan_to_num(factor, nan=0.2).clamp(0.2, 5)
            h = h.clamp_max(LONGEST_STEP)
            met = met if until is None else met | (accepted & until.met(logits))
            done = met | (now >= end)
        found = Integrated(logits, now, steps, done if until is None else met)
        report_unfinished(found, self, time, until, on_failure)
        return found

    def _trial(self, tableau: Tableau, field: Field, logits: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """A step for every item, and its estimated error over the tolerance, (N,)."""
        h = item_shape(length.to(logits.dtype), logits)
        new, slopes = advance(tableau, field, logits, h)
        with torch.no_grad():
            other = project_tangent(combine(logits, h, tableau.embedded, slopes))
            scale = self.atol + self.rtol * torch.maximum(logits.abs(), new.abs())
            error = ((new - other).abs() / scale).flatten(1)
            # A picture without pixels has no error.
            worst = torch.nn.functional.pad(error, (0, 1)).amax(dim=1)
        return new, worst.double()
