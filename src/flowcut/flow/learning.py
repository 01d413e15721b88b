r"""Learning the weights of linear assignment flows (LAF section 4).

A loss of V(T; Omega) (4.1) goes down along the Riemannian gradient of the weights (4.2), which the low-rank
formula of :mod:`flowcut.flow.convolution` gives in 2 m products with Omega.
"""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Callable
from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.angle import angle_loss, read_target
from flowcut.flow.descent import Descent, RiemannianDescent
from flowcut.flow.inputs import read_inputs
from flowcut.flow.krylov import Options
from flowcut.flow.linear import Gradient, read_options, run_linear_flow
from flowcut.flow.natural import NaturalParameters
from flowcut.flow.rounding import round_assignment
from flowcut.flow.weight_fit import Progress, WeightFit
from flowcut.flow.weights import uniform_weights
from flowcut.flow.window import Window

Loss = Callable[[Tensor, Tensor], Tensor]


def learn_weights(
    distances: Tensor,
    target: Tensor,
    window: int = 5,
    rho: float = 1.0,
    time: float = 5.0,
    krylov_dim: int = 5,
    rank: int | None = 3,
    tolerance: float | None = None,
    gradient: Gradient = "convolution",
    loss: Loss | None = None,
    descent: Descent | None = None,
    steps: int = 50,
    stationary: bool = False,
    initial: Tensor | None = None,
    ignore_index: int | None = 255,
    stop_below: float | None = None,
    callback: Callable[[WeightFit], bool | None] | None = None,
    progress: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int = 10,
    neighborhood: Neighborhood | Graph | None = None,
) -> WeightFit:
    r"""Learn which neighbours each pixel listens to, so that the flow ends in given labels (LAF 4).

    Parameters
    ----------
    distances
        (N, J, *spatial), finite: of each pixel to each label.
    target
        (N, *spatial) integer: the labels to end in.
    window
        Odd side of the window, centre included.
    rho, time, krylov_dim, rank, tolerance, gradient
        As in :func:`flowcut.linear_assignment_flow`; three factors of the gradient are kept by default.
    loss
        ``loss(V, target)``, a differentiable scalar of V (N, J, *spatial). Default: the angle (4.1).
    descent
        :class:`flowcut.RiemannianDescent` (default, (4.2)), :class:`flowcut.MomentumDescent`,
        :class:`flowcut.AdamDescent`.
    steps
        >= 0, how many times the weights are moved.
    stationary
        One set of weights for all pixels, truncated and renormalised at borders, in place of one for
        every pixel.
    initial
        Weights to start from, (N, K, *spatial) or (N, 2 E + n). Default: uniform.
    ignore_index
        Pixels with this target count neither for the default loss nor for the share of wrong pixels.
    stop_below
        Stop as soon as the share of wrong pixels, in [0, 1], is at most this.
    callback
        Called with the fit so far after every evaluation; stops the learning by returning True.
    progress
        Show steps, loss and share of wrong pixels on standard error.
    checkpoint
        A file to continue from, if it exists, and to write to; the result is the same as without
        interruption. It holds tensors and numbers alone.
    checkpoint_every
        Steps between two writes, >= 1.
    neighborhood
        Offsets, or a graph, in place of the window.

    Returns
    -------
    WeightFit
        The learned weights, what they lead to, and the way there.

    Raises
    ------
    TypeError
        Distances are integers, or targets are not.
    ValueError
        A shape, a number, a label or a checkpoint does not fit, or the loss is not finite.

    Examples
    --------
    Uniform weights follow the majority; learned ones keep the pixel in the middle:

    >>> distances = torch.tensor([[[0.2, 0.2, 0.8, 0.2, 0.2], [0.8, 0.8, 0.2, 0.8, 0.8]]])
    >>> fit = learn_weights(distances, torch.tensor([[0, 0, 1, 0, 0]]), window=3, rho=0.5, steps=20)
    >>> fit.wrong[0], fit.wrong[-1], fit.labels.tolist()
    (0.2, 0.0, [[0, 0, 1, 0, 0]])
    """
    options = read_options(time, krylov_dim, tolerance, 1, 0, rank, gradient)
    _check(steps, stop_below, checkpoint_every)
    if initial is None:
        spatial = tuple(distances.shape[2:])
        initial = uniform_weights(
            spatial, window, neighborhood, len(distances), distances.dtype, distances.device
        )
    inputs = read_inputs(distances, initial, rho, neighborhood)
    if stationary and inputs.window.pairs is not None:
        raise ValueError("stationary: expected a grid, got a graph, whose nodes have no common offsets")
    read_target(distances, target, ignore_index)
    problem = _Problem(*inputs, target, time, options, loss, ignore_index)
    parameters = NaturalParameters(inputs.window, inputs.weights, stationary)
    descent = descent or RiemannianDescent()
    run = Progress(parameters.theta, descent.init(parameters.theta))
    if checkpoint is not None:
        run.read(checkpoint)
    return _descend(
        problem, parameters, run, descent, steps, stop_below, callback, progress,
        checkpoint, checkpoint_every, neighborhood,
    )  # fmt: skip


class _Problem(NamedTuple):
    """A linear flow with a loss at its end."""

    evidence: Tensor
    weights: Tensor
    window: Window
    target: Tensor
    time: float
    options: Options
    loss: Loss | None
    ignore_index: int | None

    def evaluate(self, weights: Tensor, derive: bool) -> tuple[Tensor, Tensor, float, Tensor | None]:
        """V, the loss, the share of wrong pixels, and dL/dOmega if it is wanted."""
        with torch.enable_grad():
            omega = weights.detach().requires_grad_(derive)
            moved, _ = run_linear_flow(self.window, omega, self.evidence, self.time, 1, self.options)
            # V at the barycenter, see flowcut.flow.linearization.
            value = moved / moved.shape[1]
            if self.loss is None:
                loss = angle_loss(value, self.target, self.ignore_index)
            else:
                loss = self.loss(value, self.target)
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"loss: expected a finite number, got {loss.item()}; lower the step or time")
        grad = torch.autograd.grad(loss, omega)[0] if derive and loss.requires_grad else None
        return value.detach(), loss.detach(), self.wrong(value.detach()), grad

    def wrong(self, value: Tensor) -> float:
        """Share of the labelled pixels whose largest entry is another label; 0 where all are void."""
        valid = (
            torch.ones_like(self.target, dtype=torch.bool)
            if self.ignore_index is None
            else self.target != self.ignore_index
        )
        count = int(valid.sum())
        return float(((round_assignment(value) != self.target) & valid).sum()) / max(1, count)


def _descend(
    problem: _Problem, parameters: NaturalParameters, run: Progress, descent: Descent, steps: int,
    stop_below: float | None, callback: Callable[[WeightFit], bool | None] | None, progress: bool,
    checkpoint: str | PathLike[str] | None, every: int, neighborhood: Neighborhood | Graph | None,
) -> WeightFit:  # fmt: skip
    """Evaluate, stop or move, until no steps are left; the last evaluation is of the last weights."""
    spent = run.seconds[-1] if run.seconds else 0.0
    began = clock.perf_counter()
    while True:
        weights = parameters.weights()
        value, loss, wrong, grad = problem.evaluate(weights, derive=run.step < steps)
        run.note(float(loss), wrong, spent + clock.perf_counter() - began)
        converged = stop_below is not None and wrong <= stop_below
        fit = WeightFit(
            weights, value, run.losses[:], run.wrong[:], run.seconds[:], run.step, converged, neighborhood
        )
        if progress:
            print(f"\rstep {run.step}/{steps}: loss {float(loss):.4g}, {wrong:.3%} wrong ", end="",
                  file=sys.stderr, flush=True)  # fmt: skip
        asked = bool(callback(fit)) if callback is not None else False
        if converged or asked or run.step >= steps or grad is None:
            break
        softmaxes, slope = parameters.gradient(weights, grad)
        descent.update(parameters.theta, softmaxes, slope, parameters.unit, run.state, axis=1)
        parameters.settle()
        run.step += 1
        if checkpoint is not None and run.step % every == 0:
            run.write(checkpoint)
    if progress:
        print(file=sys.stderr)
    return fit


def _check(steps: int, stop_below: float | None, every: int) -> None:
    if steps < 0:
        raise ValueError(f"steps: expected an integer >= 0, got {steps}")
    if every < 1:
        raise ValueError(f"checkpoint_every: expected an integer >= 1, got {every}")
    if stop_below is not None and not 0 <= stop_below <= 1:
        raise ValueError(f"stop_below: expected a share in [0, 1], got {stop_below}")
