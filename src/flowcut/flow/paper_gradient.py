r"""The gradient of the linear flow as the paper approximates it (LAF (3.8)-(3.15)).

With B = [[T A, T b], [0, 0]] the flow is the last column of expm(B) (3.5), and dL/dB is the matrix

    \varphi(-B^T (+) B) vec_r(f_1 e_{n+1}^T),      f_1 = (expm(T A^T) g, <Y(T), g>)     (3.8).

It is approximated in the Krylov spaces of (-B^T, f_1) and (B, e_{n+1}) (3.10) by P Z R^T with
vec_r(Z) = phi(T_1 (+) T_2) |f_1| e_1 (3.13), Z by its largest singular values (3.14). Vectors of length n + 1
are an image and a number, kept here as one row.

f_1 has been carried to time 0, and phi carries it forward again by e^{-s B^T}, so errors grow with T:
:mod:`flowcut.flow.convolution` is what should be used, and this is here for comparison. dL/dA is T times the
upper left part of dL/dB and dL/db T times its last column, and the rest, parameter influence included, is
:mod:`flowcut.flow.factors`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.flow.factors import Factors, truncate
from flowcut.flow.krylov import Options, exponential_coefficients, images, krylov_space
from flowcut.flow.linearization import Linearization
from flowcut.kernels.krylov_reference import Krylov, arnoldi, combine, phi_columns, safe_inverse, square


def paper_factors(
    flow: Linearization, rhs: Tensor, moved: Tensor, grad: Tensor, time: float, options: Options
) -> Factors:
    """M and m for dY/dt = A Y + rhs, which has moved so far, from the paper's low-rank form."""
    f1 = _start(flow, moved, grad, time, options)
    left = arnoldi(lambda x: -_transpose(flow, rhs, x, time), f1, options.dim, 1.0, 0.0)
    unit = torch.zeros_like(f1)
    unit[:, -1] = 1
    right = arnoldi(lambda x: _product(flow, rhs, x, time), unit, options.dim, 1.0, 0.0)
    y, z = truncate(left.start[:, None, None] * _core(left, right), options.rank)
    p, r = _vectors(left, y), _vectors(right, z)
    shape = (*p.shape[:2], *flow.similarity.shape[1:])
    alpha, beta = (time * p[:, :, :-1]).reshape(shape), r[:, :, :-1].reshape(shape)
    product = torch.stack([flow.product(b) for b in beta.unbind(1)], dim=1)
    scale = r[:, :, -1].reshape(*r.shape[:2], *(1,) * (grad.ndim - 1))
    return Factors(alpha, beta, product, (alpha * scale).sum(dim=1))


def _start(flow: Linearization, moved: Tensor, grad: Tensor, time: float, options: Options) -> Tensor:
    """f_1 of (3.8b), (N, n + 1)."""
    space = krylov_space(flow, grad, options, time, transpose=True)
    carried = images(flow, space, exponential_coefficients(space, time))[:, 0]
    return torch.cat([carried.flatten(1), (moved * grad).flatten(1).sum(dim=1, keepdim=True)], dim=1)


def _product(flow: Linearization, rhs: Tensor, x: Tensor, time: float) -> Tensor:
    """B x = (T A x' + T b x_{n+1}, 0)."""
    image = x[:, :-1].reshape(flow.similarity.shape)
    top = flow.product(image).flatten(1) + rhs.flatten(1) * x[:, -1:]
    return torch.cat([time * top, torch.zeros_like(x[:, -1:])], dim=1)


def _transpose(flow: Linearization, rhs: Tensor, x: Tensor, time: float) -> Tensor:
    """B^T x = (T A^T x', T <b, x'>)."""
    image = x[:, :-1].reshape(flow.similarity.shape)
    last = (rhs.flatten(1) * x[:, :-1]).sum(dim=1, keepdim=True)
    return time * torch.cat([flow.transpose(image).flatten(1), last], dim=1)


def _core(left: Krylov, right: Krylov) -> Tensor:
    """Z / |f_1| = vec_r^{-1}(phi(T_1 (+) T_2) e_1), (N, m, m) (3.13b)."""
    t1, t2 = square(left.hessenberg, left.steps), square(right.hessenberg, right.steps)
    items, m = t1.shape[:2]
    identity = torch.eye(m, dtype=t1.dtype, device=t1.device)
    kronecker_sum = torch.einsum("nij,kl->nikjl", t1, identity) + torch.einsum("ij,nkl->nikjl", identity, t2)
    return phi_columns(kronecker_sum.reshape(items, m * m, m * m), 1.0)[:, :, 0].reshape(items, m, m)


def _vectors(space: Krylov, coefficients: Tensor) -> Tensor:
    """Q c for every column, (N, G, n + 1)."""
    return combine(space.basis, coefficients * safe_inverse(space.norms)[:, :, None])
