"""The ties of one kind of head made into those of another: edges of cuts, weights of flows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood, Offset
from flowcut.core.ties import ties_of as pairs_of
from flowcut.flow.weights import normalize_weights
from flowcut.vision.ties import Ties

__all__ = ["FittedTies", "edges_from_weights", "fit_ties", "half_window", "tied_by", "weights_from_edges"]

# The strongest edge that BoundedEdges make.
_STRONGEST = math.exp(10)


def weights_from_edges(edges: Tensor, neighborhood: Neighborhood, window: int = 3) -> Tensor:
    """Weights of a window from edges: each pixel's edges, both ways, beside 1 for the pixel itself.

    Omega_ij = w_ij / (1 + sum_k w_ik) and Omega_ii = 1 / (1 + sum_k w_ik), 0 for what is not tied. Then a
    SoftCut x of b with confidence 1, (1 + sum_k w_ik) x_i = b_i + sum_j w_ij x_j, is
    x_i = Omega_ii b_i + sum_j Omega_ij x_j: the flow averages with the weights that the cut averages with.

    Parameters
    ----------
    edges
        (N, K, *spatial) >= 0.
    neighborhood
        Their K offsets, each undirected tie once.
    window
        Side of the window in pixels, odd, large enough to hold the offsets.

    Returns
    -------
    Tensor
        (N, window**ndim, *spatial), rows on the simplex.

    Raises
    ------
    ValueError
        An offset lies outside the window, or edges are not as above.

    Examples
    --------
    >>> weights_from_edges(torch.tensor([[[3.0, 0.0]]]), Neighborhood.edges(1)).tolist()
    [[[0.0, 0.75], [0.25, 0.25], [0.75, 0.0]]]
    """
    full = Neighborhood.window(neighborhood.ndim, window)
    _check_held(neighborhood, window)
    strengths = edges.new_zeros((len(edges), len(full), *edges.shape[2:]))
    strengths[:, full.offsets.index((0,) * neighborhood.ndim)] = 1
    pairs = pairs_of(neighborhood, tuple(edges.shape[2:]), edges.device)
    for offset, tie in zip(neighborhood.offsets, pairs, strict=True):
        strengths[:, full.offsets.index(offset)][tie.here] = edges[tie.own]
        strengths[:, full.offsets.index(_turned(offset))][tie.there] = edges[tie.own]
    return normalize_weights(strengths, full)


def edges_from_weights(weights: Tensor, window: int, neighborhood: Neighborhood | None = None) -> Tensor:
    """Edges from weights of a window, the inverse of :func:`weights_from_edges`.

    There w_ij = Omega_ij / Omega_ii, the weight of the neighbour in units of the pixel's own. Weights that a
    network learned need not be symmetric, as edges are; their mean over both directions is taken,
    w_ij = (Omega_ij / Omega_ii + Omega_ji / Omega_jj) / 2, each at most exp(10), for a pixel may have no
    weight of its own.

    Parameters
    ----------
    weights
        (N, window**ndim, *spatial) >= 0.
    window
        Side of the window in pixels, odd.
    neighborhood
        K offsets inside the window. Default: :func:`half_window`.

    Returns
    -------
    Tensor
        (N, K, *spatial); 0 where the neighbour lies outside the picture.

    Raises
    ------
    ValueError
        An offset lies outside the window.

    Examples
    --------
    >>> weights = torch.tensor([[[0.0, 0.75], [0.25, 0.25], [0.75, 0.0]]])
    >>> edges_from_weights(weights, 3).tolist()
    [[[3.0, 0.0]]]
    """
    ndim = weights.ndim - 2
    full, where = Neighborhood.window(ndim, window), neighborhood or half_window(ndim, window)
    _check_held(where, window)
    own = weights[:, full.offsets.index((0,) * ndim), None]
    ratios = (weights / own.clamp(min=torch.finfo(weights.dtype).tiny)).clamp(max=_STRONGEST)
    edges = weights.new_zeros((len(weights), len(where), *weights.shape[2:]))
    pairs = pairs_of(where, tuple(weights.shape[2:]), weights.device)
    for offset, tie in zip(where.offsets, pairs, strict=True):
        to = ratios[:, full.offsets.index(offset)][tie.here]
        back = ratios[:, full.offsets.index(_turned(offset))][tie.there]
        edges[tie.own] = (to + back) / 2
    return edges


def half_window(ndim: int, window: int) -> Neighborhood:
    """Each undirected tie of a window once, nearest first; for 3 the full connectivity.

    Examples
    --------
    >>> half_window(2, 3) == Neighborhood.edges(2, connectivity=2), len(half_window(2, 5))
    (True, 12)
    """
    # In the order of Neighborhood.edges: forward steps first, then by the length of the way.
    forward = [o for o in reversed(Neighborhood.window(ndim, window).offsets) if o > (0,) * ndim]
    return Neighborhood(tuple(sorted(forward, key=lambda o: sum(map(abs, o)))))


@dataclass(frozen=True)
class FittedTies:
    """Ties of a trained network as another head takes them.

    Parameters
    ----------
    ties
        How the network's raw ties are read; ``channels`` are theirs.
    name
        What the head takes: "edges" or "weights".
    source, target
        Which pixels the network's ties and the head's ties tie; the one that is a window counts by its side.

    Examples
    --------
    >>> from flowcut.vision.ties import WindowWeights
    >>> ties = FittedTies(WindowWeights(3), "edges", Neighborhood.window(2, 3), half_window(2, 3))
    >>> ties.read(torch.zeros(1, 9, 2, 2))[0, :, 0, 0].tolist()  # below, right, and the two diagonals
    [1.0, 1.0, 1.0, 0.0]
    """

    ties: Ties
    name: str
    source: Neighborhood
    target: Neighborhood

    @property
    def channels(self) -> int:
        """Number of channels of the raw output."""
        return self.ties.channels

    def read(self, raw: Tensor) -> Tensor:
        """Ties for the head from raw values (N, channels, *spatial)."""
        return self._fitted(self.ties.read(raw))

    def from_strengths(self, strengths: Tensor) -> Tensor:
        """Ties for the head from strengths (N, channels, *spatial) >= 0."""
        return self._fitted(self.ties.from_strengths(strengths))

    def _fitted(self, values: Tensor) -> Tensor:
        if self.name == "weights":
            return weights_from_edges(values, self.source, _side(self.target))
        return edges_from_weights(values, _side(self.source), self.target)


def fit_ties(ties: Ties, source: Neighborhood, name: str, target: Neighborhood) -> Ties:
    """Make a network's ties fit another head.

    Parameters
    ----------
    ties, source
        The network's ties, and which pixels they tie.
    name, target
        What the head calls its ties, and which pixels it ties.

    Raises
    ------
    ValueError
        The head ties pixels that the network says nothing about.

    Examples
    --------
    >>> from flowcut.vision.ties import BoundedEdges
    >>> fit_ties(BoundedEdges(2), Neighborhood.edges(2), "edges", Neighborhood.edges(2))
    BoundedEdges(channels=2, log_edge_limit=10.0)
    """
    if ties.name == name:
        if source.offsets != target.offsets:
            raise ValueError(
                f"head: expected one for the network's {len(source)} {name} of a pixel (offsets "
                f"{source.offsets}), got one for {len(target)} ({target.offsets})"
            )
        return ties
    if name == "weights":
        _check_held(source, _side(target))
    else:
        _check_held(target, _side(source))
    return FittedTies(ties, name, source, target)


def tied_by(ties: Ties, neighborhood: object, ndim: int) -> Neighborhood:
    """Which pixels a head's ties tie: what its neighborhood says, or what their number does.

    Examples
    --------
    >>> from flowcut.vision.ties import WindowWeights
    >>> tied_by(WindowWeights(3), None, 2) == Neighborhood.window(2, 3)
    True
    """
    if isinstance(neighborhood, Neighborhood):
        return neighborhood
    if ties.name == "weights":
        return Neighborhood.window(ndim, round(ties.channels ** (1 / ndim)))
    return Neighborhood.infer(ndim, ties.channels)


def _side(window: Neighborhood) -> int:
    return round(len(window) ** (1 / window.ndim))


def _turned(offset: Offset) -> Offset:
    return tuple(-o for o in offset)


def _check_held(neighborhood: Neighborhood, window: int) -> None:
    reach = max(abs(o) for offset in neighborhood.offsets for o in offset)
    if reach > window // 2:
        raise ValueError(f"window: expected a side of {2 * reach + 1} or more for these edges, got {window}")
