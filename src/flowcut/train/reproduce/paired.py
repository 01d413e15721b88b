"""Two systems compared on the same pictures with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "OVER_SEEDS",
    "Difference",
    "mean_and_interval",
    "mean_over_seeds",
    "mean_standard_error",
    "paired_difference",
]

OVER_SEEDS = (
    "Test pictures; ± is half of a 95 % interval over seeds, brackets the standard error over pictures"
)
"""Heading of tables made with :func:`mean_over_seeds` and :func:`mean_standard_error`."""


@dataclass(frozen=True)
class Difference:
    """A mean difference and how far it may be off.

    Parameters
    ----------
    mean : float
        Over seeds and pictures.
    seeds : float
        Half the width of the 95 % interval for other seeds on these very pictures; NaN for one seed.
    pictures : float
        Half the width of the 95 % interval for other pictures with these very seeds; NaN for one picture.
    """

    mean: float
    seeds: float
    pictures: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.seeds:.3f} (seeds) ± {self.pictures:.3f} (pictures)"

    @property
    def sure(self) -> bool:
        """Whether both intervals leave out zero."""
        return abs(self.mean) > max(self.seeds, self.pictures)


def mean_and_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t.

    Parameters
    ----------
    values : sequence of float
        Independent draws.

    Returns
    -------
    mean : float
    half : float
        NaN for fewer than two values.

    Examples
    --------
    Half the width is 12.706 standard errors for two values:

    >>> mean, half = mean_and_interval([0.0, 2.0])
    >>> mean, round(half, 3)
    (1.0, 12.706)
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return float(found.mean()), math.nan
    error = found.std(ddof=1) / math.sqrt(len(found))
    return float(found.mean()), float(stats.t.ppf(0.975, len(found) - 1) * error)


def mean_over_seeds(scores: Sequence[Sequence[float]], digits: int) -> str:
    """Write the mean score and half of its 95 % interval over seeds.

    Parameters
    ----------
    scores : sequence of sequence of float
        One row a seed, one column a picture.
    digits : int
        Decimals.

    Returns
    -------
    str

    Examples
    --------
    >>> mean_over_seeds([[0.5, 0.7], [0.6, 0.6]], 2)
    '0.60 ± 0.00'
    """
    mean, half = mean_and_interval([float(np.mean(row)) for row in scores])
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def mean_standard_error(scores: Sequence[Sequence[float]]) -> float:
    """Standard error of the mean over the pictures, averaged over the seeds.

    Parameters
    ----------
    scores : sequence of sequence of float
        One row a seed, one column a picture.

    Returns
    -------
    float
        NaN for one picture.

    Examples
    --------
    >>> mean_standard_error([[0.0, 2.0], [0.0, 4.0]])
    1.5
    """
    values = np.asarray(scores, dtype=np.float64)
    count = values.shape[1]
    return float(np.mean(values.std(axis=1, ddof=1)) / math.sqrt(count)) if count > 1 else math.nan


def paired_difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Difference:
    """Compare two systems, picture by picture and seed by seed.

    A training depends on its seed and a score on the picture; what both systems have in common of either
    leaves the difference. Three seeds say little about other seeds, so that interval is wide; it is the one
    that tells whether training again would give the same order.

    Parameters
    ----------
    ours, theirs : sequence of sequence of float
        One row a seed, one column a picture, in the same order.

    Returns
    -------
    Difference
        Of ours less theirs.

    Raises
    ------
    ValueError
        The two are not of one shape, or empty.

    Examples
    --------
    >>> paired_difference([[1.0, 2.0], [1.0, 2.0]], [[0.0, 1.0], [0.0, 1.0]])
    Difference(mean=1.0, seeds=0.0, pictures=0.0)
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (ours, theirs))
    if a.shape != b.shape or a.ndim != 2 or a.size == 0:
        raise ValueError(f"ours: expected the shape (seeds, pictures) of theirs, got {a.shape}, {b.shape}")
    mean, seeds = mean_and_interval((a - b).mean(axis=1))
    _, pictures = mean_and_interval((a - b).mean(axis=0))
    return Difference(mean, seeds, pictures)
