"""Total variation; its twin is a quadratic program for SciPy.

Nothing is left out: the layer is piecewise linear and random inputs lie inside a piece, so first derivatives
equal finite differences there, and second derivatives are zero on both sides. What happens where pieces meet
is in tests/cut/test_total_variation_gradient.py.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.total_variation import TotalVariation, total_variation
from tests.zoo.entry import Inputs, Layer, generator


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Two labels that share the edges."""
    g = generator(items, spatial)
    scores = torch.randn(items, 2, *spatial, generator=g, dtype=torch.float64)
    edges = 0.6 * torch.rand(items, len(spatial), *spatial, generator=g, dtype=torch.float64)
    return scores.to(dtype), edges.to(dtype)


def incidence(where: Neighborhood, spatial: tuple[int, ...]) -> tuple[NDArray[np.float64], Tensor]:
    """D (E, n) with (D z)_e = z_i - z_j, and which entries of (K, *spatial) these ties are."""
    pixels = list(np.ndindex(*spatial))
    inside, rows = torch.zeros((len(where), *spatial), dtype=torch.bool), []
    for k, offset in enumerate(where.offsets):
        for i, here in enumerate(pixels):
            there = tuple(a + b for a, b in zip(here, offset, strict=True))
            if there in pixels:
                row = np.zeros(len(pixels))
                row[i], row[pixels.index(there)] = 1, -1
                rows.append(row)
                inside[(k, *here)] = True
    return np.array(rows).reshape(-1, len(pixels)), inside


def minimise(x: NDArray[np.float64], d: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """x - D^T f for the f that minimises ||x - D^T f|| over |f| <= w, by an active-set method."""
    tied = w > 0
    if not tied.any():
        return x
    found = lsq_linear(d[tied].T, x, (-w[tied], w[tied]), method="bvls", tol=1e-15, max_iter=10_000)
    return np.asarray(x - d[tied].T @ found.x)


def solve(x: Tensor, w: Tensor, d: NDArray[np.float64]) -> Tensor:
    """z of (n,) scores and (E,) weights, as a differentiable formula in them.

    The program tells which pixels are equal and which ties run down. In a block B of equal values,
    |B| z = sum x - sum of w over ties down out of it + sum of w over ties down into it.
    """
    z = minimise(x.detach().numpy(), d, w.detach().numpy())
    steps = torch.from_numpy(np.where(np.abs(d @ z) > 1e-9 * (1 + np.abs(z).max()), np.sign(d @ z), 0))
    names = np.arange(len(z))
    level = (steps == 0).numpy() & (w.detach().numpy() > 0)
    for _ in range(len(z)):
        for row in d[level]:
            ends = np.flatnonzero(row)
            names[ends] = names[ends].min()
    same = torch.from_numpy((names[:, None] == names[None]).astype(np.float64))
    return same @ (x - torch.from_numpy(d).T @ (steps * w)) / same.sum(dim=1)


def twin(scores: Tensor, edges: Tensor) -> Tensor:
    spatial = tuple(scores.shape[2:])
    d, inside = incidence(Neighborhood.edges(len(spatial)), spatial)
    rows = [
        torch.stack([solve(x.flatten(), w[inside], d).reshape(spatial) for x in item])
        for item, w in zip(scores, edges, strict=True)
    ]
    return torch.stack(rows)


def with_edge(value: float) -> Inputs:
    scores, edges = make(1, (3, 4), torch.float64)
    edges[0, 1, 1, 1] = value
    return scores, edges


entry = Layer(
    name="total_variation",
    call=total_variation,
    module=TotalVariation,
    make=make,
    twin=twin,
    spatial=((3, 4), (7,), (1, 1), (6, 1), (2, 3, 3), (2, 2, 2, 3)),
    singular=(
        (lambda: with_edge(-1), r"edges: .*got -1 at index \(0, 1, 1, 1\)"),
        (lambda: with_edge(float("inf")), "edges: .*got inf"),
        (lambda: with_edge(float("nan")), "edges: .*got nan"),
    ),
)
