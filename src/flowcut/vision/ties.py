"""What a head ties neighbouring pixels with, made from the raw output of a network's second branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.flow.weights import normalize_weights, softmax_weights

__all__ = ["BoundedEdges", "KnownStrengths", "SoftplusEdges", "Ties", "WindowWeights", "ties_of"]


@runtime_checkable
class Ties(Protocol):
    """How a head reads the second branch of a network; a head offers it as its attribute ``ties``.

    Attributes
    ----------
    name
        What the ties are called where they are shown: "edges" or "weights".
    channels
        Output channels of the second branch.
    """

    @property
    def name(self) -> str:
        """What the ties are called."""

    @property
    def channels(self) -> int:
        """Number of channels of the raw output and of the ties."""

    def read(self, raw: Tensor) -> Tensor:
        """Ties (N, channels, H, W) from any finite numbers of that shape, differentiable."""

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """Ties (N, channels, H, W) from numbers >= 0 that are strengths already, differentiable."""


@dataclass(frozen=True)
class BoundedEdges:
    """Edges exp(l tanh(a / l)) of raw values a.

    Near 0 this is the exponential of Fig. 13 of the SoftCut thesis, but within [exp(-l), exp(l)].
    Unbounded, one large value overflows (in float16 from a = 11.1 on) and makes the linear system of a
    cut singular to working precision; and the number of steps of an iterative solver grows with the
    root of the largest edge.

    Parameters
    ----------
    channels
        Number of edges of a pixel, >= 1; 2 for the pixel below and the pixel on the right.
    log_edge_limit
        l, in (0, 80].

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    >>> BoundedEdges().read(torch.tensor([0.0, 1e9])).tolist()
    [1.0, 22026.46...]
    """

    channels: int = 2
    log_edge_limit: float = 10.0
    name = "edges"

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels: expected 1 or more, got {self.channels}")
        if not 0 < self.log_edge_limit <= 80:
            raise ValueError(
                "log_edge_limit: expected a number in (0, 80], as exp(88) overflows, "
                f"got {self.log_edge_limit}"
            )

    def read(self, raw: Tensor) -> Tensor:
        """Edges (N, channels, H, W) > 0."""
        return torch.exp(self.log_edge_limit * torch.tanh(raw / self.log_edge_limit))

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """Edges are strengths."""
        return strengths


@dataclass(frozen=True)
class SoftplusEdges:
    """Edges log(1 + exp(a)) of raw values a, as in Fig. 14 of the SoftCut thesis.

    They grow no faster than a, so that no network of moderate weights overflows.

    Parameters
    ----------
    channels
        Number of edges of a pixel, >= 1; 2 for the pixel below and the pixel on the right.

    Raises
    ------
    ValueError
        The number is below 1.

    Examples
    --------
    >>> SoftplusEdges().read(torch.tensor([0.0, 100.0])).tolist()
    [0.693147..., 100.0]
    """

    channels: int = 2
    name = "edges"

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels: expected 1 or more, got {self.channels}")

    def read(self, raw: Tensor) -> Tensor:
        """Edges (N, channels, H, W) >= 0."""
        return F.softplus(raw)

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """Edges are strengths."""
        return strengths


@dataclass(frozen=True)
class WindowWeights:
    """Weights on the simplex over each pixel's window: a softmax over the neighbours that exist.

    Parameters
    ----------
    window
        Side of the window in pixels, odd, centre included.

    Raises
    ------
    ValueError
        The side is even or below 1.

    Examples
    --------
    >>> ties = WindowWeights(3)
    >>> ties.channels, ties.read(torch.zeros(1, 9, 1, 2))[0, :, 0, 0].tolist()
    (9, [0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0])
    """

    window: int = 3
    name = "weights"

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window: expected an odd integer >= 1, got {self.window}")

    @property
    def channels(self) -> int:
        """Pixels of the window."""
        return self.window**2

    def read(self, raw: Tensor) -> Tensor:
        """Weights (N, channels, H, W) >= 0 with sum 1, zero outside the picture."""
        return softmax_weights(raw, Neighborhood.window(2, self.window))

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """Weights (N, channels, H, W): each pixel's strengths over their sum."""
        return normalize_weights(strengths, Neighborhood.window(2, self.window))


@dataclass(frozen=True)
class KnownStrengths:
    """Ties whose raw values are strengths already, as those of a picture's contrast.

    Parameters
    ----------
    ties
        What the strengths become.

    Examples
    --------
    >>> KnownStrengths(BoundedEdges()).read(torch.tensor([2.0])).tolist()
    [2.0]
    """

    ties: Ties

    @property
    def name(self) -> str:
        """What the ties are called."""
        return self.ties.name

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.ties.channels

    def read(self, raw: Tensor) -> Tensor:
        """Ties (N, channels, H, W) from strengths >= 0."""
        return self.ties.from_strengths(raw)

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """The same."""
        return self.ties.from_strengths(strengths)


def ties_of(head: nn.Module | None, default: Callable[[int], Ties] = BoundedEdges, ndim: int = 2) -> Ties:
    """The ties a head says it takes, or edges, which is what a cut takes.

    Parameters
    ----------
    head
        None, or with an attribute ``ties``, or called as ``head(scores, edges)``; then an attribute
        ``neighborhood``, where there is one, tells how many edges a pixel has.
    default
        Makes the edges of a head that names no ties from their number.
    ndim
        Number of spatial axes: without a neighborhood, a pixel is tied to its successor along each.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import SoftCut
    >>> ties_of(SoftCut())
    BoundedEdges(channels=2, log_edge_limit=10.0)
    """
    ties = getattr(head, "ties", None)
    if isinstance(ties, Ties):
        return ties
    neighborhood = getattr(head, "neighborhood", None)
    return default(len(neighborhood) if isinstance(neighborhood, Neighborhood) else ndim)
