"""How a solve ended, judged in one place for every solver."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from torch import Tensor

from flowcut.core.warnings import FlowcutWarning

OnFailure = Literal["warn", "raise", "ignore"]


class Result(IntEnum):
    """Outcome of one right-hand side. ``Result(code).message`` names cause and remedy.

    Examples
    --------
    >>> Result(0).name, Result(0).message
    ('SUCCESS', 'the tolerance was met')
    """

    SUCCESS = 0
    NOT_CONVERGED = 1
    NOT_FINITE = 2

    @property
    def message(self) -> str:
        """Cause and remedy."""
        return _MESSAGES[self]


_MESSAGES = {
    Result.SUCCESS: "the tolerance was met",
    Result.NOT_CONVERGED: (
        "the tolerance was not met within max_steps: raise max_steps or rtol, "
        "or use solver=flowcut.Cholesky()"
    ),
    Result.NOT_FINITE: "the right-hand side holds NaN or infinity: the answer is NaN",
}


class NotConvergedError(RuntimeError):
    """A solve ended without success and ``on_failure="raise"`` was asked for."""


@dataclass(frozen=True)
class Stats:
    """What a solve took.

    Attributes
    ----------
    steps
        (N, C) int64: iterations; 0 for a factorisation.
    residual
        (N, C) float64: ||b - A x|| / ||b|| in the Euclidean norm, evaluated in double precision.
    """

    steps: Tensor
    residual: Tensor


@dataclass(frozen=True)
class Solution:
    """What :func:`flowcut.solve` returns.

    Attributes
    ----------
    value
        (N, C, *spatial): x.
    result
        (N, C) int64: a :class:`Result` for each right-hand side.
    stats
        Iterations and residuals.
    error_bound
        (N, C) float64: no entry of ``value`` is further than this from the exact solution.

    Examples
    --------
    >>> import torch
    >>> from flowcut.linear.operator import GridOperator
    >>> from flowcut.linear.solve import solve
    >>> solution = solve(GridOperator(torch.ones(1, 1, 3)), torch.ones(1, 1, 3))
    >>> solution.success, solution.result.tolist(), bool(solution.error_bound < 1e-4)
    (True, [[0]], True)
    """

    value: Tensor
    result: Tensor
    stats: Stats
    error_bound: Tensor

    @property
    def success(self) -> bool:
        """Whether every right-hand side was solved to its tolerance."""
        return not bool(self.result.any())


def report_failure(result: Tensor, residual: Tensor, on_failure: str) -> None:
    """Warn, raise or stay silent about right-hand sides that were not solved.

    Runs inside the solvers' operations, so that compiled programs report too.

    Raises
    ------
    NotConvergedError
        ``on_failure`` is "raise" and one was not solved.
    """
    if on_failure == "ignore":
        return
    failed = (result == Result.NOT_CONVERGED).nonzero()
    if not len(failed):
        return
    item, channel = (int(v) for v in failed[0])
    text = (
        f"{len(failed)} of {result.numel()} right-hand sides: {Result.NOT_CONVERGED.message} "
        f"(item {item}, channel {channel}: relative residual {float(residual[item, channel]):.1e})"
    )
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=2)
