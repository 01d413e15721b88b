r"""Krylov spaces of the linear flow, and what small matrices in them tell about large ones.

With A Q_m = Q_{m+1} H from a start vector v of norm beta (LAF (3.10)),

    exp(t A) v ~ beta Q_m exp(t H_m) e_1,      t phi(t A) v ~ beta Q_m t phi(t H_m) e_1     (2.10).

On grids the whole process is one operation; on graphs it is written out in PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.flow.linearization import Linearization
from flowcut.flow.window import Window
from flowcut.kernels.krylov import flow_arnoldi, flow_combine
from flowcut.kernels.krylov_reference import (
    Krylov,
    arnoldi,
    combine,
    phi_columns,
    safe_inverse,
    square,
)


@dataclass(frozen=True)
class Options:
    """How a linear flow is integrated and differentiated.

    Attributes
    ----------
    dim
        Krylov dimension m, >= 1: the largest where there is a tolerance.
    tolerance
        Relative error to stop at; 0: use all ``dim`` dimensions.
    rank
        Number of factors kept of the gradient (3.14); None: all.
    gradient
        Which gradient: "convolution", "paper", "exact".
    """

    dim: int
    tolerance: float = 0.0
    rank: int | None = None
    gradient: str = "convolution"


def krylov_space(
    flow: Linearization, start: Tensor, options: Options, time: float, transpose: bool
) -> Krylov:
    """The Krylov space of A, or of A^T, from ``start``.

    On a grid with raw products the basis lies in the kernels' own layout: only :func:`images` reads it.
    """
    products = flow.products
    if isinstance(products, Window) and products.pairs is None:
        arrays = flow_arnoldi(
            flow.weights, flow.similarity, start, products.flat, options.dim, transpose, time,
            options.tolerance,
        )  # fmt: skip
        return Krylov(*arrays)
    apply = flow.transpose if transpose else flow.product
    return arnoldi(apply, start, options.dim, time, options.tolerance)


def images(flow: Linearization, space: Krylov, coefficients: Tensor) -> Tensor:
    """Q_{m+1} c for every column of coefficients (N, m + 1, G): (N, G, J, *spatial)."""
    scaled = coefficients * safe_inverse(space.norms)[:, :, None]
    products = flow.products
    if isinstance(products, Window) and products.pairs is None:
        return flow_combine(space.basis, scaled, list(flow.similarity.shape[2:]), products.flat)
    return combine(space.basis, scaled)


def solution_coefficients(space: Krylov, time: float) -> Tensor:
    """beta t phi(t H_m) e_1 (2.10b) over Q_{m+1}, (N, m + 1, 1)."""
    phi = phi_columns(square(space.hessenberg, space.steps), time)
    return pad(space.start[:, None, None] * phi)


def exponential_coefficients(space: Krylov, time: float) -> Tensor:
    """beta exp(t H_m) e_1 (2.10a) over Q_{m+1}, (N, m + 1, 1)."""
    whole = torch.linalg.matrix_exp(time * square(space.hessenberg, space.steps))
    return pad(space.start[:, None, None] * whole[:, :, :1])


def pad(coefficients: Tensor) -> Tensor:
    """Coefficients of Q_m as coefficients of Q_{m+1}."""
    return torch.nn.functional.pad(coefficients, (0, 0, 0, 1))
