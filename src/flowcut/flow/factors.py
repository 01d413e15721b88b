r"""From a loss's derivative with respect to A and b to its derivative with respect to weights and data.

Every gradient of this room ends as low-rank factors of

    M = dL/dA = \sum_g alpha_g beta_g^T      and      m = dL/db.

A = R_S Omega depends on the weights directly and through S = softmax(lambda), lambda = Omega evidence, and so
does b = S - 1/J: the "parameter influence" of LAF section 4. With u = Omega beta,

    <alpha, dA beta> = <R_S alpha, dOmega beta> + <alpha, (dR_S) u>,
    (dR_S) u = dS u - dS <S, u> - S <dS, u>,      dS = R_S dlambda,

so, with a = alpha - <S, alpha> at every pixel, R_S alpha = S a, and

    <alpha, (dR_S) u> = <a u - alpha <S, u>, dS> = <R_S (a u - alpha <S, u>), dlambda>,
    R_S (a u - alpha <S, u>) = a S (u - <S, u>) - S <S, a u> = a (A beta) - S <1, a (A beta)>,

because <S, a> = 0 and S (u - <S, u>) = A beta. Adding <m, db> = <R_S m, dlambda>,

    gamma = dL/dlambda = \sum_g (a_g (A beta_g) - S <1, a_g (A beta_g)>) + R_S m,
    dL/domega_ik = \sum_g <S_i a_{g,i}, beta_{g,k}> + <gamma_i, evidence_k>,
    dL/devidence = Omega^T gamma.

No product beyond A beta is needed, which an Arnoldi relation gives for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.flow.krylov import images, pad
from flowcut.flow.linearization import Linearization
from flowcut.flow.window import Window
from flowcut.kernels.krylov import flow_contract
from flowcut.kernels.krylov_reference import Krylov, contract, safe_inverse

Gradients = tuple[Tensor, Tensor]


class Factors(NamedTuple):
    """M = sum_g alpha_g beta_g^T and m as images.

    Attributes
    ----------
    alpha, beta
        (N, G, J, *spatial).
    product
        A beta_g, (N, G, J, *spatial).
    mean
        m, (N, J, *spatial).
    """

    alpha: Tensor
    beta: Tensor
    product: Tensor
    mean: Tensor


class SmallFactors(NamedTuple):
    """The same as coefficients: alpha_g = P left[:, :, g], beta_g = Q right[:, :, g], P, Q orthonormal.

    Attributes
    ----------
    left
        (N, m + 1, G) over the basis P of the transposed space.
    right
        (N, m + 1, G) over the basis Q of the forward space.
    mean
        (N, m + 1, 1) over P.
    """

    left: Tensor
    right: Tensor
    mean: Tensor


def gradients_from_factors(flow: Linearization, evidence: Tensor, factors: Factors) -> Gradients:
    """dL/dOmega and gamma, from images."""
    weights, gamma = contract(
        flow.similarity, evidence, factors.alpha, factors.mean, factors.beta, factors.product,
        flow.products.gradient,
    )  # fmt: skip
    return weights, gamma


def gradients_from_spaces(
    flow: Linearization, evidence: Tensor, adjoint: Krylov, forward: Krylov, small: SmallFactors
) -> Gradients:
    """dL/dOmega and gamma, from coefficients: nothing of the size of the picture but the results."""
    products = flow.products
    if not (isinstance(products, Window) and products.pairs is None):
        return gradients_from_factors(flow, evidence, expand(flow, adjoint, forward, small))
    left_scale = safe_inverse(adjoint.norms)[:, :, None]
    right_scale = safe_inverse(forward.norms)[:, :, None]
    return flow_contract(
        flow.similarity, evidence, adjoint.basis, left_scale * torch.cat([small.left, small.mean], dim=2),
        forward.basis, right_scale * small.right, right_scale * image_coefficients(forward, small),
        products.flat,
    )  # fmt: skip


def expand(flow: Linearization, adjoint: Krylov, forward: Krylov, small: SmallFactors) -> Factors:
    """Coefficients as images."""
    return Factors(
        alpha=images(flow, adjoint, small.left),
        beta=images(flow, forward, small.right),
        product=images(flow, forward, image_coefficients(forward, small)),
        mean=images(flow, adjoint, small.mean)[:, 0],
    )


def image_coefficients(forward: Krylov, small: SmallFactors) -> Tensor:
    """A beta_g = Q_{m+1} H right_g: the Arnoldi relation (3.10)."""
    return forward.hessenberg @ small.right[:, :-1]


def truncate(core: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    """Z ~ Y X^T by its largest singular values (3.14): (N, m + 1, G) twice, over Q_{m+1}."""
    dim = core.shape[1]
    if rank is None or rank >= dim:
        identity = torch.eye(dim, dtype=core.dtype, device=core.device).expand_as(core)
        return pad(core), pad(identity)
    # Infinity in a loss's derivative, as loss scaling expects it, comes out as NaN; the SVD would raise.
    finite = torch.isfinite(core).flatten(1).all(dim=1)[:, None, None]
    u, values, v = torch.linalg.svd(torch.where(finite, core, 0))
    values = torch.where(finite, values[:, None, :rank], torch.nan)
    return pad(u[:, :, :rank] * values), pad(v[:, :rank].mT)
