r"""Samples of perturbed cuts: what may be subtracted from them, and sums in a fixed order.

The derivative of an expectation E y(s + a Z) by scores of the noise is E[<g, y> Z] / a (adjoint.py). Its
variance grows with <g, y>, also where that does not depend on Z at all. Two remedies, both without bias:

- *leave-one-out*. A number c_m that does not depend on sample m's own Z_m may be subtracted, since
  E[c_m Z_m] = E[c_m] E[Z_m] = 0. The mean of the other samples is one.
- *antithetic*. From a pair Z, -Z with labels y+, y- the estimate is the mean of <g, y+> Z and <g, y-> (-Z),
  which is <g, (y+ - y-) / 2> Z. What is subtracted from both cancels: there is no use for a baseline here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from flowcut.core.neighborhood import Offset

# Numbers that are added in one go: two or more of these, and PyTorch does not divide a sum among threads.
_BLOCK = 4096


class Rule(NamedTuple):
    """How samples become a derivative: see the head of this file.

    Attributes
    ----------
    variance
        "antithetic": the second half of the samples has the noise of the first, with the other sign.
        "leave-one-out" or "none".
    sigmas
        a and b.
    offsets
        What ties the pixels of a grid.
    """

    variance: str
    sigmas: tuple[float, float]
    offsets: tuple[Offset, ...]


def both_signs(noise: Tensor, variance: str) -> Tensor:
    """Noise (N, P, ...) of all samples (N, M, ...)."""
    return torch.cat((noise, -noise), dim=1) if variance == "antithetic" else noise


def centred(labels: Tensor, variance: str) -> Tensor:
    """Labels (N, M, ...) less what has no share in the expectation: (N, P, ...) float64."""
    values = labels.to(torch.float64)
    samples = values.shape[1]
    if variance == "antithetic":
        return (values[:, : samples // 2] - values[:, samples // 2 :]) / 2
    if variance == "leave-one-out" and samples > 1:
        # y_m - (sum of the others) / (M - 1) = (y_m - mean) M / (M - 1)
        return (values - values.mean(dim=1, keepdim=True)) * (samples / (samples - 1))
    return values


def dots(grad: Tensor, values: Tensor) -> Tensor:
    """<grad, values> (N, P) of (N, ...) and (N, P, ...), added in an order that threads do not change."""
    product = (grad.unsqueeze(1) * values).flatten(2)
    short = max(2 * _BLOCK - product.shape[2], -product.shape[2] % _BLOCK)
    return pad(product, (0, short)).reshape(*product.shape[:2], -1, _BLOCK).sum(dim=3).sum(dim=2)


def weighted(weights: Tensor, noise: Tensor) -> Tensor:
    """The mean over p of weights (N, P) times noise (N, P, ...)."""
    return (weights.reshape(*weights.shape, *(1,) * (noise.ndim - 2)) * noise).mean(dim=1)
