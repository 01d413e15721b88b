"""A x = b in the form every solver takes, for grids and graphs alike."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Offset, source_slices
from flowcut.kernels.cg import check_graph, check_grid, graph_cg, grid_cg, incident
from flowcut.kernels.graph import graph_edge_gradient, graph_product
from flowcut.kernels.grid import grid_edge_gradient, grid_product
from flowcut.kernels.grounded import grid_ties
from flowcut.kernels.residual import graph_residual, grid_residual

Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class System(NamedTuple):
    """A = diag(leak) + L: the Laplacian of the ties plus what each pixel loses to the ground.

    Attributes
    ----------
    edges
        (N, G, K, *spatial), or (N, G, E) on a graph; G = 1 or C.
    leak
        (N or 1, 1 or C, *spatial), > 0 somewhere in every connected piece.
    edge_index
        None on a grid; edge_index (2, E) on a graph.
    offsets
        K offsets on a grid; () on a graph.
    """

    edges: Tensor
    leak: Tensor
    edge_index: Tensor | None
    offsets: tuple[Offset, ...]

    @property
    def flat(self) -> list[int]:
        """The offsets as operations take them."""
        return [o for offset in self.offsets for o in offset]

    def detach(self) -> System:
        """The same values, outside of autograd."""
        return System(self.edges.detach(), self.leak.detach(), self.edge_index, self.offsets)

    def double(self) -> System:
        """The same system in double precision."""
        return System(self.edges.double(), self.leak.double(), self.edge_index, self.offsets)

    def cpu(self) -> System:
        """The same system in the memory of the CPU."""
        index = None if self.edge_index is None else self.edge_index.cpu()
        return System(self.edges.cpu(), self.leak.cpu(), index, self.offsets)

    def product(self, x: Tensor) -> Tensor:
        """A x."""
        if self.edge_index is not None:
            return graph_product(self.edge_index, self.edges, self.leak, x)
        return grid_product(self.edges, self.leak, x, self.flat)

    def edge_gradient(self, u: Tensor, v: Tensor, groups: int) -> Tensor:
        """d(u^T A v) / d edges, (N, groups, ...)."""
        if self.edge_index is not None:
            return graph_edge_gradient(self.edge_index, u, v, groups)
        return grid_edge_gradient(u, v, self.flat, groups)

    def residual(self, rhs: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rhs - A x in double precision, its relative norm and the error bound it certifies."""
        if self.edge_index is not None:
            return graph_residual(self.edge_index, self.edges, self.leak, rhs, x)
        return grid_residual(self.edges, self.leak, rhs, x, self.flat)

    def incident(self) -> Tensor:
        """Sum of the ties of each pixel, (N, G, *spatial)."""
        if self.edge_index is None:
            return incident(self.edges, self.offsets)
        ends = self.edges.new_zeros((*self.edges.shape[:2], self.leak.shape[-1]))
        for end in self.edge_index:
            ends = ends.index_add(-1, end, self.edges)
        return ends

    def mean_incident(self) -> Tensor:
        """Mean over the pixels of the sum of their ties, (N, G)."""
        if self.edge_index is not None:
            return 2 * self.edges.sum(dim=2) / self.leak.shape[2]
        spatial = tuple(self.leak.shape[2:])
        total = self.edges.new_zeros(self.edges.shape[:2])
        for k, offset in enumerate(self.offsets):
            here: tuple[Any, ...] = (..., *source_slices(offset, spatial))
            total = total + self.edges[:, :, k][here].flatten(2).sum(dim=2)
        return 2 * total / math.prod(spatial)

    def rounding_level(self, rhs: Tensor, x: Tensor) -> Tensor:
        """Relative residual (N, C) that rounding the exact x to double can leave."""
        products = 2 * (self.leak + self.incident()).double() * x
        scale = rhs.double().flatten(2).norm(dim=2)
        level = 4 * torch.finfo(torch.float64).eps * products.flatten(2).norm(dim=2) / scale
        return torch.where(scale > 0, level, 0)

    def cg(self, rhs: Tensor, rtol: float, max_steps: int, check: str, on_failure: str) -> Solved:
        """Conjugate gradients, the whole loop one operation."""
        if self.edge_index is not None:
            return graph_cg(self.edge_index, self.edges, self.leak, rhs, rtol, max_steps, check, on_failure)
        return grid_cg(self.edges, self.leak, rhs, self.flat, rtol, max_steps, check, on_failure)

    def check(self, name: str) -> None:
        """Refuse bad values of edges and leak; "" skips."""
        if self.edge_index is not None:
            check_graph(self.edge_index, self.edges, self.leak, None, name)
        else:
            check_grid(self.edges, self.leak, None, self.flat, name)

    def ties(self) -> tuple[Tensor, Tensor, Tensor]:
        """Both ends (E,) of every tie inside the picture and its weights (N, G, E)."""
        if self.edge_index is not None:
            return self.edge_index[0], self.edge_index[1], self.edges
        i, j, place = grid_ties(tuple(self.leak.shape[2:]), self.offsets)
        return i, j, self.edges.flatten(2)[..., place.to(self.edges.device)]

    def to_dense(self) -> Tensor:
        """A as (N, P, n, n) with P = max(G, channels of leak): for tests and small pictures."""
        i, j, w = self.ties()
        d = self.leak.flatten(2)
        n, channels = max(w.shape[0], d.shape[0]), max(w.shape[1], d.shape[1])
        w = w.expand(n, channels, -1)
        dense = torch.diag_embed(d.expand(n, channels, -1))
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            dense = dense.index_put((*_every(n, channels, w.device), a, b), sign * w, accumulate=True)
        return dense


def _every(n: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    items = torch.arange(n, device=device)[:, None, None]
    return items, torch.arange(channels, device=device)[None, :, None]
