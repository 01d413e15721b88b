r"""The tail of importance weights: the shape of a generalized Pareto law fitted to the largest ones.

Exceedances x of a high threshold follow about 1 - (1 + k x / sigma)^(-1/k). Moments of order 1/k and more do
not exist: for k > 1/2 the weights have no variance, and for k > 0.7 averages converge so slowly that they are
of no use (Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling", JMLR 25, 2024).

*Fit* (Zhang and Stephens, Technometrics 51, 2009). With b = -k / sigma the maximum of the likelihood over k
is at k(b) = mean log(1 - b x), of value l(b) = n (log(-b / k(b)) - k(b) - 1). Their estimate is the mean of b
under weights exp(l) on a grid of quantiles of a prior for b, b < 1 / max x, and k = k(mean b).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FEWEST = 5  # exceedances
_PRIOR_COUNT, _PRIOR_SHAPE = 10, 0.5


def pareto_shape(log_weights: Tensor) -> float:
    """k-hat of weights, from the largest min(M / 5, 3 sqrt(M)) of them.

    As in Vehtari et al. (2024), the fit is drawn to 1/2 by the weight of 10 observations, because few
    exceedances tell k to no more than (1 + k) / sqrt(n).

    Parameters
    ----------
    log_weights
        (M,), finite; only differences matter.

    Returns
    -------
    float
        -inf where no weight exceeds the threshold (all the largest are equal), inf where the largest one is
        beyond exp(300) times the threshold, nan where fewer than 5 exceed it.

    Examples
    --------
    Weights u^(-k) of uniform u have shape k:

    >>> u = (torch.arange(10000, dtype=torch.float64) + 0.5) / 10000
    >>> [round(pareto_shape(-k * u.log()), 1) for k in (0.2, 0.5, 0.9)]
    [0.2, 0.5, 0.9]
    """
    ordered = log_weights.detach().double().sort(descending=True).values
    samples = len(ordered)
    size = min(samples // 5, math.ceil(3 * math.sqrt(samples)))
    if size < _FEWEST:
        return math.nan
    above = ordered[:size] - ordered[size]  # logarithms, relative to the threshold
    if float(above[0]) > 300:
        return math.inf
    excess = torch.expm1(above)
    excess = excess[excess > 0].flip(0)
    if not len(excess):
        return -math.inf
    if len(excess) < _FEWEST:
        return math.nan
    n = len(excess)
    return (n * _zhang_stephens(excess) + _PRIOR_COUNT * _PRIOR_SHAPE) / (n + _PRIOR_COUNT)


def _zhang_stephens(excess: Tensor) -> float:
    """k of exceedances (n,), > 0, in ascending order."""
    n = len(excess)
    points = 20 + math.floor(math.sqrt(n))
    quartile = excess[math.floor(n / 4 + 0.5) - 1]
    j = torch.arange(1, points + 1, dtype=torch.float64, device=excess.device)
    b = 1 / excess[-1] + (1 - (points / (j - 0.5)).sqrt()) / (3 * quartile)
    b = torch.where(b == 0, torch.finfo(b.dtype).eps / excess[-1], b)  # b / k has a limit at 0
    k = torch.log1p(-b[:, None] * excess).mean(dim=1)
    likelihood = n * ((-b / k).log() - k - 1)
    mean_b = (likelihood.softmax(dim=0) * b).sum()
    return float(torch.log1p(-mean_b * excess).mean())
