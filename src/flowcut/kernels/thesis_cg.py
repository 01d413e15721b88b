"""The thesis' own conjugate gradients: plain PyTorch, one absolute rule for the whole batch.

    thesis_cg(edges, leak, rhs, offsets, atol, max_steps, check, on_failure)
        -> x, error_bound, residual, steps, result

Algorithm 2 as printed, started at x0 = b and stopped when sum |r| < atol * (number of pixels
in the batch). Kept for comparison: the rule does not scale with b, so an adjoint whose right-hand side is
small is stopped after a step or two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.core.results import Result, report_failure
from flowcut.kernels.cg import Solved, check_grid, solved_like
from flowcut.kernels.grid import grid_product
from flowcut.kernels.operation import operation
from flowcut.kernels.residual import grid_residual


def _body(
    edges: Tensor, leak: Tensor, rhs: Tensor, offsets: list[int], atol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    offsets = list(offsets)
    check_grid(edges, leak, rhs, offsets, check)
    x, b = rhs.clone(memory_format=torch.contiguous_format), rhs
    r = b - grid_product(edges, leak, x, offsets)
    p, square = r, (r * r).sum(dim=tuple(range(2, r.ndim)), keepdim=True)
    goal, steps = atol * b.shape[0] * math.prod(b.shape[2:]), 0
    while b.numel() and float(r.abs().sum()) >= goal and steps < max_steps:
        q = grid_product(edges, leak, p, offsets)
        # An item that is solved exactly has no direction left: 0/0 stands for no step.
        alpha = torch.nan_to_num(square / (p * q).sum(dim=tuple(range(2, r.ndim)), keepdim=True))
        x, r = x + alpha * p, r - alpha * q
        before, square = square, (r * r).sum(dim=tuple(range(2, r.ndim)), keepdim=True)
        p = r + torch.nan_to_num(square / before) * p
        steps += 1
    _, residual, bound = grid_residual(edges, leak, rhs, x.double(), offsets)
    met = float(r.abs().sum()) < goal
    result = torch.full(rhs.shape[:2], int(Result.SUCCESS if met else Result.NOT_CONVERGED))
    result = torch.where(torch.isfinite(residual), result.to(rhs.device), int(Result.NOT_FINITE))
    report_failure(result, residual, on_failure)
    return x, bound, residual, torch.full_like(result, steps), result


def _fake(
    edges: Tensor, leak: Tensor, rhs: Tensor, offsets: list[int], atol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    return solved_like(rhs)


thesis_cg = operation("thesis_cg", _body, _fake)
