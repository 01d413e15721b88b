r"""How weights go downhill: Riemannian descent, with momentum, and Adam, all on natural parameters.

Weights of a pixel are omega = softmax(theta). The Riemannian gradient is R_omega G for the Euclidean one G,
and with Exp of (2.4b), (4.2) reads

    omega <- Exp_omega(-h R_omega G) = omega e^{-h G} / <omega, e^{-h G}>,

which in theta is theta <- theta - h G: no exponential of a large step that could underflow. Steps are
counted in units of the number of pixels that a loss, a mean, is spread over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flowcut.flow.inputs import check_positive

State = dict[str, Tensor]


class Descent(Protocol):
    """A rule that moves theta."""

    def init(self, theta: Tensor) -> State:
        """State before the first step."""

    def update(
        self, theta: Tensor, weights: Tensor, grad: Tensor, unit: float, state: State, axis: int
    ) -> None:
        """Move ``theta`` and ``state`` in place.

        Parameters
        ----------
        theta
            Natural parameters, -inf where there is no neighbour.
        weights
            softmax(theta).
        grad
            G = dL/domega, Euclidean; may be overwritten.
        unit
            Number of pixels that a step of length 1 stands for.
        axis
            The axis whose entries belong to one softmax.
        """


@dataclass(frozen=True)
class RiemannianDescent:
    """theta <- theta - h G: (4.2).

    Parameters
    ----------
    step
        h in units of the number of pixels, > 0. 1 works for the angle loss; from about 10 on weights
        saturate in one step.

    Examples
    --------
    >>> theta = torch.zeros(1, 2, 1)
    >>> RiemannianDescent(0.5).update(theta, theta.softmax(1), torch.tensor([[[1.0], [-1.0]]]), 1.0, {}, 1)
    >>> theta.flatten().tolist()
    [-0.5, 0.5]
    """

    step: float = 1.0

    def __post_init__(self) -> None:
        check_positive("step", self.step)

    def init(self, theta: Tensor) -> State:
        """Nothing to remember."""
        return {}

    def update(
        self, theta: Tensor, weights: Tensor, grad: Tensor, unit: float, state: State, axis: int
    ) -> None:
        """See :class:`Descent`."""
        theta.add_(grad, alpha=-self.step * unit)


@dataclass(frozen=True)
class MomentumDescent:
    """Riemannian descent with momentum: v <- mu v + G, theta <- theta - h v.

    Parameters
    ----------
    step
        h in units of the number of pixels, > 0.
    momentum
        mu in [0, 1).

    Examples
    --------
    >>> MomentumDescent(momentum=0.5).init(torch.ones(1, 2))["velocity"].tolist()
    [[0.0, 0.0]]
    """

    step: float = 0.3
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_positive("step", self.step)
        _share("momentum", self.momentum)

    def init(self, theta: Tensor) -> State:
        """No velocity."""
        return {"velocity": torch.zeros_like(theta)}

    def update(
        self, theta: Tensor, weights: Tensor, grad: Tensor, unit: float, state: State, axis: int
    ) -> None:
        """See :class:`Descent`."""
        state["velocity"].mul_(self.momentum).add_(grad)
        theta.add_(state["velocity"], alpha=-self.step * unit)


@dataclass(frozen=True)
class AdamDescent:
    """Adam on theta, whose gradient is R_omega G.

    Parameters
    ----------
    lr
        Length of a step in theta, > 0.
    betas
        Decay of the means of gradient and of its square, in [0, 1).
    eps
        Added to the root of the mean square, in units of one over the number of pixels, > 0.

    Examples
    --------
    >>> sorted(AdamDescent().init(torch.ones(1, 2)))
    ['count', 'mean', 'square']
    """

    lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_positive("eps", self.eps)
        for beta in self.betas:
            _share("betas", beta)

    def init(self, theta: Tensor) -> State:
        """No means yet."""
        zero = torch.zeros_like(theta)
        return {"mean": zero, "square": zero.clone(), "count": torch.zeros((), dtype=torch.int64)}

    def update(
        self, theta: Tensor, weights: Tensor, grad: Tensor, unit: float, state: State, axis: int
    ) -> None:
        """See :class:`Descent`."""
        # Natural parameters see R_omega G (2.4a), per pixel.
        natural = weights * (grad - (weights * grad).sum(dim=axis, keepdim=True)) * unit
        state["count"] += 1
        count, (first, second) = int(state["count"]), self.betas
        state["mean"].lerp_(natural, 1 - first)
        state["square"].lerp_(natural.square(), 1 - second)
        root = (state["square"] / (1 - second**count)).sqrt_().add_(self.eps)
        theta.addcdiv_(state["mean"], root, value=-self.lr / (1 - first**count))


def _share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value}")
