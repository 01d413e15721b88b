"""A number with its uncertainty."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """What a sample says about a quantity.

    Attributes
    ----------
    value
        float64, any shape.
    standard_error
        The same shape: standard deviation of ``value`` over repetitions of the sample. It does not
        include a bias.

    Examples
    --------
    >>> import torch
    >>> mean_estimate(torch.tensor([1.0, 3.0])).value
    tensor(2., dtype=torch.float64)
    """

    value: Tensor
    standard_error: Tensor


def mean_estimate(values: Tensor) -> Estimate:
    """The mean of M >= 2 independent numbers and its standard error.

    Parameters
    ----------
    values
        (M, ...).

    Examples
    --------
    >>> import torch
    >>> mean_estimate(torch.tensor([1.0, 3.0], dtype=torch.float64))
    Estimate(value=tensor(2., dtype=torch.float64), standard_error=tensor(1., dtype=torch.float64))
    """
    values = values.double()
    return Estimate(values.mean(dim=0), values.std(dim=0) / len(values) ** 0.5)
