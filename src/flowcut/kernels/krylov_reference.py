r"""Arnoldi, small exponentials and low-rank contractions in plain PyTorch, over any linear map.

These are at once the reference of the Krylov operations (with raw products as the map) and what
derivatives of higher order go through (with differentiable products).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

# A new direction this much shorter than the vector it came from is rounding: the space is exhausted.
_BREAKDOWN = 64.0


class Krylov(NamedTuple):
    """An Arnoldi decomposition A Q_m = Q_{m+1} H, item by item (LAF (3.10)).

    Attributes
    ----------
    basis
        (N, m + 1, C, *spatial): multiples of the orthonormal vectors.
    norms
        (N, m + 1) float64: what they are multiples by; 0 where the space was exhausted.
    hessenberg
        (N, m + 1, m) float64: H for the orthonormal vectors; zero columns after the last step.
    start
        (N,) float64: norm of the start vector.
    steps
        (N,) int64: columns in use, <= m.
    error
        (N,) float64: estimate of ||time phi(time A) v - its approximation|| at ``time``.
    """

    basis: Tensor
    norms: Tensor
    hessenberg: Tensor
    start: Tensor
    steps: Tensor
    error: Tensor


def column(values: Tensor, like: Tensor) -> Tensor:
    """(N,) as (N, 1, ..., 1) in the type of ``like``."""
    return values.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


def dot(u: Tensor, v: Tensor) -> Tensor:
    """(N,) float64: inner product of every item."""
    return (u.double() * v.double()).flatten(1).sum(dim=1)


def safe_norm(v: Tensor) -> Tensor:
    """Norm of every item, with derivative 0 at 0."""
    square = dot(v, v)
    return torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)


def safe_inverse(norm: Tensor) -> Tensor:
    """1 / norm; 0 at 0."""
    return torch.where(norm > 0, 1 / torch.where(norm > 0, norm, 1), 0)


def arnoldi(apply: Map, start: Tensor, dim: int, time: float, tolerance: float) -> Krylov:
    """Orthonormal basis of span(v, A v, ..., A^{m-1} v) by Gram-Schmidt, twice.

    An item stops when its space is exhausted or, with ``tolerance`` > 0, when the estimated error is at
    most ``tolerance`` times the norm of the approximation; later columns of H are zero.
    """
    beta = safe_norm(start)
    basis = [start * column(safe_inverse(beta), start)]
    going = beta > 0
    steps, rows = torch.zeros_like(beta, dtype=torch.int64), dim + 1
    columns: list[Tensor] = []
    tiny = _BREAKDOWN * torch.finfo(start.dtype).eps
    for j in range(dim):
        steps = steps + going
        w = apply(basis[j]) * column(going, start)
        before = safe_norm(w)
        coefficients = torch.zeros(len(start), j + 1, dtype=torch.float64, device=start.device)
        for _ in range(2):
            h = torch.stack([dot(q, w) for q in basis], dim=1)
            for i, q in enumerate(basis):
                w = w - q * column(h[:, i], start)
            coefficients = coefficients + h
        norm = safe_norm(w)
        fresh = going & (norm > tiny * before)
        norm = torch.where(fresh, norm, 0)
        basis.append(w * column(safe_inverse(norm), start))
        filled = torch.cat([coefficients, norm[:, None], norm.new_zeros(len(norm), rows - j - 2)], dim=1)
        columns.append(filled)
        going = fresh
        if tolerance > 0:
            h = torch.stack(columns, dim=2)
            going = going & ~_accurate(h, time, tolerance)
    q = torch.stack(basis, dim=1)
    hessenberg = torch.stack(columns, dim=2)
    norms = torch.stack([safe_norm(b) for b in basis], dim=1)
    return Krylov(q, norms, hessenberg, beta, steps, estimate(hessenberg, beta, steps, time))


def square(hessenberg: Tensor, steps: Tensor) -> Tensor:
    """H_m = Q_m^T A Q_m, (N, m, m): without the direction that leads out of the space."""
    dim = hessenberg.shape[2]
    inside = torch.arange(dim, device=steps.device) < steps[:, None]
    return torch.where(inside[:, :, None] & inside[:, None, :], hessenberg[:, :dim], 0)


def phi_columns(matrix: Tensor, time: float, order: int = 1) -> Tensor:
    r"""t^p phi_p(t M) e_1 for p = 1 ... order, (N, m, order), by one exponential (LAF (2.11)).

    phi_p(z) = \int_0^1 e^{(1-s) z} s^{p-1} / (p-1)! ds. With a shift matrix J of size p below M,
    expm(t [[M, e_1 e_1^T], [0, J]]) holds them in its upper-right block.
    """
    items, dim = matrix.shape[:2]
    top = torch.cat([matrix, _unit(items, dim, order, 0, 0, matrix)], dim=2)
    shift = torch.diag(matrix.new_ones(order - 1), 1) if order > 1 else matrix.new_zeros(1, 1)
    below = torch.cat([matrix.new_zeros(order, dim), shift], dim=1).expand(items, -1, -1)
    whole = torch.linalg.matrix_exp(time * torch.cat([top, below], dim=1))
    return whole[:, :dim, dim:]


def estimate(hessenberg: Tensor, beta: Tensor, steps: Tensor, time: float) -> Tensor:
    """First term of the error of beta Q t phi(t H) e_1: beta h_{m+1,m} |e_m^T t^2 phi_2(t H) e_1|, (N,)."""
    last = (steps - 1).clamp_min(0)
    items = torch.arange(len(steps), device=steps.device)
    with torch.no_grad():
        phi2 = phi_columns(square(hessenberg, steps), time, order=2)[:, :, 1]
        leak = hessenberg[items, (last + 1), last]
        return torch.where(steps > 0, beta * leak.abs() * phi2[items, last].abs(), 0)


def _accurate(hessenberg: Tensor, time: float, tolerance: float) -> Tensor:
    with torch.no_grad():
        steps = (hessenberg.abs().sum(dim=1) > 0).sum(dim=1)
        phi = phi_columns(square(hessenberg, steps), time, order=2)
        items, last = torch.arange(len(steps), device=steps.device), (steps - 1).clamp_min(0)
        error = (hessenberg[items, last + 1, last] * phi[items, last, 1]).abs()
        return error <= tolerance * phi[:, :, 0].norm(dim=1)


def _unit(items: int, rows: int, columns: int, i: int, j: int, like: Tensor) -> Tensor:
    unit = like.new_zeros(rows, columns)
    unit[i, j] = 1
    return unit.expand(items, -1, -1)


def replicate(similarity: Tensor, x: Tensor) -> Tensor:
    """R_S x = S (x - <S, x>) at every pixel (LAF (2.4a))."""
    return similarity * (x - (similarity * x).sum(dim=1, keepdim=True))


def combine(images: Tensor, coefficients: Tensor) -> Tensor:
    """sum_j coefficients[:, j, g] images[:, j] for every g, (N, G, C, *spatial)."""
    flat = torch.einsum("njp,njg->ngp", images.flatten(2), coefficients.to(images.dtype))
    return flat.reshape(len(images), coefficients.shape[2], *images.shape[2:])


def contract(
    similarity: Tensor, evidence: Tensor, alpha: Tensor, mean: Tensor, beta: Tensor, images: Tensor,
    correlate: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradient of the weights and gamma from factors alpha, beta and images A beta, (N, G, J, *spatial)."""
    s = similarity[:, None]
    a = alpha - (s * alpha).sum(dim=2, keepdim=True)
    product = a * images
    gamma = (product - s * product.sum(dim=2, keepdim=True)).sum(dim=1) + replicate(similarity, mean)
    left = torch.cat([(s * a).flatten(1, 2), gamma], dim=1)
    return correlate(left, torch.cat([beta.flatten(1, 2), evidence], dim=1)), gamma
