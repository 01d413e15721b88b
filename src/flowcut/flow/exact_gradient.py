r"""The flow and its exact gradient by dense matrix exponentials (LAF (3.3)), for small problems.

With B = [[T A, T b], [0, 0]], Y(T) is the last column of expm(B), and dL/dB is the adjoint of the Frechet
derivative of expm at B in the direction E = (g, 0) e_{n+1}^T. (3.2) gives it as
\varphi(-B^T (+) B) vec_r(expm(B^T) E), which is (3.3); as a part of a larger exponential,

    expm([[B^T, E], [0, B^T]]) = [[., dL/dB], [0, .]],

it is the same matrix without the ill-conditioned product expm(-s B^T) expm(B^T).
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.flow.factors import Factors
from flowcut.flow.linearization import Linearization

# Largest n = labels * pixels: an exponential of size 2 (n + 1) is computed.
LIMIT = 1024


def exact_solution(flow: Linearization, start: Tensor | None, time: float) -> Tensor:
    """Y(T) from Y(0) = start (default 0), (N, J, *spatial)."""
    rhs = flow.source if start is None else flow.source + flow.product(start)
    b = _generator(flow, rhs, time)
    moved = torch.linalg.matrix_exp(b)[:, :-1, -1].reshape(rhs.shape).to(rhs.dtype)
    return moved if start is None else start + moved


def exact_factors(flow: Linearization, rhs: Tensor, grad: Tensor, time: float) -> Factors:
    """M and m for d/dt Y = A Y + rhs: full rank, one factor a column."""
    b = _generator(flow, rhs, time)
    items, size = b.shape[:2]
    direction = torch.zeros_like(b)
    direction[:, :-1, -1] = grad.flatten(1)
    top = torch.cat([b.mT, direction], dim=2)
    bottom = torch.cat([torch.zeros_like(b), b.mT], dim=2)
    whole = time * torch.linalg.matrix_exp(torch.cat([top, bottom], dim=1))[:, :size, size:]
    whole = whole.to(rhs.dtype)
    n, shape = size - 1, rhs.shape[1:]
    identity = torch.eye(n, dtype=rhs.dtype, device=rhs.device)
    return Factors(
        alpha=whole[:, :n, :n].mT.reshape(items, n, *shape),
        beta=identity.reshape(1, n, *shape).expand(items, -1, *shape),
        product=flow.dense().mT.reshape(items, n, *shape),
        mean=whole[:, :n, n].reshape(rhs.shape),
    )


def check_size(labels: int, pixels: int) -> None:
    """Refuse problems too large for dense exponentials.

    Raises
    ------
    ValueError
        J * pixels > LIMIT.
    """
    if labels * pixels > LIMIT:
        raise ValueError(
            f'gradient: expected at most {LIMIT} labels times pixels for "exact", got {labels} * {pixels}; '
            f'use "convolution"'
        )


def _generator(flow: Linearization, rhs: Tensor, time: float) -> Tensor:
    """B = [[T A, T b], [0, 0]] (3.3c), (N, n + 1, n + 1) in double precision."""
    top = torch.cat([flow.dense(), rhs.flatten(1)[:, :, None]], dim=2).double()
    return time * torch.nn.functional.pad(top, (0, 0, 0, 1))
