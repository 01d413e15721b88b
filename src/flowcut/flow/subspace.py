r"""The low-dimensional subspaces in which the linear flow and the gradient of a loss live (LAF section 5).

The paper promises them for further tasks, label prediction and flow control: V(T) lies in the span of m
vectors, and dL/dA is a sum of r products alpha beta^T of images (3.15).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.convolution import convolution_factors
from flowcut.flow.factors import expand, gradients_from_factors
from flowcut.flow.inputs import read_inputs
from flowcut.flow.krylov import images, krylov_space, pad, solution_coefficients
from flowcut.flow.linear import read_options
from flowcut.flow.linearization import linearize


@dataclass(frozen=True)
class GradientSubspace:
    """Factors of the gradient and of the solution, in the coordinates Y = V / W_0.

    Attributes
    ----------
    left, right
        (N, r, J, *spatial): dL/dA ~ sum_g left_g right_g^T, by falling norm; ``right`` is orthonormal.
    mean
        (N, J, *spatial): dL/db.
    weights_gradient
        (N, K, *spatial) or (N, 2 E + n): dL/dOmega, parameter influence included.
    basis
        (N, m, J, *spatial): orthonormal vectors that span the Krylov space of A and b.
    coefficients
        (N, m): the solution Y(T) = sum_j coefficients_j basis_j.

    Examples
    --------
    >>> from flowcut.flow.weights import uniform_weights
    >>> D, g = torch.rand(1, 3, 6, 6), torch.randn(1, 3, 6, 6)
    >>> found = gradient_subspace(D, uniform_weights((6, 6)), g, krylov_dim=5, rank=2)
    >>> found.left.shape, found.basis.shape, found.solution.shape
    (torch.Size([1, 2, 3, 6, 6]), torch.Size([1, 5, 3, 6, 6]), torch.Size([1, 3, 6, 6]))
    """

    left: Tensor
    right: Tensor
    mean: Tensor
    weights_gradient: Tensor
    basis: Tensor
    coefficients: Tensor

    @property
    def solution(self) -> Tensor:
        """Y(T), (N, J, *spatial)."""
        return torch.einsum("nm,nm...->n...", self.coefficients.to(self.basis.dtype), self.basis)


def gradient_subspace(
    distances: Tensor,
    weights: Tensor,
    grad: Tensor,
    rho: float = 1.0,
    time: float = 5.0,
    krylov_dim: int = 5,
    rank: int | None = 3,
    neighborhood: Neighborhood | Graph | None = None,
) -> GradientSubspace:
    r"""The factors behind one gradient of the linear flow from the barycenter.

    Parameters
    ----------
    distances, weights, rho, time, krylov_dim, neighborhood
        As in :func:`flowcut.linear_assignment_flow`.
    grad
        (N, J, *spatial): derivative of a loss with respect to Y(T) (J times smaller than to V(T)).
    rank
        r, >= 1. None: krylov_dim.

    Raises
    ------
    TypeError, ValueError
        As in :func:`flowcut.linear_assignment_flow`, or ``grad`` has another shape.

    Examples
    --------
    See :class:`GradientSubspace`.

    >>> gradient_subspace(torch.rand(1, 2, 4), torch.ones(1, 1, 4), torch.ones(1, 2, 4), rank=1).left.shape
    torch.Size([1, 1, 2, 4])
    """
    options = read_options(time, krylov_dim, None, 1, 0, rank, "convolution")
    evidence, weights, window = read_inputs(distances, weights, rho, neighborhood)
    if grad.shape != evidence.shape:
        raise ValueError(f"grad: expected shape {tuple(evidence.shape)}, got {tuple(grad.shape)}")
    with torch.no_grad():
        flow = linearize(window, weights, evidence)
        forward = krylov_space(flow, flow.source, options, time, transpose=False)
        adjoint, small = convolution_factors(flow, forward, grad.to(evidence.dtype), time, options)
        factors = expand(flow, adjoint, forward, small)
        unit = torch.eye(krylov_dim, dtype=torch.float64, device=evidence.device)
        return GradientSubspace(
            factors.alpha,
            factors.beta,
            factors.mean,
            gradients_from_factors(flow, evidence, factors)[0],
            images(flow, forward, pad(unit.expand(len(evidence), -1, -1))),
            solution_coefficients(forward, time)[:, :-1, 0],
        )
