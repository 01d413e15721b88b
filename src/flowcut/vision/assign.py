"""A picture labelled by an assignment flow whose labels are colours (LAF section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.distances import label_distances
from flowcut.flow.linear import integrate_linear_flow
from flowcut.flow.nonlinear import integrate_assignment_flow
from flowcut.flow.simplex import entropy
from flowcut.flow.weights import gaussian_weights, uniform_weights

# Share of the mean distance that rho is by default: on photographs most pixels are then decided at T = 5,
# while the labels hardly depend on it (mean / 1 to mean / 100 move about one pixel in a hundred).
_RHO_SHARE = 0.1
# Of a step of the nonlinear flow in the logits, absolute and relative: as good as Euler steps of 0.1 on
# photographs (one pixel in some thousands differs), in a twentieth of the steps.
_ERROR = 1e-2
# Share of the red, green and blue light in what the eye sees as brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class FlowSettings:
    """Which flow labels a picture.

    Parameters
    ----------
    flow
        "linear" (2.6) or "nonlinear" (2.3).
    rho
        > 0, in the unit of the distances; None: a tenth of the mean distance.
    time
        T > 0. None: 5 for the linear flow; the nonlinear one runs until its pixels have decided.
    window
        Odd side in pixels of the window that a pixel averages over.
    weights
        "uniform" or "gaussian".
    sigma
        Of Gaussian weights, in pixels, > 0; None: a quarter of the window.
    krylov_dim
        m >= 1 of the linear flow; None: 5.
    relinearizations
        How often the linear flow is linearised anew where it has come to; None: never.

    Raises
    ------
    ValueError
        A setting is out of its range, or belongs to another flow or other weights.

    Examples
    --------
    >>> FlowSettings(window=4)
    Traceback (most recent call last):
        ...
    ValueError: window: expected an odd integer >= 1, got 4
    """

    flow: Literal["linear", "nonlinear"] = "linear"
    rho: float | None = None
    time: float | None = None
    window: int = 5
    weights: Literal["uniform", "gaussian"] = "uniform"
    sigma: float | None = None
    krylov_dim: int | None = None
    relinearizations: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("rho", self.rho), ("time", self.time), ("sigma", self.sigma)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a finite number > 0, got {value}")
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window: expected an odd integer >= 1, got {self.window}")
        for name, count, least in (
            ("krylov_dim", self.krylov_dim, 1),
            ("relinearizations", self.relinearizations, 0),
        ):
            if count is not None and self.flow != "linear":
                raise ValueError(f"{name}: expected with the linear flow alone, got {count}")
            if count is not None and count < least:
                raise ValueError(f"{name}: expected an integer >= {least}, got {count}")
        if self.sigma is not None and self.weights != "gaussian":
            raise ValueError(f"sigma: expected with Gaussian weights alone, got {self.sigma}")


@dataclass(frozen=True)
class Labeling:
    """What :func:`label_picture` found.

    Attributes
    ----------
    labels
        (H, W) int64: index of the prototype.
    entropy
        (H, W) float32 in [0, 1]: of the assignment, over log J; 1 where nothing speaks for any label.
    rho
        The one that was used.
    """

    labels: Tensor
    entropy: Tensor
    rho: float


def label_picture(image: Tensor, prototypes: Tensor, settings: FlowSettings | None = None) -> Labeling:
    """Assign one of J colours to every pixel, in agreement with its neighbours.

    Distances are squared and Euclidean. Memory is about 4 (K + (m + 4) J) bytes a pixel for a window of K
    pixels.

    Parameters
    ----------
    image
        (C, H, W) float in [0, 1]: colours, or grey values with C = 1.
    prototypes
        (J, C) in the same unit, 1 <= J <= 255.
    settings
        Default: ``FlowSettings()``.

    Returns
    -------
    Labeling

    Raises
    ------
    ValueError
        Shapes do not fit, or numbers are not finite.

    Examples
    --------
    >>> image = torch.zeros(1, 3, 3)
    >>> image[:, 1, 1] = 1.0
    >>> label_picture(image, torch.tensor([[0.0], [1.0]])).labels.sum().item()
    0
    """
    settings = settings or FlowSettings()
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"image: expected (C, H, W) with pixels in it, got {tuple(image.shape)}")
    distances = label_distances(image[None], prototypes)
    rho = settings.rho or default_rho(distances)
    logits = _logits(distances, rho, settings)
    share = entropy(logits.softmax(dim=1))[0] / max(math.log(len(prototypes)), 1e-6)
    return Labeling(logits.argmax(dim=1)[0], share.clamp(0, 1).float(), rho)


def default_rho(distances: Tensor) -> float:
    """A tenth of the mean distance; 1 where all distances vanish.

    Parameters
    ----------
    distances
        (N, J, *spatial), >= 0.

    Examples
    --------
    >>> round(default_rho(torch.tensor([[[0.0, 2.0], [4.0, 2.0]]])), 6), default_rho(torch.zeros(1, 1, 1))
    (0.2, 1.0)
    """
    mean = float(distances.double().mean())
    # A picture whose distances are as good as zero has nothing to choose between: any rho will do.
    return _RHO_SHARE * mean if mean > 1e-12 else 1.0


def grey(image: Tensor) -> Tensor:
    """Brightness of colours.

    Parameters
    ----------
    image
        (3, ...), red, green, blue.

    Returns
    -------
    Tensor
        (1, ...).

    Examples
    --------
    >>> grey(torch.tensor([[1.0], [1.0], [1.0]])).tolist()
    [[1.0]]
    """
    share = image.new_tensor(_LUMA).reshape(3, *(1,) * (image.ndim - 1))
    return (share * image).sum(dim=0, keepdim=True)


def _logits(distances: Tensor, rho: float, settings: FlowSettings) -> Tensor:
    """(1, J, H, W): logarithm of the assignments at the end, up to a constant of each pixel."""
    spatial, window = tuple(distances.shape[2:]), settings.window
    if settings.weights == "uniform":
        weights = uniform_weights(spatial, window)
    else:
        weights = gaussian_weights(spatial, settings.sigma or window / 4, window)
    if settings.flow == "nonlinear":
        return integrate_assignment_flow(
            distances, weights, rho, settings.time, integrator=AdaptiveRKMK(_ERROR, _ERROR)
        ).logits
    return integrate_linear_flow(
        distances,
        weights,
        rho,
        settings.time or 5.0,
        settings.krylov_dim or 5,
        relinearizations=settings.relinearizations or 0,
    )
