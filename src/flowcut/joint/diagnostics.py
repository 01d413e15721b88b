r"""How many independent draws the draws of Markov chains are worth, and whether chains agree.

All functions take the values of a statistic, (draws, chains, ...); further axes are further statistics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.core.checks import check_finite


def autocovariance(values: Tensor, mean: Tensor | None = None) -> Tensor:
    """Autocovariance along the draws, by FFT.

    Parameters
    ----------
    values
        (draws, ...).
    mean
        What is subtracted, of a shape that fits one draw. Default: the mean of each column.

    Returns
    -------
    Tensor
        (draws, ...) float64: entry t is sum_d (x_d - mean) (x_{d+t} - mean) / draws.

    Examples
    --------
    >>> autocovariance(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    tensor([ 1.0000, -0.7500,  0.5000, -0.2500], dtype=torch.float64)
    """
    x = values.to(torch.float64)
    draws = len(x)
    x = x - (x.mean(dim=0) if mean is None else mean)
    # Padded to twice the length, so that the circular correlation is the linear one.
    power = torch.fft.rfft(x, n=2 * draws, dim=0).abs().square()
    return torch.fft.irfft(power, n=2 * draws, dim=0)[:draws] / draws


def effective_sample_size(values: Tensor) -> Tensor:
    r"""The number of independent draws whose mean would have the variance that the mean of these has.

    With M independent stationary chains of D draws and autocorrelations rho_t, the mean of all has the
    variance var(x) tau / (D M) with tau = 1 + 2 sum_{t < D} (1 - t / D) rho_t. The autocovariances around the
    mean *of all chains*, averaged over the chains, estimate (1 - t / D) rho_t var(x) as they are (Agarwal,
    Vats 2022), so chains may be short, and chains that disagree count as correlated. The sum ends by Geyer's
    initial monotone sequence (Geyer 1992): sums of two neighbours, rho_{2k} + rho_{2k+1}, are positive and
    decrease for a reversible chain; from the first that is not positive on all is noise.

    Parameters
    ----------
    values
        (draws, chains, ...), finite; at least 4 draws.

    Returns
    -------
    Tensor
        (...) float64: D M / tau. At most D M log10(D M): chains that alternate may be better than independent
        draws, but no estimate of it is reliable. NaN where a statistic never changes: nothing can be said.

    Raises
    ------
    ValueError
        Fewer than two axes or 4 draws, no chain, or a value is not finite.

    Examples
    --------
    >>> x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    >>> 3500 < effective_sample_size(x) < 4500
    tensor(True)
    >>> effective_sample_size(x.cumsum(dim=0)) < 40
    tensor(True)
    """
    x = _checked(values)
    draws, chains = x.shape[:2]
    covariance = autocovariance(x, x.mean(dim=(0, 1))).mean(dim=1)
    even = draws // 2 * 2
    correlation = covariance[:even] / covariance[0]
    pairs = correlation.reshape(even // 2, 2, *correlation.shape[1:]).sum(dim=1)
    going = (pairs > 0).cumprod(dim=0).bool()
    pairs = torch.where(going, pairs.cummin(dim=0).values, 0)
    count = draws * chains
    time = (2 * pairs.sum(dim=0) - 1).clamp(min=1 / math.log10(count))
    changes = (x != x[0, 0]).flatten(0, 1).any(dim=0)
    return torch.where(changes, count / time, math.nan)


def split_r_hat(values: Tensor) -> Tensor:
    r"""Whether the first and second halves of all chains agree (Gelman, Rubin 1992): near 1 when they do.

    Of the M' = 2 M halves of D' draws: W is the mean of their variances, B the variance of their means, and
    R-hat the square root of (W (D' - 1) / D' + B) / W. B has M' - 1 in its denominator.

    Parameters
    ----------
    values
        (draws, chains, ...), finite; at least 4 draws.

    Returns
    -------
    Tensor
        (...) float64. Above about 1.01 the chains have not met; infinite where every half stands still and
        they differ; NaN where a statistic never changes at all.

    Raises
    ------
    ValueError
        Fewer than two axes or 4 draws, no chain, or a value is not finite.

    Examples
    --------
    >>> x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    >>> split_r_hat(x) < 1.01, split_r_hat(x + torch.arange(4)) > 1.3
    (tensor(True), tensor(True))
    """
    x = _checked(values)
    half = len(x) // 2  # a draw in the middle is left out
    x = torch.cat([x[:half], x[-half:]], dim=1)
    # Exactly zero for halves that stand still: the mean of equal numbers may differ from them by rounding.
    moves = (x != x[0]).any(dim=0)
    within = torch.where(moves, x.var(dim=0), 0).mean(dim=0)
    between = torch.where((x[0] == x[0, :1]).all(dim=0) & (within == 0), 0, x.mean(dim=0).var(dim=0))
    return ((within * (half - 1) / half + between) / within).sqrt()


def _checked(values: Tensor) -> Tensor:
    if values.ndim < 2 or len(values) < 4 or values.shape[1] < 1:
        raise ValueError(
            f"values: expected shape (draws, chains, ...) with at least 4 draws and 1 chain, "
            f"got {tuple(values.shape)}"
        )
    check_finite("values", values)
    return values.to(torch.float64)
