r"""The linear assignment flow (LAF (2.6)-(2.11)).

The assignment flow with S linearised at W_0, see :mod:`flowcut.flow.linearization`: in the coordinates Y,

    Y(T) = T phi(T A) b,      W(T) = softmax(log W_0 + Y(T)),      V(T) = R_{W_0} Y(T)     (2.8).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import OnFailure
from flowcut.flow.adjoint import Differentiable, step
from flowcut.flow.exact_gradient import check_size
from flowcut.flow.inputs import check_positive, read_inputs
from flowcut.flow.krylov import Options, images, krylov_space, solution_coefficients
from flowcut.flow.linearization import linearize
from flowcut.flow.simplex import replicator
from flowcut.flow.start import fit_start, logits_of
from flowcut.flow.tolerance import report_tolerance
from flowcut.flow.window import Window
from flowcut.kernels.layout import common_type

Gradient = Literal["convolution", "paper", "exact", "autograd-euler", "autograd-arnoldi"]


def linear_assignment_flow(
    distances: Tensor,
    weights: Tensor,
    rho: float = 1.0,
    time: float = 5.0,
    krylov_dim: int = 5,
    tolerance: float | None = None,
    steps: int = 1,
    initial: Tensor | None = None,
    relinearizations: int = 0,
    rank: int | None = None,
    gradient: Gradient = "convolution",
    neighborhood: Neighborhood | Graph | None = None,
    on_failure: OnFailure = "warn",
) -> Tensor:
    r"""Label pixels by the linearised assignment flow in closed form, T phi(T A) b (LAF (2.8)).

    Differentiable in distances, weights and ``initial``; the gradient is the low-rank formula of the exact
    gradient, not a record of the steps.

    Parameters
    ----------
    distances
        (N, J, *spatial), finite: of each pixel to each label (:func:`flowcut.label_distances`). Half
        precision is integrated in single precision.
    weights
        (N, K, *spatial), or (N, 2 E + n) on a graph: on the simplex over the neighbours of each pixel
        (:func:`flowcut.uniform_weights`, :func:`flowcut.softmax_weights`).
    rho
        > 0, in the unit of the distances: the smaller, the more the data count.
    time
        T > 0, of each linearisation.
    krylov_dim
        m >= 1, dimension of the Krylov spaces. With a ``tolerance`` the largest one.
    tolerance
        Relative error of the solution in the Euclidean norm at which the space is large enough, by an
        a-posteriori estimate. Default: use ``krylov_dim`` dimensions.
    steps
        >= 1: T is reached in so many steps, each with a Krylov space of its own. For long times many
        steps in small spaces cost less than one in a large space.
    initial
        W_0, (N or 1, J, *spatial) on the simplex: where S is linearised. Default: the barycenter.
    relinearizations
        How many times the flow is linearised anew, where it has come to, and run for another T.
    rank
        Number of factors kept of the gradient (3.14), >= 1. Default: all; 3 are nearly as good.
    gradient
        "convolution": derived in :mod:`flowcut.flow.convolution`. "paper": (3.8)-(3.15), worse
        conditioned for long times. "exact": dense exponentials, for small problems.
        "autograd-arnoldi": autograd through the Krylov process. "autograd-euler": autograd through
        ``steps * krylov_dim`` explicit Euler steps (3.16), which also replace the solution; there is no
        estimate of their error.
    neighborhood
        Offsets of the weights or a graph. Default: the full window with K entries.
    on_failure
        What to do when ``tolerance`` is not met: "warn", "raise" or "ignore".

    Returns
    -------
    Tensor
        (N, J, *spatial) of the type of ``distances``: V, tangent at W_0; W = Exp_{W_0}(V). At the barycenter
        softmax(J V).

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, a number is out of its range, distances are not finite, weights or the
        start are off the simplex, or the problem is too large for ``gradient="exact"``.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    A pixel in doubt follows its neighbours:

    >>> distances = torch.tensor([[[0.0, 0.6, 0.0], [1.0, 0.5, 1.0]]])
    >>> from flowcut.flow.weights import uniform_weights
    >>> V = linear_assignment_flow(distances, uniform_weights((3,)), rho=0.5)
    >>> V.argmax(dim=1), bool(V.sum(dim=1).abs().max() < 1e-6)
    (tensor([[0, 0, 0]]), True)
    """
    start = None if initial is None else logits_of(initial, common_type(distances, weights, initial))
    moved = integrate_linear_flow(
        distances, weights, rho, time, krylov_dim, tolerance, steps, start, relinearizations, rank, gradient,
        neighborhood, on_failure,
    )  # fmt: skip
    if initial is None:
        return (moved / distances.shape[1]).to(distances.dtype)
    return replicator(initial.to(moved.dtype), moved).to(distances.dtype)


def integrate_linear_flow(
    distances: Tensor,
    weights: Tensor,
    rho: float = 1.0,
    time: float = 5.0,
    krylov_dim: int = 5,
    tolerance: float | None = None,
    steps: int = 1,
    initial_logits: Tensor | None = None,
    relinearizations: int = 0,
    rank: int | None = None,
    gradient: Gradient = "convolution",
    neighborhood: Neighborhood | Graph | None = None,
    on_failure: OnFailure = "warn",
) -> Tensor:
    """:func:`linear_assignment_flow` in logits: Y with W = softmax(``initial_logits`` + Y).

    Parameters
    ----------
    initial_logits
        (N or 1, J, *spatial), finite: W_0 is their softmax. Default 0, the barycenter.
    distances, weights, rho, time, krylov_dim, tolerance, steps, relinearizations, rank, gradient, \
neighborhood, on_failure
        As in :func:`linear_assignment_flow`.

    Returns
    -------
    Tensor
        (N, J, *spatial) in the type of the computation: Y, of sum zero over the labels. No entry of it
        is out of reach of single precision where W comes close to a vertex.

    Raises
    ------
    TypeError, ValueError, NotConvergedError
        As in :func:`linear_assignment_flow`.

    Examples
    --------
    >>> distances = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    >>> integrate_linear_flow(distances, torch.ones(1, 1, 2), time=1.0).softmax(dim=1)[0, 0] > 0.5
    tensor([True, True])
    """
    options = read_options(time, krylov_dim, tolerance, steps, relinearizations, rank, gradient)
    evidence, weights, window = read_inputs(distances, weights, rho, neighborhood)
    if gradient == "exact":
        check_size(distances.shape[1], evidence[0, 0].numel() if len(evidence) else 0)
    start: Tensor | None = None
    if initial_logits is not None:
        start = fit_start(initial_logits.to(evidence.dtype), tuple(evidence.shape), "initial")
    total: Tensor | None = None
    for _ in range(relinearizations + 1):
        logits = start if total is None else total if start is None else start + total
        moved, error = run_linear_flow(window, weights, _add(logits, evidence), time, steps, options)
        if tolerance is not None:
            report_tolerance(error, moved, tolerance, on_failure)
        total = _add(total, moved)
    assert total is not None
    return total


def run_linear_flow(
    window: Window, weights: Tensor, evidence: Tensor, time: float, steps: int, options: Options
) -> tuple[Tensor, Tensor]:
    """One linearisation of checked inputs: Y(T) and the sum of the estimated errors of its steps, (N,)."""
    if options.gradient == "autograd-euler":
        return _euler(window, weights, evidence, time, steps * options.dim), evidence.new_zeros(len(evidence))
    y: Tensor | None = None
    total = evidence.new_zeros(len(evidence), dtype=torch.float64)
    for _ in range(steps):
        if options.gradient == "autograd-arnoldi":
            y, error = _arnoldi_step(window, weights, evidence, y, time / steps, options)
        else:
            y, error = step(window, weights, evidence, y, time / steps, options)
        total = total + error
    assert y is not None
    return y, total


def _euler(window: Window, weights: Tensor, evidence: Tensor, time: float, count: int) -> Tensor:
    """Explicit Euler steps (3.16), recorded by autograd."""
    flow = linearize(Differentiable(window), weights, evidence)
    y = torch.zeros_like(evidence)
    for _ in range(count):
        y = y + time / count * (flow.source + flow.product(y))
    return y


def _arnoldi_step(
    window: Window, weights: Tensor, evidence: Tensor, start: Tensor | None, time: float, options: Options
) -> tuple[Tensor, Tensor]:
    """The Krylov approximation (2.10), recorded by autograd."""
    flow = linearize(Differentiable(window), weights, evidence)
    rhs = flow.source if start is None else flow.source + flow.product(start)
    space = krylov_space(flow, rhs, options, time, transpose=False)
    moved = images(flow, space, solution_coefficients(space, time))[:, 0]
    return _add(start, moved), space.error.detach()


def _add(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first + second


def read_options(
    time: float, krylov_dim: int, tolerance: float | None, steps: int, relinearizations: int,
    rank: int | None, gradient: str,
) -> Options:  # fmt: skip
    """Check the numbers of a linear flow.

    Raises
    ------
    ValueError
        One is out of its range.
    """
    check_positive("time", time)
    for name, number, least in (
        ("krylov_dim", krylov_dim, 1),
        ("steps", steps, 1),
        ("relinearizations", relinearizations, 0),
        ("rank", 1 if rank is None else rank, 1),
    ):
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name}: expected an integer >= {least}, got {number}")
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient: expected one of {get_args(Gradient)}, got {gradient!r}")
    return Options(krylov_dim, tolerance or 0.0, rank, gradient)


class LinearAssignmentFlow(nn.Module):
    """:func:`linear_assignment_flow` as a layer that returns logits: the last layer of a network.

    Distances and weights may both come from the network (:func:`flowcut.softmax_weights` makes weights of
    any K channels).

    Parameters
    ----------
    rho, time, krylov_dim, tolerance, steps, relinearizations, rank, gradient, neighborhood, on_failure
        As in :func:`linear_assignment_flow`.

    Examples
    --------
    >>> from flowcut.flow.weights import softmax_weights
    >>> layer, weights = LinearAssignmentFlow(rho=0.5), torch.randn(2, 9, 8, 8)
    >>> layer(torch.rand(2, 3, 8, 8), softmax_weights(weights)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        rho: float = 1.0,
        time: float = 5.0,
        krylov_dim: int = 5,
        tolerance: float | None = None,
        steps: int = 1,
        relinearizations: int = 0,
        rank: int | None = None,
        gradient: Gradient = "convolution",
        neighborhood: Neighborhood | Graph | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        check_positive("rho", rho)
        read_options(time, krylov_dim, tolerance, steps, relinearizations, rank, gradient)
        self.rho, self.time, self.krylov_dim, self.tolerance = rho, time, krylov_dim, tolerance
        self.steps, self.relinearizations, self.rank = steps, relinearizations, rank
        self.gradient: Gradient = gradient
        self.neighborhood = neighborhood
        self.on_failure: OnFailure = on_failure

    def forward(self, distances: Tensor, weights: Tensor) -> Tensor:
        """Logits Y = V / W_0 at the barycenter, (N, J, *spatial), whose softmax is W."""
        logits = integrate_linear_flow(
            distances, weights, self.rho, self.time, self.krylov_dim, self.tolerance, self.steps, None,
            self.relinearizations, self.rank, self.gradient, self.neighborhood, self.on_failure,
        )  # fmt: skip
        return logits.to(distances.dtype)

    def extra_repr(self) -> str:
        """What the flow depends on."""
        return f"rho={self.rho}, time={self.time}, krylov_dim={self.krylov_dim}, gradient={self.gradient!r}"
