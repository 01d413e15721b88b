"""Plain-PyTorch conjugate gradients on any device: every right-hand side stops by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowcut.core.results import Result

# Recursion and truth drift apart by rounding: look at the truth again, this often at most.
_RESTARTS = 20
_EPSILON = 2.220446049250313e-16
_ROUNDING = 2e-15


def jacobi_cg(
    product: Callable[[Tensor], Tensor],
    diagonal: Tensor,
    leak: Tensor,
    rhs: Tensor,
    rtol: float,
    max_steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Solve A x = rhs in double precision by Jacobi-scaled CG from x = 0.

    Parameters
    ----------
    product
        A, in difference form, on (N, C, ...) float64.
    diagonal, leak
        Diagonal and row sums of A, broadcastable to ``rhs``.
    rhs
        (N, C, ...), any floating type.
    rtol, max_steps
        Stop where ||rhs - A x|| <= rtol ||rhs||, or after so many steps.

    Returns
    -------
    tuple
        x of the type of ``rhs``; error bound, residual, steps and result (N, C).
    """
    b = rhs.double().contiguous()
    norm = _norm(b)
    finite = torch.isfinite(norm)
    x = torch.zeros_like(b)
    r = torch.where(_spread(finite, b), b, 0)
    steps = torch.zeros(norm.shape, dtype=torch.int64, device=b.device)
    goal = rtol * norm
    for _ in range(_RESTARTS):
        open_ = finite & (_norm(r) > goal) & (steps < max_steps)
        if not bool(open_.any()):
            break
        correction, taken = _cycle(product, diagonal, r, open_, goal, max_steps - steps)
        x, steps = x + correction, steps + taken
        r = torch.where(_spread(finite, b), b - product(x), 0)
        # What is left when every entry of x is the double next to its exact value.
        goal = torch.maximum(goal, _EPSILON * _norm(2 * diagonal * x))
    # Each entry of r is a sum of terms of this size, each rounded a few times.
    error = r.abs() + _ROUNDING * (b.abs() + 2 * diagonal * x.abs())
    bound = torch.where(error == 0, 0, error / leak).flatten(2)
    bound = bound.amax(dim=2) if bound.shape[2] else torch.zeros_like(norm)
    x = torch.where(_spread(finite, x), x, torch.nan)
    value = x.to(rhs.dtype)
    change = (value.double() - x).abs().flatten(2)
    bound = bound + (change.amax(dim=2) if change.shape[2] else 0)
    residual = torch.where(norm > 0, _norm(r) / norm, 0)
    done = torch.where(_norm(r) <= goal, int(Result.SUCCESS), int(Result.NOT_CONVERGED))
    result = torch.where(finite, done, int(Result.NOT_FINITE))
    return value, torch.where(finite, bound, torch.nan), residual, steps, result


def _cycle(
    product: Callable[[Tensor], Tensor],
    diagonal: Tensor,
    r: Tensor,
    open_: Tensor,
    goal: Tensor,
    budget: Tensor,
) -> tuple[Tensor, Tensor]:
    """CG from x = 0 on the open right-hand sides; the others stand still."""
    x = torch.zeros_like(r)
    # A pixel without ties and confidence cannot occur in a checked system; 0/0 elsewhere is masked.
    z = r / diagonal
    p, rz = z, _dot(r, z)
    steps = torch.zeros_like(budget)
    while bool(open_.any()):
        q = product(p)
        curvature = _dot(p, q)
        open_ = open_ & (curvature > 0)
        alpha = _spread(torch.where(open_, rz / curvature, 0), r)
        x, r = x + alpha * p, r - alpha * q
        steps = steps + open_
        z = r / diagonal
        rz_next = _dot(r, z)
        p = z + _spread(torch.where(open_, rz_next / rz, 0), r) * p
        rz = torch.where(open_, rz_next, rz)
        open_ = open_ & (_norm(r) > goal) & (steps < budget)
    return x, steps


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(2).sum(dim=2)


def _norm(a: Tensor) -> Tensor:
    return _dot(a, a).sqrt()


def _spread(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(*value.shape, *(1,) * (like.ndim - 2))
