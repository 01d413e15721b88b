"""When a flow has decided: rules that look at the assignments after every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Stop(Protocol):
    """A rule that an integrator asks after every step, for every item by itself.

    The number of steps then depends on the data: such flows run eagerly, they cannot be compiled,
    exported or vmapped.
    """

    def met(self, logits: Tensor) -> Tensor:
        """(N,) bool: which items are done; logits (N, J, *spatial), W = softmax(logits)."""


@dataclass(frozen=True)
class EntropyBelow:
    """Stop where the mean entropy of an item's assignments falls below a share of its largest value.

    The criterion that LAF names below (2.3): the entropy of each pixel over log J (so that the
    barycenter has 1), averaged over the pixels of the item.

    Parameters
    ----------
    threshold
        Between 0 and 1.

    Raises
    ------
    ValueError
        It is not.

    Examples
    --------
    >>> EntropyBelow(0.5).met(torch.tensor([[[9.0], [0.0]], [[0.1], [0.0]]])).tolist()
    [True, False]
    """

    threshold: float = 1e-3

    def __post_init__(self) -> None:
        _check_share("threshold", self.threshold)

    def met(self, logits: Tensor) -> Tensor:
        """See :class:`Stop`."""
        largest = math.log(logits.shape[1])
        log_p = logits.detach().log_softmax(dim=1)
        mean = -(log_p.exp() * log_p).sum(dim=1).flatten(1).mean(dim=1)
        # A picture without pixels has the mean NaN, one label the entropy 0: nothing to decide.
        return ~(mean > self.threshold * largest)


@dataclass(frozen=True)
class IntegralWithin:
    """Stop where every pixel of an item is this close to a vertex of the simplex.

    Parameters
    ----------
    tolerance
        Largest difference to 0 or 1 of any entry of W, between 0 and 1.

    Raises
    ------
    ValueError
        It is not.

    Examples
    --------
    >>> IntegralWithin(0.01).met(torch.tensor([[[9.0], [0.0]], [[0.1], [0.0]]])).tolist()
    [True, False]
    """

    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        _check_share("tolerance", self.tolerance)

    def met(self, logits: Tensor) -> Tensor:
        """See :class:`Stop`."""
        largest = logits.detach().log_softmax(dim=1).amax(dim=1)
        # 1 - max W bounds every other entry of the row; expm1 keeps it exact near 0.
        return (torch.expm1(largest) >= -self.tolerance).flatten(1).all(dim=1)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value}")
