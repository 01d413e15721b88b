"""Solve A x = b and say how good the answer is."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.results import OnFailure, Solution, Stats
from flowcut.linear.adjoint import solve_state
from flowcut.linear.auto import Auto, predicted_steps
from flowcut.linear.certificate import certify
from flowcut.linear.operator import GridOperator, check_shapes
from flowcut.linear.pinned import eliminate_pinned
from flowcut.linear.solver import Solver

# Predicted steps of CG beyond which the free bound has been seen more than 100 times too large.
_HIGH_CONTRAST = 200


def solve(
    operator: GridOperator, b: Tensor, solver: Solver | None = None, on_failure: OnFailure = "warn"
) -> Solution:
    """Solve (diag(d) + L) x = b, with a rigorous bound on the error of every answer.

    Parameters
    ----------
    operator
        A. At pinned pixels (infinite confidence) b is the value that x takes.
    b
        (N, C, *spatial), float.
    solver
        Default :class:`flowcut.Auto`.
    on_failure
        What to do when the tolerance is missed: "warn", "raise" or "ignore".

    Returns
    -------
    Solution
        ``value`` of the shape and type of b, differentiable in b, edges and confidence; ``result``,
        ``stats`` and ``error_bound`` (N, C): no entry of ``value`` is further than the bound from the
        exact solution, the rounding to its type included.

    Raises
    ------
    TypeError, ValueError
        As :func:`flowcut.soft_cut`.

    Examples
    --------
    >>> from flowcut.linear.cg import CG
    >>> A = GridOperator(torch.full((1, 2, 8, 8), 3.0))
    >>> solution = solve(A, torch.randn(1, 1, 8, 8), solver=CG(rtol=1e-4))
    >>> solution.success, bool(solution.error_bound < 1e-2)
    (True, True)
    """
    check_floating("b", b)
    check_shapes(b, operator, "b")
    # A pixel without confidence needs the comparison below, which is worth its cost in double only.
    bare = bool((operator.full_confidence == 0).any())
    double = bare or torch.float64 in (b.dtype, operator.edges.dtype)
    dtype = torch.float64 if double else torch.float32
    operator = operator.to(dtype)
    solver = Auto() if solver is None else solver
    if b.numel() == 0:
        empty = torch.zeros(b.shape[:2], dtype=torch.float64, device=b.device)
        return Solution(b.clone(), empty.long(), Stats(empty.long(), empty), empty)
    system, rhs = eliminate_pinned(operator, b.to(dtype), scaled=False)
    state = solver.init(system, "b")
    x, bound, residual, steps, result = solve_state(solver, state, rhs, "b", on_failure)
    value = x.to(b.dtype)
    plain = system.detach()
    if (bare or predicted_steps(plain) > _HIGH_CONTRAST) and not bool(result.any()):
        tight = certify(plain.double(), rhs.detach().double(), x.detach().double(), solver)
        bound = torch.minimum(bound, tight)
    rounding = (value - x).detach().abs().double().flatten(2).amax(dim=2)
    return Solution(value, result, Stats(steps, residual), bound + rounding)
