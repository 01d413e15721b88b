"""Dense twins, pixel by pixel and tie by tie, and the cases they are compared on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood, Offset

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 5e-2}
TYPES = list(TOLERANCE)


class Case(NamedTuple):
    spatial: tuple[int, ...]
    neighborhood: Neighborhood

    @property
    def flat(self) -> list[int]:
        return self.neighborhood.flat

    @property
    def pixels(self) -> int:
        return int(np.prod(self.spatial))

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.spatial))}-K{len(self.neighborhood)}"


_FAR = Neighborhood(((0, 3), (-2, 1), (5, 0), (1, -4)))
EDGE_CASES = [
    Case((9,), Neighborhood.edges(1)),
    Case((1,), Neighborhood.edges(1)),
    Case((1, 1), Neighborhood.edges(2)),
    Case((1, 6), Neighborhood.edges(2, 2)),
    Case((5, 1), Neighborhood.edges(2, 2)),
    Case((4, 5), Neighborhood.edges(2)),
    Case((5, 4), Neighborhood.edges(2, 2)),
    Case((4, 5), _FAR),
    Case((3, 2, 4), Neighborhood.edges(3)),
    Case((2, 4, 3), Neighborhood.edges(3, 2)),
    Case((3, 3, 2), Neighborhood.edges(3, 3)),
    Case((2, 3, 2, 3), Neighborhood.edges(4)),
    Case((2, 2, 3, 2), Neighborhood.edges(4, 3)),
]
WINDOW_CASES = [
    Case((8,), Neighborhood.window(1, 5)),
    Case((3,), Neighborhood.window(1, 9)),
    Case((1, 1), Neighborhood.window(2, 3)),
    Case((4, 5), Neighborhood.window(2, 3)),
    Case((3, 4), Neighborhood.window(2, 7)),
    Case((3, 2, 4), Neighborhood.window(3, 3)),
    Case((2, 3, 2, 2), Neighborhood.window(4, 3)),
    Case((4, 5), _FAR),
]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def positive(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return random(*shape, seed=seed).exp().to(dtype)


def ties(spatial: tuple[int, ...], offsets: tuple[Offset, ...]) -> Iterator[tuple[int, int, int]]:
    """(k, flat i, flat i + offset k) of every tie inside the picture."""
    pixels = list(itertools.product(*map(range, spatial)))
    number = {pixel: n for n, pixel in enumerate(pixels)}
    for k, offset in enumerate(offsets):
        for i in pixels:
            j = tuple(a + o for a, o in zip(i, offset, strict=True))
            if j in number:
                yield k, number[i], number[j]


def with_junk(value: Tensor, case: Case) -> Tensor:
    """NaN in every entry (..., K, *spatial) whose neighbour lies outside the picture."""
    return torch.where(case.neighborhood.inside(case.spatial), value, torch.nan)


def laplacian(edges: Tensor, leak: Tensor, case: Case) -> Tensor:
    """diag(leak) + L, (n, n) float64, of edges (K, *spatial) and leak (*spatial)."""
    w = edges.double().flatten(1)
    a = torch.diag(leak.double().flatten())
    for k, i, j in ties(case.spatial, case.neighborhood.offsets):
        a[i, i] += w[k, i]
        a[j, j] += w[k, i]
        a[i, j] -= w[k, i]
        a[j, i] -= w[k, i]
    return a


def laplacians(edges: Tensor, leak: Tensor, case: Case, channels: int) -> Tensor:
    """(N, C, n, n) of edges (N, G, K, *spatial) and leak (N or 1, 1 or C, *spatial)."""
    items = edges.shape[0]
    return torch.stack([
        torch.stack([
            laplacian(edges[n, c % edges.shape[1]], leak[n % leak.shape[0], c % leak.shape[1]], case)
            for c in range(channels)
        ])
        for n in range(items)
    ])  # fmt: skip


def window_matrix(weights: Tensor, case: Case) -> Tensor:
    """(n, n) float64 with row i = the window of pixel i, of weights (K, *spatial)."""
    w = weights.double().flatten(1)
    a = torch.zeros(case.pixels, case.pixels, dtype=torch.float64)
    for k, i, j in ties(case.spatial, case.neighborhood.offsets):
        a[i, j] += w[k, i]
    return a


def graph_laplacians(index: Tensor, edges: Tensor, leak: Tensor, channels: int) -> Tensor:
    """(N, C, n, n) of edges (N, G, E)."""
    out = torch.diag_embed(leak.double().expand(edges.shape[0], channels, -1)).clone()
    for e, (i, j) in enumerate(index.T.tolist()):
        w = edges[..., e].double().expand(-1, channels)
        out[..., i, i] += w
        out[..., j, j] += w
        out[..., i, j] -= w
        out[..., j, i] -= w
    return out


def apply(matrices: Tensor, x: Tensor) -> Tensor:
    """Matrix times picture, in double precision."""
    return torch.einsum("ncij,ncj->nci", matrices, x.double().flatten(2)).reshape(x.shape)


def scrambled(value: Tensor) -> Tensor:
    """The same values, neither contiguous nor in order in memory."""
    order = list(range(value.ndim))[::-1]
    wide = value.permute(order).repeat_interleave(2, dim=0).contiguous()
    return wide[::2].permute(order)


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal to rounding in ``dtype``, relative to the largest entry."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=TOLERANCE[dtype] * max(scale, 1.0)
    )
