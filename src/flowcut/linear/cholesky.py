"""Direct solves: analysed once per shape, factored once per image, used for everything after.

    cholesky_factor(edges, leak, edge_index, offsets, check, backend, threads) -> handle
    cholesky_solve(handle, edges, leak, rhs, edge_index, offsets, check, on_failure)
        -> x, error_bound, residual, steps, result

The handle names the factors of all items; forward, adjoint and every channel use the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowcut.core.checks import check_finite
from flowcut.core.neighborhood import Offset
from flowcut.core.results import Result, report_failure
from flowcut.kernels.cg import cast_change, solved_like
from flowcut.kernels.layout import offsets_from_flat
from flowcut.kernels.operation import fold_batches, operation
from flowcut.linear import pardiso
from flowcut.linear.pattern import analysis_of, pattern_of
from flowcut.linear.registry import find, keep
from flowcut.linear.solver import State
from flowcut.linear.superlu import SuperLUAnalysis
from flowcut.linear.system import Solved, System

# A direct solve that leaves more than this, and more than rounding x does, has failed.
_GOOD_RESIDUAL = 1e-8


@dataclass(frozen=True)
class Cholesky:
    """Sparse Cholesky factorisation in double precision: the thesis' *exact* solver.

    The pattern depends on the shape alone, so the analysis is done once per shape and kept (the
    last 8 shapes); one factorisation per image then serves forward, adjoint and all channels. The
    choice for strong contrasts in 2-D; in three dimensions the fill makes it expensive.

    Parameters
    ----------
    backend
        "pardiso" (extra ``exact``, MKL), "superlu" (SciPy, slower), or "auto": PARDISO where it is
        installed and safe. On a CUDA tensor the solve is done on the CPU.
    threads
        Threads of PARDISO. More are faster on large images, but the last bits of the result
        depend on the number; 1 gives the same bits everywhere.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import soft_cut
    >>> soft_cut(torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 2), solver=Cholesky()).round(decimals=4)
    tensor([[[0.6667, 0.3333]]])
    """

    backend: Literal["auto", "pardiso", "superlu"] = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.backend not in ("auto", "pardiso", "superlu"):
            raise ValueError(f"backend: expected auto, pardiso or superlu, got {self.backend!r}")
        if self.threads < 1:
            raise ValueError(f"threads: expected at least 1, got {self.threads}")
        if self.backend == "pardiso" and not pardiso.available():
            raise ValueError(
                "backend: PARDISO is not available in this process: pip install 'flowcut[exact]', and do not "
                "use it in a child forked after its parent used it"
            )

    def init(self, system: System, check: str) -> State:
        """Factor the matrices of all items."""
        edges, leak, edge_index, _ = system
        return State(
            system,
            cholesky_factor(
                edges.detach(), leak.detach(), edge_index, system.flat, check, self.backend, self.threads
            ),
        )

    def compute(self, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
        """See :meth:`flowcut.linear.solver.Solver.compute`."""
        edges, leak, edge_index, _ = state.system
        return cholesky_solve(
            state.handle, edges, leak, rhs, edge_index, state.system.flat, check, on_failure
        )

    def transpose(self, state: State) -> State:
        """A is symmetric."""
        return state


class Factors:
    """The factors of all items of a system, (N, P)."""

    def __init__(self, system: System, backend: str, threads: int) -> None:
        use_pardiso = backend == "pardiso" or (backend == "auto" and pardiso.available())
        kind: Any = pardiso.PardisoAnalysis if use_pardiso else SuperLUAnalysis
        pattern, analysis = pattern_of(system), analysis_of(system, kind)
        ties = system.ties()[2].double().cpu().numpy()
        leak = system.leak.flatten(2).double().cpu().numpy()
        items, operators = ties.shape[0], max(ties.shape[1], leak.shape[1])
        self.table = [
            [
                analysis.factor(
                    pattern.values(ties[n, p % ties.shape[1]], leak[n % leak.shape[0], p % leak.shape[1]]),
                    threads,
                )
                for p in range(operators)
            ]
            for n in range(items)
        ]

    def solve(self, b: Tensor) -> Tensor:
        """A^-1 b for (N, C, *spatial), in double precision on the CPU."""
        rhs = b.detach().double().cpu().flatten(2).numpy()
        x = np.empty_like(rhs)
        for n in range(rhs.shape[0]):
            row = self.table[n % len(self.table)]
            if len(row) == 1:
                x[n] = row[0].solve(rhs[n])
            else:
                for c in range(rhs.shape[1]):
                    x[n, c] = row[c].solve(rhs[n, c : c + 1])[0]
        return torch.from_numpy(x).reshape(b.shape)


def solve_directly(factors: Factors, system: System, rhs: Tensor, on_failure: str) -> Solved:
    """Solve by factors, refine once where rounding shows, and judge by the true residual."""
    cpu = system.cpu()
    b = rhs.detach().cpu()
    x = factors.solve(b)
    r, residual, bound = cpu.residual(b, x)
    if bool((residual > 1e-3 * _GOOD_RESIDUAL).any()):
        x = x + factors.solve(r)
        _, residual, bound = cpu.residual(b, x)
    finite = torch.isfinite(residual)
    x = torch.where(finite.reshape(*finite.shape, *(1,) * (x.ndim - 2)), x, torch.nan)
    value = x.to(rhs.dtype)
    good = torch.where(
        residual <= cpu.rounding_level(b, x).clamp(min=_GOOD_RESIDUAL),
        int(Result.SUCCESS),
        int(Result.NOT_CONVERGED),
    )
    result = torch.where(finite, good, int(Result.NOT_FINITE))
    report_failure(result, residual, on_failure)
    steps = torch.zeros_like(result)
    report = (bound + cast_change(x, value), residual, steps, result)
    return (value.to(rhs.device), *(t.to(rhs.device) for t in report))  # type: ignore[return-value]


def system_of(edges: Tensor, leak: Tensor, edge_index: Tensor | None, offsets: list[int]) -> System:
    """The system that an operation received in parts."""
    table: tuple[Offset, ...] = ()
    if edge_index is None:
        table = offsets_from_flat(list(offsets), leak.ndim - 2)
    return System(edges, leak, edge_index, table)


def _factor_body(
    edges: Tensor, leak: Tensor, edge_index: Tensor | None, offsets: list[int], check: str, backend: str,
    threads: int,
) -> Tensor:  # fmt: skip
    system = system_of(edges, leak, edge_index, offsets)
    system.check(check)
    return keep(Factors(system, backend, threads))


def _factor_fake(
    edges: Tensor, leak: Tensor, edge_index: Tensor | None, offsets: list[int], check: str, backend: str,
    threads: int,
) -> Tensor:  # fmt: skip
    return torch.empty((), dtype=torch.int64)


def _solve_body(
    handle: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, edge_index: Tensor | None, offsets: list[int],
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    if check:
        check_finite(check, rhs)
    return solve_directly(find(handle), system_of(edges, leak, edge_index, offsets), rhs, on_failure)


def _solve_fake(
    handle: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, edge_index: Tensor | None, offsets: list[int],
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    return solved_like(rhs)


cholesky_factor = operation("cholesky_factor", _factor_body, _factor_fake)
cholesky_solve = operation("cholesky_solve", _solve_body, _solve_fake)
fold_batches(cholesky_factor, tensors=3, batched=(0, 1), batched_output=False)
fold_batches(cholesky_solve, tensors=5, batched=(1, 2, 3))
