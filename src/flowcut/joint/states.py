"""All labelings of a small energy, in blocks, and sums over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

# How far the probabilities of a model may be from a sum of 1: what single precision leaves.
_SLACK = 1e-3


class States(NamedTuple):
    """Consecutive labelings.

    Attributes
    ----------
    labels
        (B, *spatial) int64.
    log_prob
        (B,) float64, under the exact law.
    """

    labels: Tensor
    log_prob: Tensor


@torch.no_grad()
def divergence(log_prob: Callable[[Tensor], Tensor], states: Iterable[States]) -> Tensor:
    """KL(P || p) = sum P (log P - log p) over all states, 0-d float64.

    Parameters
    ----------
    log_prob
        log P (B,) of labelings (B, *spatial); -inf where P is 0.
    states
        All of them, under p.

    Raises
    ------
    ValueError
        It gives something else, or its probabilities do not sum to 1 (within 1e-3).
    """
    total = found = torch.zeros((), dtype=torch.float64)
    for labels, reference in states:
        given = log_prob(labels)
        if not isinstance(given, Tensor) or given.shape != reference.shape:
            got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"log_prob: expected a tensor of shape {tuple(reference.shape)}, got {got}")
        given = given.to(reference)
        mass = given.exp()
        total = total + mass.sum()
        found = found + torch.where(mass == 0, 0, mass * (given - reference)).sum()
    if not abs(float(total) - 1) <= _SLACK:  # NaN too
        raise ValueError(f"log_prob: expected probabilities that sum to 1, got {float(total):.6g}")
    return found
