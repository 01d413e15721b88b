"""Weights as natural parameters theta, omega = softmax(theta): of every pixel its own, or shared by all."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.flow.window import Window

# exp(-16) = 1e-7: a weight this far below the largest of its pixel is out of play, but can come back.
_LOWEST = -16.0


class NaturalParameters:
    """theta and the weights it stands for.

    Parameters
    ----------
    window
        Where the weights stand.
    weights
        (N, K, *spatial) or (N, 2 E + n): where to begin. Zeros are read as exp(-16) of the largest.
    stationary
        One theta for all pixels and items, (1, K, 1, ...), renormalised where neighbours are missing.

    Attributes
    ----------
    theta
        Like ``weights`` or (1, K, 1, ...); -inf where there is no neighbour.
    """

    def __init__(self, window: Window, weights: Tensor, stationary: bool) -> None:
        self.window, self.shape, self.stationary = window, tuple(weights.shape), stationary
        inside = window.inside(self.shape[2:], weights.device)
        # The least value that theta may take.
        self._floor = torch.where(inside, _LOWEST, -torch.inf).to(weights.dtype)
        if stationary:
            axes = (0, *range(2, weights.ndim))
            total = torch.where(inside, weights, 0).sum(dim=axes, keepdim=True)
            weights = total / inside.expand_as(weights).sum(dim=axes, keepdim=True).clamp_min(1)
        self.theta = weights.log()
        self.settle()

    @property
    def unit(self) -> float:
        """The number of softmaxes that a mean over the pixels is spread over: what steps are counted in."""
        if self.stationary:
            return 1.0
        pixels = self.window.num_nodes if self.window.pairs is not None else _product(self.shape[2:])
        return float(self.shape[0] * pixels)

    def settle(self) -> None:
        """Bring every theta to within 16 of the largest of its pixel: the softmax does not change by it."""
        if self.window.pairs is None:
            largest = self.theta.amax(dim=1, keepdim=True)
        else:
            owner = self.window.pairs[0]
            lowest = self.theta.new_full((self.shape[0], self.window.num_nodes), -torch.inf)
            largest = lowest.scatter_reduce(1, owner.expand_as(self.theta), self.theta, "amax")[:, owner]
        self.theta.sub_(largest)
        if self.stationary:
            self.theta.clamp_min_(_LOWEST)
        else:
            torch.maximum(self.theta, self._floor, out=self.theta)

    def weights(self) -> Tensor:
        """omega, (N, K, *spatial) or (N, 2 E + n)."""
        if self.window.pairs is not None:
            lifted = self.theta.exp()
            return lifted / self.window.of_owner(self.window.row_sums(lifted))
        if self.stationary:
            return torch.where(torch.isinf(self._floor), -torch.inf, self.theta).expand(self.shape).softmax(1)
        return self.theta.softmax(dim=1)

    def gradient(self, weights: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of one softmax each, and the loss's gradient with respect to them: what a descent takes.

        For stationary weights p, omega_ik = p_k / sum of p over the neighbours that i has, so
        dL/dp_k = sum_i (G_ik - <omega_i, G_i>) / (sum of p at i), up to a common constant.
        """
        if not self.stationary:
            return weights, grad
        shared = self.theta.softmax(dim=1)
        inside = torch.isfinite(self._floor)
        sums = torch.where(inside, shared, 0).sum(dim=1, keepdim=True)
        centred = grad - (weights * grad).sum(dim=1, keepdim=True)
        axes = (0, *range(2, grad.ndim))
        return shared, torch.where(inside, centred / sums, 0).sum(dim=axes, keepdim=True)


def _product(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
