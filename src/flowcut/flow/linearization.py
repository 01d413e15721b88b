r"""The linear assignment flow's operator, in coordinates in which it does not depend on where it starts.

(LAF (2.7b)) linearises S at W_0: dV/dt = R_{W_0}(S(W_0) + dS_{W_0} V), W(t) = Exp_{W_0}(V(t)). With
S_i(W) = softmax(sum_k omega_ik (log W_k - D_k / rho)) (:mod:`flowcut.flow.nonlinear`),

    dS_{W_0}[V]_i = R_{S_i} sum_k omega_ik V_k / W_{0,k},      S = S(W_0).

Take Y with V = R_{W_0} Y. Then V / W_0 = Y - <W_0, Y>, a constant of the pixel apart from Y, and constants
are in the kernel of R_S Omega because R_{S_i} 1 = 0. So the flow is

    dY/dt = b + A Y,   A = R_S Omega,   b = S - 1/J,   Y(0) = 0,      W = Exp_{W_0}(V) = softmax(log W_0 + Y),

for every W_0: the start enters through S alone. (b may be moved by a constant of the pixel; this choice
keeps Y of sum zero.) At the barycenter V = Y / J, and A and b are those of (2.9).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowcut.kernels.krylov_reference import replicate


class Products(Protocol):
    """Products with Omega, raw (:class:`flowcut.flow.window.Window`) or differentiable."""

    def product(self, weights: Tensor, x: Tensor) -> Tensor:
        """Omega x."""

    def transpose(self, weights: Tensor, u: Tensor) -> Tensor:
        """Omega^T u."""

    def gradient(self, u: Tensor, v: Tensor) -> Tensor:
        """<u_i, v_k> for every weight."""


class Linearization(NamedTuple):
    """A = R_S Omega and b = S - 1/J.

    Attributes
    ----------
    products
        How Omega is multiplied with.
    weights
        Omega, (N, K, *spatial) or (N, 2 E + n).
    similarity
        S = S(W_0), (N, J, *spatial).
    """

    products: Products
    weights: Tensor
    similarity: Tensor

    @property
    def source(self) -> Tensor:
        """b = S - 1/J, (N, J, *spatial): R_{W_0} S(W_0) of (2.7b) in the coordinates Y."""
        return self.similarity - 1 / self.similarity.shape[1]

    def product(self, y: Tensor) -> Tensor:
        """A y = R_S Omega y (2.9b)."""
        return replicate(self.similarity, self.products.product(self.weights, y))

    def transpose(self, u: Tensor) -> Tensor:
        """A^T u = Omega^T R_S u, because R_S is symmetric."""
        return self.products.transpose(self.weights, replicate(self.similarity, u))

    def dense(self) -> Tensor:
        """A as (N, n, n) with n = J * pixels, label by label: for small problems."""
        items, labels = self.similarity.shape[:2]
        spatial = self.similarity.shape[2:]
        pixels = spatial.numel()
        identity = torch.eye(pixels, dtype=self.similarity.dtype, device=self.similarity.device)
        columns = self.products.product(
            self.weights, identity.reshape(1, pixels, *spatial).expand(items, -1, *spatial).contiguous()
        )
        omega = columns.flatten(2).mT  # omega[n, i, k]
        s = self.similarity.flatten(2).mT  # (N, pixels, J)
        r = torch.diag_embed(s) - s[..., :, None] * s[..., None, :]  # R_{S_i}, (N, pixels, J, J)
        return torch.einsum("nik,nijl->njilk", omega, r).reshape(items, labels * pixels, labels * pixels)


def linearize(products: Products, weights: Tensor, evidence: Tensor) -> Linearization:
    """S = softmax(Omega evidence) with evidence = log W_0 - D / rho (2.5b)."""
    return Linearization(products, weights, products.product(weights, evidence).softmax(dim=1))
