"""Weights of the averages: rows of Omega on the simplex over each pixel's neighbours (LAF (2.5)).

On a grid (N, K, *spatial), zero where the neighbour lies outside: the window is truncated at borders. On a
:class:`flowcut.Graph` (N, 2 E + n): both directions of its ties, then every node with itself
(:class:`flowcut.flow.window.Window`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.inputs import check_positive
from flowcut.flow.window import Window, graph_window, window_of
from flowcut.kernels.guard import guarded
from flowcut.kernels.layout import common_type


def uniform_weights(
    spatial: tuple[int, ...],
    window: int = 3,
    neighborhood: Neighborhood | Graph | None = None,
    items: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """The same weight for every neighbour that a pixel has.

    Parameters
    ----------
    spatial
        Shape of a picture; (n,) on a graph.
    window
        Odd side of the window, centre included.
    neighborhood
        Other offsets, or a graph, in place of the window.
    items
        N.
    dtype, device
        Of the result.

    Returns
    -------
    Tensor
        (N, K, *spatial), or (N, 2 E + n) on a graph.

    Raises
    ------
    ValueError
        An even window, a neighborhood with other axes, or a pixel without any neighbour.

    Examples
    --------
    >>> uniform_weights((3,))[0, :, 0].tolist()
    [0.0, 0.5, 0.5]
    """
    where = _window(spatial, window, neighborhood, device)
    ones = torch.ones((items, *where.weights_shape(tuple(spatial))), dtype=torch.float64, device=device)
    return _divided(ones, where).to(dtype)


def gaussian_weights(
    spatial: tuple[int, ...],
    sigma: float,
    window: int = 3,
    neighborhood: Neighborhood | Graph | None = None,
    items: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Weights proportional to exp(-length^2 / (2 sigma^2)) of the way to the neighbour.

    Parameters
    ----------
    spatial, window, items, dtype, device
        As in :func:`uniform_weights`.
    sigma
        > 0, in the unit of the neighborhood's ``spacing`` (pixels by default).
    neighborhood
        Other offsets, with their spacing, or a graph, whose ties all have length 1.

    Returns
    -------
    Tensor
        (N, K, *spatial), or (N, 2 E + n) on a graph.

    Raises
    ------
    ValueError
        ``sigma`` <= 0, or as in :func:`uniform_weights`.

    Examples
    --------
    >>> gaussian_weights((3,), sigma=1.0)[0, :, 1].tolist()
    [0.274..., 0.451..., 0.274...]
    """
    check_positive("sigma", sigma)
    where = _window(spatial, window, neighborhood, device)
    if isinstance(neighborhood, Graph):
        lengths = torch.cat([torch.ones(2 * len(neighborhood)), torch.zeros(neighborhood.num_nodes)])
    else:
        grid = neighborhood or Neighborhood.window(len(spatial), window)
        lengths = torch.tensor(grid.lengths).reshape(-1, *(1,) * len(spatial))
    values = torch.exp(-lengths.double().square() / (2 * sigma**2)).to(device)
    return _divided(values.expand(items, *where.weights_shape(tuple(spatial))), where).to(dtype)


def normalize_weights(weights: Tensor, neighborhood: Neighborhood | Graph | None = None) -> Tensor:
    """Put weights on the simplex: truncate to the neighbours that exist, divide by the sum.

    Parameters
    ----------
    weights
        (N, K, *spatial) >= 0, or (N, 2 E + n) on a graph. Entries whose neighbour lies outside are not read.
    neighborhood
        Offsets or a graph. Default: the full window with K entries.

    Returns
    -------
    Tensor
        Like ``weights``; differentiable.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        A weight is negative, NaN or infinite, a pixel's weights are all zero, or the shape fits no window.

    Examples
    --------
    >>> normalize_weights(torch.tensor([[[9.0, 1.0], [1.0, 1.0], [3.0, 9.0]]])).tolist()
    [[[0.0, 0.5], [0.25, 0.5], [0.75, 0.0]]]
    """
    check_floating("weights", weights)
    where = window_of(neighborhood, weights, max(1, weights.ndim - 2))
    values = weights.to(common_type(weights))
    inside = where.inside(tuple(weights.shape[2:]), weights.device)
    values = torch.where(inside, values, 0)
    values = guarded(values, "weights: expected finite numbers >= 0 inside the picture", low=0)
    return _divided(values, where).to(weights.dtype)


def softmax_weights(logits: Tensor, neighborhood: Neighborhood | Graph | None = None) -> Tensor:
    """Weights from a network: a softmax over the neighbours that exist.

    Parameters
    ----------
    logits
        (N, K, *spatial), or (N, 2 E + n) on a graph. Entries whose neighbour lies outside are not
        read (even NaN) and get zero gradient.
    neighborhood
        Offsets or a graph. Default: the full window with K entries.

    Returns
    -------
    Tensor
        Like ``logits``; zero outside. The sum over a pixel's neighbours is 1.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        A value inside is NaN or infinite, a pixel has no neighbour, or the shape fits no window.

    Examples
    --------
    >>> softmax_weights(torch.zeros(1, 3, 2)).tolist()
    [[[0.0, 0.5], [0.5, 0.5], [0.5, 0.0]]]
    """
    check_floating("logits", logits)
    where = window_of(neighborhood, logits, max(1, logits.ndim - 2))
    values = logits.to(common_type(logits))
    inside = where.inside(tuple(logits.shape[2:]), logits.device)
    values = torch.where(inside, values, 0)
    values = guarded(values, "logits: expected finite numbers inside the picture")
    # The largest of each pixel cancels, so it needs no derivative.
    shifted = values - where.of_owner(_largest(values.detach(), inside, where))
    # Outside, the exponent may be positive: it is masked before, lest infinity meet a zero gradient.
    lifted = torch.where(inside, torch.where(inside, shifted, 0).exp(), 0)
    return _divided(lifted, where).to(logits.dtype)


def weights_entropy(weights: Tensor, neighborhood: Neighborhood | Graph | None = None) -> Tensor:
    """Entropy of each pixel's weights, in nats (LAF Fig. 5.1, right).

    Parameters
    ----------
    weights
        (N, K, *spatial) on the simplex, or (N, 2 E + n) on a graph.
    neighborhood
        Offsets or a graph. Default: the full window with K entries.

    Returns
    -------
    Tensor
        (N, *spatial): log of the number of neighbours where the weights are uniform, 0 where one
        neighbour has them all.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        The shape fits no window.

    Examples
    --------
    >>> weights_entropy(uniform_weights((3,))).exp().round().tolist()
    [[2.0, 3.0, 2.0]]
    """
    check_floating("weights", weights)
    where = window_of(neighborhood, weights, max(1, weights.ndim - 2))
    inside = where.inside(tuple(weights.shape[2:]), weights.device)
    values = torch.where(inside, weights, 0)
    # As flowcut.flow.simplex.entropy: 0 log 0 = 0, with a derivative that stays finite.
    return -where.row_sums(values * values.clamp_min(torch.finfo(values.dtype).tiny).log())


def _window(
    spatial: tuple[int, ...],
    window: int,
    neighborhood: Neighborhood | Graph | None,
    device: torch.device | None,
) -> Window:
    if isinstance(neighborhood, Graph):
        if tuple(spatial) != (neighborhood.num_nodes,):
            raise ValueError(f"spatial: expected ({neighborhood.num_nodes},) on this graph, got {spatial}")
        return graph_window(neighborhood, device)
    grid = neighborhood or Neighborhood.window(len(spatial), window)
    if grid.ndim != len(spatial):
        raise ValueError(f"spatial: expected {grid.ndim} axes as in neighborhood, got {tuple(spatial)}")
    return Window(grid.offsets)


def _largest(values: Tensor, inside: Tensor, where: Window) -> Tensor:
    """(N, *spatial): the largest value among each pixel's own neighbours."""
    if where.pairs is None:
        return torch.where(inside, values, -torch.inf).amax(dim=1)
    lowest = values.new_full((values.shape[0], where.num_nodes), -torch.inf)
    return lowest.scatter_reduce(1, where.pairs[0].expand(values.shape[0], -1), values, "amax")


def _divided(values: Tensor, where: Window) -> Tensor:
    """Values >= 0 over their sum at each pixel; zero outside."""
    values = torch.where(where.inside(tuple(values.shape[2:]), values.device), values, 0)
    sums = where.row_sums(values)
    tiny = torch.finfo(values.dtype).tiny
    sums = guarded(sums, "weights: expected a weight > 0 at every pixel", low=tiny)
    return values / where.of_owner(sums)
