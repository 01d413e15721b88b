"""The randomized flows of RAF Fig. 1: what they begin with, and how they are fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.dynamics import ConvolutionDynamics
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.train.reproduce.experiment import check_least, check_positive

__all__ = ["SubjectFlow", "randomized_flow"]

_GROWTH = 1.3


@dataclass(frozen=True)
class SubjectFlow:
    """One randomized flow and its fit.

    Parameters
    ----------
    couplings : str
        "convolution" between labels, the same for all pixels, or "neighbors": each pixel with its eight.
    split : float
        0: all flows begin at what each pixel says by itself. > 0: half of them begin with the logit of the
        astronaut that much lower, half with that of the cat.
    gain : float
        Of a convolution: mean sum over its window from a label to itself, > 0.
    spread : float
        Of a convolution: standard deviation of each such sum at first, > 0.
    time, step : float
        When labels are drawn, and the first Euler step; > 0.
    steps, samples : int
        Of Adam, >= 0, and flows in each, >= 2.
    lr : float
        > 0.
    beta : float
        Inverse temperature at first, in (0, 1].

    Raises
    ------
    ValueError
        A value is out of its range.

    Examples
    --------
    >>> SubjectFlow(samples=1)
    Traceback (most recent call last):
        ...
    ValueError: samples: expected an integer >= 2, got 1
    """

    couplings: Literal["convolution", "neighbors"] = "convolution"
    split: float = 0.0
    gain: float = 4.0
    spread: float = 0.5
    time: float = 6.0
    step: float = 0.6
    steps: int = 300
    samples: int = 48
    lr: float = 0.002
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("gain", "spread", "time", "step", "lr"):
            check_positive(name, getattr(self, name))
        check_least("steps", self.steps, 0)
        check_least("samples", self.samples, 2)
        if not 0 <= self.split < float("inf"):
            raise ValueError(f"split: expected a finite number >= 0, got {self.split}")
        if not 0 < self.beta <= 1:
            raise ValueError(f"beta: expected a number in (0, 1], got {self.beta}")


def randomized_flow(
    flow: SubjectFlow, energy: PottsEnergy, window: int, rank: int, seed: int
) -> RandomizedAssignment:
    """A flow that begins at the evidence, S_0 = softmax(-unary), with couplings that average over windows.

    Parameters
    ----------
    flow : SubjectFlow
    energy : PottsEnergy
        Of :func:`flowcut.train.reproduce.ambiguity.ambiguity`.
    window : int
        Odd side of a convolution.
    rank : int
        Factors of the covariance.
    seed : int
        Of the initial factors.

    Returns
    -------
    RandomizedAssignment
        Not fitted.
    """
    model = RandomizedAssignment(
        energy.shape,
        window if flow.couplings == "convolution" else Neighborhood.edges(2, 2),
        rank=rank,
        start="learned",
        components=2 if flow.split else 1,
        time=flow.time,
        step=flow.step,
        growth=_GROWTH,
        seed=seed,
    )
    with torch.no_grad():
        starts = -energy.unary[0, :, None].repeat(1, model.components, 1, 1)
        if flow.split:
            starts[[2, 1], [0, 1]] -= flow.split
        starts = starts.flatten(2).transpose(1, 2)
        model.start.mean.copy_((starts - starts.mean(dim=0)).reshape(-1, model.components))
        if isinstance(model.dynamics, ConvolutionDynamics):
            _set_kernel(model, flow, window)
    return model


def _set_kernel(model: RandomizedAssignment, flow: SubjectFlow, window: int) -> None:
    """Mean and spread of the window's sums: of w^2 entries with deviation s the sum has about w s."""
    labels = model.shape[0]
    mean = torch.eye(labels).reshape(labels, labels, 1, 1).expand(-1, -1, window, window)
    model.couplings.mean.copy_(mean.reshape(-1, 1) * flow.gain / window**2)
    deviation = model.couplings.factors.square().sum(dim=1).mean().sqrt()
    model.couplings.factors.mul_(flow.spread / window / deviation)
