"""A rigorous error bound where the free one is infinite or loose.

With r = b - A x and A an M-matrix (A^{-1} >= 0), any z >= 0 with A z >= |r| has |x - x*| <= z. Where
every pixel has confidence d, the constant vector max |r| / d is one, for free. Elsewhere one more solve
A z ~ |r| + shift gives one, provided that A z >= |r| is checked afterwards. Because |r| has forgotten
its signs, either bound is loose at high contrast; an estimate e ~ A^{-1} r of the error itself helps:

    |x - x*| <= |e| + |A^{-1} (r - A e)|,

and only the small rest r - A e needs the comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.linear.solver import Solver
from flowcut.linear.system import System

_TRIES = 4
# Share of the largest term that rounding may take from an entry of a residual.
_ROUNDING = 1e-14


def certify(system: System, rhs: Tensor, x: Tensor, solver: Solver) -> Tensor:
    """Bound max |x - A^{-1} rhs|.

    Parameters
    ----------
    system
        A, in double precision.
    rhs, x
        (N, C, *spatial) float64.
    solver
        Makes the estimate and the comparison vector; nothing depends on its accuracy but the
        tightness of the bound.

    Returns
    -------
    Tensor
        (N, C) float64; infinite where no comparison vector was found.
    """
    state = solver.init(system, "")
    r = system.residual(rhs, x)[0]
    estimate = solver.compute(state, r, "", "ignore")[0]
    rest = system.residual(r, estimate)[0]
    axes = tuple(range(2, r.ndim))
    slack = _ROUNDING * (rhs.abs().amax(dim=axes, keepdim=True) + r.abs())
    size = rest.abs() + slack
    if bool((system.leak > 0).all()):
        return estimate.abs().amax(dim=axes) + (size / system.leak).amax(dim=axes)
    return estimate.abs().amax(dim=axes) + _compare(system, size, solver)


def _compare(system: System, size: Tensor, solver: Solver) -> Tensor:
    """max z for some z >= 0 with A z >= size, (N, C)."""
    axes = tuple(range(2, size.ndim))
    scale = size.amax(dim=axes, keepdim=True).clamp_min(1e-300)
    size = size / scale
    state = solver.init(system, "")
    bound = torch.full(size.shape[:2], torch.inf, dtype=torch.float64, device=size.device)
    # A larger shift is looser but forgives a less accurate z.
    shift = size.mean(dim=axes, keepdim=True)
    for _ in range(_TRIES):
        z = solver.compute(state, size + shift, "", "ignore")[0]
        holds = (system.product(z) >= size).flatten(2).all(dim=2) & (z >= 0).flatten(2).all(dim=2)
        bound = torch.where(holds, torch.minimum(bound, (z * scale).amax(dim=axes)), bound)
        if bool(torch.isfinite(bound).all()):
            break
        shift = (shift * 10).clamp_max(1.0)
    return bound
