r"""What randomizes a flow: the couplings that a vector of numbers stands for.

A dynamics takes samples of that vector, (D, M) with samples last, and integrates the S-flow for all of them.
Logits are (C, n, M), n pixels in row-major order; for two labels C = 1 channel, their difference, is enough.
"""

from __future__ import annotations

import hashlib
import math
from typing import Protocol

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import ties_of
from flowcut.flow.couplings import ConvolutionCouplings
from flowcut.flow.integrators import GeometricEuler
from flowcut.flow.s_flow import integrate_s_flow
from flowcut.flow.stopping import IntegralWithin
from flowcut.joint.adjoint import rectified_logits
from flowcut.kernels.rectified import rectified_limit


class Dynamics(Protocol):
    """An S-flow whose couplings are given by D numbers."""

    @property
    def size(self) -> int:
        """D."""

    @property
    def channels(self) -> int:
        """C, of the logits."""

    def identity(self) -> str:
        """What two dynamics must have in common to take each other's parameters."""

    def run(self, start: Tensor, x: Tensor, steps: list[float]) -> Tensor:
        """Logits (C, n, M) after Euler steps, differentiable."""

    def limit(
        self, start: Tensor, x: Tensor, step: float, growth: float, max_steps: int
    ) -> tuple[Tensor, Tensor]:
        """Labels (n, M) uint8 for t to infinity, and steps taken (M,), -1 where the end was not reached."""


class PairDynamics:
    """Omega = max(X, 0) + epsilon I over pairs of pixels (RAF, Theorem 1), X = Z + Z^T.

    Parameters
    ----------
    shape
        (J, *spatial).
    couplings
        None: all pairs of pixels. A neighborhood or graph: the pairs that it ties.
    epsilon
        > 0.
    """

    def __init__(
        self, shape: tuple[int, ...], couplings: Neighborhood | Graph | None, epsilon: float
    ) -> None:
        self.channels = 1 if shape[0] == 2 else shape[0]
        self.pixels = math.prod(shape[1:])
        self.pairs = _pairs(tuple(shape[1:]), couplings)
        self.epsilon = epsilon

    @property
    def size(self) -> int:
        """Ties, then the diagonal."""
        return self.pairs.shape[1] + self.pixels

    def identity(self) -> str:
        """See :class:`Dynamics`."""
        digest = hashlib.sha256(self.pairs.numpy().tobytes()).hexdigest()[:16]
        return f"pairs {digest}, epsilon {self.epsilon}"

    def run(self, start: Tensor, x: Tensor, steps: list[float]) -> Tensor:
        """See :class:`Dynamics`."""
        count = self.pairs.shape[1]
        ties, diagonal = x[:count], x[count:]
        return rectified_logits(start, ties, diagonal, self.pairs.to(x.device), self.epsilon, steps)

    def limit(
        self, start: Tensor, x: Tensor, step: float, growth: float, max_steps: int
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Dynamics`: ends where labels can provably no longer change."""
        count = self.pairs.shape[1]
        ties, diagonal = x[:count].contiguous(), x[count:].contiguous()
        found: tuple[Tensor, Tensor] = rectified_limit(
            start.contiguous(), ties, diagonal, self.pairs.to(x.device), self.epsilon, step, growth, max_steps
        )
        return found


class ConvolutionDynamics:
    """Omega is a convolution between labels (RAF (3), Fig. 1): the same for every pixel, of any sign.

    Parameters
    ----------
    shape
        (J, *spatial), up to three axes.
    window
        Odd side of the kernel.

    Notes
    -----
    Theorem 1 does not cover such couplings. The limit ends where every pixel is within 0.001 of a vertex, and
    counts if the vertex attracts: its own labels gain most there. Long steps can come near others.
    """

    def __init__(self, shape: tuple[int, ...], window: int) -> None:
        self.shape = tuple(shape)
        self.channels = shape[0]
        self.window = (window,) * (len(shape) - 1)

    @property
    def size(self) -> int:
        """Entries of the kernel (J, J, *window)."""
        return self.channels**2 * math.prod(self.window)

    def identity(self) -> str:
        """See :class:`Dynamics`."""
        return f"convolution {self.window}"

    def run(self, start: Tensor, x: Tensor, steps: list[float]) -> Tensor:
        """See :class:`Dynamics`."""
        logits, couplings = self._read(start, x)
        couplings = couplings.prepared(tuple(logits.shape), logits.dtype)
        for step in steps:
            slope = couplings.apply(logits.softmax(dim=1))
            logits = logits + step * (slope - slope.mean(dim=1, keepdim=True))
        return logits.flatten(2).permute(1, 2, 0)

    def limit(
        self, start: Tensor, x: Tensor, step: float, growth: float, max_steps: int
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Dynamics`."""
        logits, couplings = self._read(start, x)
        found = integrate_s_flow(
            logits,
            couplings,
            integrator=GeometricEuler(step, growth=growth, max_steps=max_steps),
            until=IntegralWithin(1e-3),
            on_failure="ignore",
        )
        labels = found.logits.argmax(dim=1)
        hot = torch.nn.functional.one_hot(labels, self.channels).movedim(-1, 1).to(logits.dtype)
        gains = couplings.prepared(tuple(hot.shape), hot.dtype).apply(hot)
        stays = (gains.argmax(dim=1) == labels).flatten(1).all(dim=1)
        taken = torch.where(found.converged & stays, found.steps, -1)
        return labels.flatten(1).T.to(torch.uint8), taken

    def _read(self, start: Tensor, x: Tensor) -> tuple[Tensor, ConvolutionCouplings]:
        """Samples first, as :mod:`flowcut.flow` has them."""
        samples = x.shape[1]
        kernel = x.T.reshape(samples, self.channels, self.channels, *self.window)
        return start.permute(2, 0, 1).reshape(samples, *self.shape), ConvolutionCouplings(kernel)


def _pairs(spatial: tuple[int, ...], couplings: Neighborhood | Graph | None) -> Tensor:
    """(2, E) int64."""
    if couplings is None:
        low = torch.tril_indices(math.prod(spatial), math.prod(spatial), -1)
        return low.flip(0).contiguous()
    numbers = torch.arange(math.prod(spatial)).reshape(spatial)
    found = [
        torch.stack([numbers[tie.here].flatten(), numbers[tie.there].flatten()])
        for tie in ties_of(couplings, spatial, numbers.device)
    ]
    return torch.cat(found, dim=1)
