"""What a randomized flow is made with: checked once, and where its parameters begin."""

from __future__ import annotations

import math

from flowcut.joint.dynamics import ConvolutionDynamics, PairDynamics
from flowcut.joint.gaussian import COVARIANCES


def initial_couplings(
    dynamics: PairDynamics | ConvolutionDynamics, pixels: int, initial: str
) -> tuple[float, float, float]:
    """Mean, deviation by factors, and deviation by noise of the entries of Z + Z^T."""
    if isinstance(dynamics, ConvolutionDynamics):
        scale = 1.0 / dynamics.size
        return scale, scale, scale
    if initial == "paper":  # twice the mean and, off the diagonal, twice the variance of Z
        half = math.sqrt(0.1)
        return 0.1, half, half
    # A pixel is then pulled about as much as one of 24 that are all tied to each other.
    scale = min(4.0, 11.5 * pixels / max(dynamics.pairs.shape[1], 1))
    return 0.04 * scale, 0.1 * scale, 0.1 * scale


def check_kinds(covariance: str, start_covariance: str, start: str, initial: str) -> None:
    """Refuse names that are none.

    Raises
    ------
    ValueError
        One is.
    """
    for name, value, known in (
        ("covariance", covariance, COVARIANCES),
        ("start_covariance", start_covariance, COVARIANCES),
        ("start", start, ("random", "learned", "fixed")),
        ("initial", initial, ("scaled", "paper")),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def check_numbers(
    shape: tuple[int, ...],
    rank: int,
    components: int,
    time: float,
    step: float,
    growth: float,
    epsilon: float,
) -> None:
    """Refuse numbers that are out of their range.

    Raises
    ------
    ValueError
        One is.
    """
    if len(shape) < 2 or shape[0] < 2 or any(s < 1 for s in shape):
        raise ValueError(f"shape: expected (J, *spatial) with J >= 2 labels, got {shape}")
    pixels = math.prod(shape[1:])
    if not 0 <= rank <= pixels:
        raise ValueError(f"rank: expected 0 to {pixels}, the number of pixels, got {rank}")
    if components < 1:
        raise ValueError(f"components: expected an integer >= 1, got {components}")
    for name, number in (("time", time), ("step", step), ("epsilon", epsilon)):
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a finite number > 0, got {number}")
    if not 1 <= growth < math.inf:
        raise ValueError(f"growth: expected a number >= 1, got {growth}")
