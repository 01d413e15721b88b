"""Who averages whom: windows on grids and neighbours on graphs, seen as one sparse matrix Omega."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood, Offset
from flowcut.kernels.graph import graph_window_gradient, graph_window_product
from flowcut.kernels.likelihood import SLACK, graph_likelihood, grid_likelihood
from flowcut.kernels.window import window_product, window_product_transpose, window_weight_gradient


class Window(NamedTuple):
    """Where the non-zero entries of Omega (LAF (2.5)) stand.

    On a grid, weights are (N, K, *spatial) and entry [n, k, i] is omega_{i, i + offset k}. On a
    :class:`Graph` of E ties and n nodes they are (N, 2 E + n): first the ties as they stand in
    ``edge_index`` (its first row averages its second), then the same ties in the other direction, then
    every node with itself.

    Attributes
    ----------
    offsets
        K offsets on a grid; () on a graph.
    pairs
        None on a grid; (2, 2 E + n) int64 on a graph: who averages, who is averaged.
    num_nodes
        n on a graph, 0 on a grid.
    """

    offsets: tuple[Offset, ...]
    pairs: Tensor | None = None
    num_nodes: int = 0

    @property
    def flat(self) -> list[int]:
        """The offsets as operations take them."""
        return [o for offset in self.offsets for o in offset]

    @property
    def ndim(self) -> int:
        """Number of spatial axes; 1 on a graph."""
        return 1 if self.pairs is not None else len(self.offsets[0])

    @property
    def size(self) -> int:
        """Number K of weights of a pixel on a grid, or of all weights on a graph."""
        return len(self.offsets) if self.pairs is None else int(self.pairs.shape[1])

    def product(self, weights: Tensor, x: Tensor) -> Tensor:
        """(Omega x)_i = sum_k omega_ik x_k, for every channel."""
        if self.pairs is not None:
            return graph_window_product(self.pairs, weights, x)
        return window_product(weights, x, self.flat)

    def transpose(self, weights: Tensor, u: Tensor) -> Tensor:
        """Omega^T u."""
        if self.pairs is not None:
            return graph_window_product(self.pairs.flip(0), weights, u)
        return window_product_transpose(weights, u, self.flat)

    def gradient(self, u: Tensor, v: Tensor) -> Tensor:
        """d(u^T Omega v) / d Omega = <u_i, v_k>, summed over the channels, shaped like weights."""
        if self.pairs is not None:
            return graph_window_gradient(self.pairs, u, v)
        return window_weight_gradient(u, v, self.flat)

    def likelihood(self, distances: Tensor, weights: Tensor, rho: float) -> Tensor:
        """-D / rho, after the values of distances and weights have been checked."""
        slack = SLACK[weights.dtype]
        if self.pairs is not None:
            return graph_likelihood(distances, weights, self.pairs, rho, slack)
        return grid_likelihood(distances, weights, self.flat, rho, slack)

    def weights_shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the weights of one item."""
        return (self.size,) if self.pairs is not None else (self.size, *spatial)

    def inside(self, spatial: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Which weights have a neighbour: bool, of :meth:`weights_shape`."""
        if self.pairs is not None:
            return torch.ones(self.size, dtype=torch.bool, device=device)
        return Neighborhood(self.offsets).inside(spatial, device)

    def row_sums(self, weights: Tensor) -> Tensor:
        """(N, *spatial): sum over each pixel's own weights that have a neighbour."""
        if self.pairs is not None:
            return weights.new_zeros(weights.shape[0], self.num_nodes).index_add(1, self.pairs[0], weights)
        inside = self.inside(tuple(weights.shape[2:]), weights.device)
        return torch.where(inside, weights, 0).sum(dim=1)

    def of_owner(self, values: Tensor) -> Tensor:
        """(N, *spatial) read once for every weight of each pixel, shaped like weights (or broadcasting)."""
        return values[:, self.pairs[0]] if self.pairs is not None else values.unsqueeze(1)


def window_of(neighborhood: Neighborhood | Graph | None, weights: Tensor, ndim: int) -> Window:
    """The window that weights of this shape belong to.

    Parameters
    ----------
    neighborhood
        Offsets, or a graph. None: the full window of ``ndim`` axes that has as many entries as
        ``weights`` has channels.
    weights
        (N, K, *spatial), or (N, 2 E + n) on a graph.
    ndim
        Number of spatial axes of the data, 1 on a graph.

    Raises
    ------
    ValueError
        The shape fits no window.
    """
    if isinstance(neighborhood, Graph):
        window = graph_window(neighborhood, weights.device)
        if weights.ndim != 2 or weights.shape[1] != window.size:
            raise ValueError(
                f"weights: expected shape (N, {window.size}) on this graph (both directions of its ties, "
                f"then the nodes themselves), got {tuple(weights.shape)}"
            )
        return window
    if weights.ndim != ndim + 2:
        raise ValueError(f"weights: expected shape (N, K, {ndim} spatial axes), got {tuple(weights.shape)}")
    count = weights.shape[1]
    if neighborhood is None:
        side = round(count ** (1 / ndim)) if count else 0
        if side % 2 == 0 or side**ndim != count:
            raise ValueError(
                f"weights: expected K = size**{ndim} channels of an odd window, got {count}; "
                f"pass neighborhood= for other offsets"
            )
        neighborhood = Neighborhood.window(ndim, side)
    if neighborhood.ndim != ndim or len(neighborhood) != count:
        raise ValueError(
            f"weights: expected {len(neighborhood)} channels and {neighborhood.ndim} spatial axes as in "
            f"neighborhood, got {tuple(weights.shape)}"
        )
    return Window(neighborhood.offsets)


def graph_window(graph: Graph, device: torch.device | None = None) -> Window:
    """Both directions of the ties of a graph, and every node with itself.

    Examples
    --------
    >>> graph_window(Graph(torch.tensor([[0], [1]]), 3)).pairs.tolist()
    [[0, 1, 0, 1, 2], [1, 0, 0, 1, 2]]
    """
    ties, nodes = graph.edge_index, torch.arange(graph.num_nodes, device=graph.edge_index.device)
    index = torch.cat([ties, ties.flip(0), nodes.expand(2, -1)], dim=1)
    return Window((), index.to(device) if device is not None else index, graph.num_nodes)
