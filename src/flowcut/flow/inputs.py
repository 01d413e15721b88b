"""What every flow asks of its inputs, and the types it computes in."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.adjoint import likelihood
from flowcut.flow.window import Window, window_of
from flowcut.kernels.layout import common_type


class Inputs(NamedTuple):
    """Checked inputs of a flow in the type it computes in.

    Attributes
    ----------
    evidence
        (N, J, *spatial): -D / rho, the logarithm of the likelihood up to a constant of each pixel.
    weights
        (N, K, *spatial) or (N, 2 E + n).
    window
        Where the weights stand.
    """

    evidence: Tensor
    weights: Tensor
    window: Window


def read_inputs(
    distances: Tensor, weights: Tensor, rho: float, neighborhood: Neighborhood | Graph | None
) -> Inputs:
    """Check shapes, types and values; single precision for half types.

    Raises
    ------
    TypeError
        A tensor is not floating point.
    ValueError
        A shape does not fit, rho <= 0, a distance is not finite, or weights are off the simplex.
    """
    check_floating("distances", distances)
    check_floating("weights", weights)
    if distances.ndim < 3 or distances.shape[1] < 1:
        raise ValueError(
            f"distances: expected shape (N, J, *spatial) with J >= 1, got {tuple(distances.shape)}"
        )
    check_positive("rho", rho)
    ndim = distances.ndim - 2
    window = window_of(neighborhood, weights, ndim)
    if ndim != window.ndim:
        raise ValueError(f"distances: expected {window.ndim} spatial axes, got {tuple(distances.shape)}")
    spatial = tuple(distances.shape[2:])
    if window.pairs is not None and spatial != (window.num_nodes,):
        raise ValueError(f"distances: expected {window.num_nodes} nodes, got {tuple(distances.shape)}")
    if weights.shape[0] != distances.shape[0] or tuple(weights.shape[1:]) != window.weights_shape(spatial):
        raise ValueError(
            f"weights: expected shape {(distances.shape[0], *window.weights_shape(spatial))} "
            f"to fit the distances, got {tuple(weights.shape)}"
        )
    # Rounding to a half type moves sums by more than to single precision: judge before the conversion.
    dtype = common_type(distances, weights)
    evidence = likelihood(window, distances.to(dtype), weights, float(rho))
    return Inputs(evidence, weights.to(dtype), window)


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite number > 0.

    Raises
    ------
    ValueError
        It is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {value}")
