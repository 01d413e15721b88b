"""The default solver, chosen in one place that no solver imports.

    auto_init(edges, leak, edge_index, offsets, check) -> handle
    auto_solve(handle, edges, leak, rhs, edge_index, offsets, rtol, max_steps, check, on_failure)
        -> x, error_bound, residual, steps, result

CG's cost grows with the contrast of the ties, a factorisation's does not. After elimination and
scaling CG takes about 6 sqrt(mean d) steps, d = 1 + incident ties / leak, within a factor of 2.5 on all
of the benchmark's weight families. One factorisation (with its share of analysis amortised) costs
as much as about a thousand steps in 2-D. So: predict, choose, and when CG misses its budget after
all, factor. What was chosen serves the adjoint too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.checks import check_finite
from flowcut.core.results import Result, report_failure
from flowcut.kernels.cg import solved_like
from flowcut.kernels.operation import fold_batches, operation
from flowcut.linear import pardiso
from flowcut.linear.cholesky import Factors, solve_directly, system_of
from flowcut.linear.registry import find, keep
from flowcut.linear.solver import State, check_stopping
from flowcut.linear.system import Solved, System

# Steps of CG (all right-hand sides of an item, adjoint included) that cost what a factorisation
# does: measured at 512 x 512, see benchmarks; SuperLU takes about five times PARDISO's time.
_STEPS_PER_FACTOR = 1000
_SUPERLU = 5
# Fill makes factors of volumes and of huge pictures too large.
_MAX_PIXELS_2D = 1 << 22
_MAX_PIXELS = 1 << 15


@dataclass(frozen=True)
class Auto:
    """CG where it is cheap, Cholesky where the contrast is high or CG has missed its budget.

    Parameters
    ----------
    rtol, max_steps
        As in :class:`flowcut.CG`, where CG is chosen.

    Examples
    --------
    >>> Auto(rtol=1e-4)
    Auto(rtol=0.0001, max_steps=20000)
    """

    rtol: float = 1e-5
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        check_stopping(self.rtol, self.max_steps)

    def init(self, system: System, check: str) -> State:
        """Keep a place for the choice, which the first right-hand side makes."""
        edges, leak, edge_index, _ = system
        return State(system, auto_init(edges.detach(), leak.detach(), edge_index, system.flat, check))

    def compute(self, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
        """See :meth:`flowcut.linear.solver.Solver.compute`."""
        edges, leak, edge_index, _ = state.system
        return auto_solve(
            state.handle, edges, leak, rhs, edge_index, state.system.flat, self.rtol, self.max_steps,
            check, on_failure,
        )  # fmt: skip

    def transpose(self, state: State) -> State:
        """A is symmetric."""
        return state


class _Choice:
    """What the first right-hand side decided: None before it, then CG's budget; factors if any."""

    def __init__(self) -> None:
        self.budget: int | None = None
        self.factors: Factors | None = None


def predicted_steps(system: System) -> float:
    """Steps of CG to expect for one right-hand side of the hardest item."""
    # The mean of the leak, not its entries: where it is 0 the neighbours hold the pixel.
    ratio = system.mean_incident() / system.leak.flatten(2).mean(dim=2)
    worst = float(ratio.double().nan_to_num(posinf=1e30).amax()) if ratio.numel() else 0.0
    return 6 * math.sqrt(1 + worst)


def may_factor(system: System) -> bool:
    """Whether a factorisation of this shape fits."""
    pixels, planar = math.prod(system.leak.shape[2:]), system.leak.ndim <= 4 and system.edge_index is None
    return pixels <= (_MAX_PIXELS_2D if planar else _MAX_PIXELS)


def _init_body(
    edges: Tensor, leak: Tensor, edge_index: Tensor | None, offsets: list[int], check: str
) -> Tensor:
    return keep(_Choice())


def _init_fake(
    edges: Tensor, leak: Tensor, edge_index: Tensor | None, offsets: list[int], check: str
) -> Tensor:
    return torch.empty((), dtype=torch.int64)


def _solve_body(
    handle: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, edge_index: Tensor | None, offsets: list[int],
    rtol: float, max_steps: int, check: str, on_failure: str,
) -> Solved:  # fmt: skip
    choice: _Choice = find(handle)
    system = system_of(edges, leak, edge_index, offsets)
    price = _STEPS_PER_FACTOR * (1 if pardiso.available() else _SUPERLU)
    eligible = rhs.device.type == "cpu" and may_factor(system)
    if choice.factors is None:
        if choice.budget is None:
            # Forward and adjoint, for every channel that shares the operator.
            shared = rhs.shape[1] // max(edges.shape[1], leak.shape[1], 1)
            factor = eligible and 2 * shared * predicted_steps(system) > price
            choice.budget = 0 if factor else min(max_steps, price) if eligible else max_steps
        if choice.budget:
            solved = system.cg(rhs, rtol, choice.budget, check, "ignore")
            if not (eligible and bool((solved[4] == Result.NOT_CONVERGED).any())):
                report_failure(solved[4], solved[2], on_failure)
                return solved
        system.check(check)
        choice.factors = Factors(system, "auto", threads=1)
    if check:
        check_finite(check, rhs)
    return solve_directly(choice.factors, system, rhs, on_failure)


def _solve_fake(
    handle: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, edge_index: Tensor | None, offsets: list[int],
    rtol: float, max_steps: int, check: str, on_failure: str,
) -> Solved:  # fmt: skip
    return solved_like(rhs)


auto_init = operation("auto_init", _init_body, _init_fake)
auto_solve = operation("auto_solve", _solve_body, _solve_fake)
fold_batches(auto_init, tensors=3, batched=(0, 1), batched_output=False)
fold_batches(auto_solve, tensors=5, batched=(1, 2, 3))
