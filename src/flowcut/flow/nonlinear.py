r"""The assignment flow (LAF (2.3)-(2.5)).

The likelihood of pixel k is the lifting of its distances, L_k(W_k) = exp_{W_k}(-D_k / rho), so
log L_k = log W_k - D_k / rho up to a constant of the pixel. With Exp_p^{-1}(q) = R_p log(q / p) (2.4c) and
sum_k omega_ik = 1, the tangent vector inside (2.5b) is

    sum_k omega_ik Exp_{W_i}^{-1}(L_k) = R_{W_i} (sum_k omega_ik log L_k - log W_i),

and because Exp_p(R_p z) = exp_p(z) = softmax(log p + z),

    S_i(W) = softmax(log W_i + sum_k omega_ik log L_k - log W_i)
           = softmax(sum_k omega_ik (log W_k - D_k / rho)).

W_i has gone: the similarity is a softmax of averaged logits, finite wherever the logits are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import OnFailure
from flowcut.flow.adjoint import average
from flowcut.flow.inputs import read_inputs
from flowcut.flow.integrators import GeometricEuler, integrate
from flowcut.flow.start import checked_logits, fit_start, logits_of
from flowcut.flow.steps import Integrated, Integrator
from flowcut.flow.stopping import EntropyBelow, Stop
from flowcut.kernels.layout import common_type


def assignment_flow(
    distances: Tensor,
    weights: Tensor,
    rho: float = 1.0,
    time: float | None = None,
    initial: Tensor | None = None,
    integrator: Integrator | None = None,
    until: Stop | None = None,
    neighborhood: Neighborhood | Graph | None = None,
    on_failure: OnFailure = "warn",
) -> Tensor:
    r"""Label pixels by the flow dW/dt = R_W S(W) (LAF (2.3)).

    Every pixel averages, in the geometry of the simplex, what its neighbours have assigned and measured,
    and moves there; for long times every pixel decides for one label. Differentiable in distances,
    weights and the start, through the steps taken.

    Parameters
    ----------
    distances
        (N, J, *spatial), finite: of each pixel to each label (:func:`flowcut.label_distances`). Half
        precision is integrated in single precision.
    weights
        (N, K, *spatial), or (N, 2 E + n) on a graph: on the simplex over the neighbours of each
        pixel (:func:`flowcut.uniform_weights`, :func:`flowcut.softmax_weights`).
    rho
        > 0, in the unit of the distances: the smaller, the more the data count.
    time
        How long, > 0. With ``until`` the latest time.
    initial
        (N or 1, J, *spatial) on the simplex, where zeros are read as the smallest number of the type.
        Default: the barycenter.
    integrator
        Default ``GeometricEuler(0.1)``.
    until
        Stop an item earlier. Default ``EntropyBelow(1e-3)`` if there is no ``time``.
    neighborhood
        Offsets of the weights or a graph. Default: the full window with K entries.
    on_failure
        What to do when ``until`` is not met: "warn", "raise" or "ignore".

    Returns
    -------
    Tensor
        (N, J, *spatial) of the type of ``distances``: W, on the simplex.

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, distances are not finite, rho or time <= 0, weights or the start are off
        the simplex.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    A pixel in doubt follows its neighbours:

    >>> distances = torch.tensor([[[0.0, 0.6, 0.0], [1.0, 0.5, 1.0]]])
    >>> from flowcut.flow.weights import uniform_weights
    >>> assignment_flow(distances, uniform_weights((3,)), rho=0.5).argmax(dim=1)
    tensor([[0, 0, 0]])
    """
    start = None if initial is None else logits_of(initial, common_type(distances, weights, initial))
    found = integrate_assignment_flow(
        distances, weights, rho, time, start, integrator, until, neighborhood, on_failure
    )
    return found.logits.softmax(dim=1).to(distances.dtype)


def integrate_assignment_flow(
    distances: Tensor,
    weights: Tensor,
    rho: float = 1.0,
    time: float | None = None,
    initial_logits: Tensor | None = None,
    integrator: Integrator | None = None,
    until: Stop | None = None,
    neighborhood: Neighborhood | Graph | None = None,
    on_failure: OnFailure = "warn",
) -> Integrated:
    """:func:`assignment_flow` from logits to logits, with the time and steps it took.

    Parameters
    ----------
    initial_logits
        (N or 1, J, *spatial), finite: the start is their softmax. Default 0.
    distances, weights, rho, time, integrator, until, neighborhood, on_failure
        As in :func:`assignment_flow`.

    Returns
    -------
    Integrated
        In the type of the computation.

    Raises
    ------
    TypeError, ValueError, NotConvergedError
        As in :func:`assignment_flow`.

    Examples
    --------
    >>> distances = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    >>> found = integrate_assignment_flow(distances, torch.ones(1, 1, 2))
    >>> found.converged.item(), bool(found.time > 1), found.logits.argmax(dim=1).tolist()
    (True, True, [[0, 0]])
    """
    evidence, weights, window = read_inputs(distances, weights, rho, neighborhood)
    if initial_logits is None:
        start = torch.zeros_like(evidence)
    else:
        start = checked_logits(initial_logits, evidence.dtype)
        start = fit_start(start, tuple(evidence.shape), "initial")

    def similarity(logits: Tensor) -> Tensor:
        # (2.5b), see the top of this file.
        return average(window, weights, logits + evidence).softmax(dim=1)

    if time is None and until is None:
        until = EntropyBelow(1e-3)
    return integrate(similarity, start, integrator or GeometricEuler(), time, until, on_failure)


class AssignmentFlow(nn.Module):
    """:func:`assignment_flow` as a layer that returns logits, for a fixed time by default.

    Parameters
    ----------
    rho, time, integrator, until, neighborhood, on_failure
        As in :func:`assignment_flow`. With ``until`` the layer runs eagerly only.

    Examples
    --------
    >>> from flowcut.flow.weights import softmax_weights
    >>> layer, weights = AssignmentFlow(rho=0.5), torch.randn(2, 9, 8, 8)
    >>> layer(torch.rand(2, 3, 8, 8), softmax_weights(weights)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        rho: float = 1.0,
        time: float | None = 5.0,
        integrator: Integrator | None = None,
        until: Stop | None = None,
        neighborhood: Neighborhood | Graph | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        self.rho = rho
        self.time = time
        self.integrator = GeometricEuler() if integrator is None else integrator
        self.until = until
        self.neighborhood = neighborhood
        self.on_failure = on_failure

    def forward(self, distances: Tensor, weights: Tensor, initial_logits: Tensor | None = None) -> Tensor:
        """Logits (N, J, *spatial) with zero mean over the labels, whose softmax is W."""
        found = integrate_assignment_flow(
            distances,
            weights,
            self.rho,
            self.time,
            initial_logits,
            self.integrator,
            self.until,
            self.neighborhood,
            self.on_failure,
        )
        return found.logits.to(distances.dtype)

    def extra_repr(self) -> str:
        """What the flow depends on."""
        return f"rho={self.rho}, time={self.time}, integrator={self.integrator}, until={self.until}"
