"""Windows on grids and graphs as one dense matrix; what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.adjoint import Differentiable, average, average_transpose, correlate
from flowcut.flow.window import Window, graph_window, window_of
from tests.truths.flows import dense_omega, window_offsets

GRAPH = Graph(torch.tensor([[0, 1, 0, 3], [1, 2, 2, 0]]), 5)  # node 4 has no ties
_GRIDS = [
    ((7,), 3),
    ((7,), 9),
    ((1,), 3),
    ((1, 1), 3),
    ((3, 4), 3),
    ((3, 4), 7),
    ((2, 3, 2), 3),
    ((2, 2, 1, 3), 3),
]


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _grid(spatial: tuple[int, ...], size: int) -> tuple[Window, Tensor, Tensor, tuple[int, ...]]:
    """A window, its weights, the matrix of each item, and the shape of a picture."""
    offsets = window_offsets(len(spatial), size)
    weights = _random(2, len(offsets), *spatial).exp()
    window = window_of(None, weights, len(spatial))
    assert window.offsets == offsets
    return window, weights, torch.stack([dense_omega(w, offsets) for w in weights]), spatial


def _graph() -> tuple[Window, Tensor, Tensor, tuple[int, ...]]:
    ties, n = GRAPH.edge_index.T.tolist(), GRAPH.num_nodes
    weights = _random(2, 2 * len(ties) + n).exp()
    matrix = torch.zeros(2, n, n, dtype=torch.float64)
    pairs = [*ties, *(tie[::-1] for tie in ties), *([i, i] for i in range(n))]
    for e, (i, k) in enumerate(pairs):
        matrix[:, i, k] += weights[:, e]
    return window_of(GRAPH, weights, 1), weights, matrix, (n,)


_SPACES = [*(lambda g=g: _grid(*g) for g in _GRIDS), _graph]
_WINDOWS = pytest.mark.parametrize("make", _SPACES, ids=[*map(str, _GRIDS), "graph"])


@_WINDOWS
@pytest.mark.parametrize("differentiable", [False, True])
def test_products_are_those_of_the_matrix(make, differentiable: bool) -> None:
    window, weights, omega, spatial = make()
    products = Differentiable(window) if differentiable else window
    x = _random(2, 3, *spatial, seed=1)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(
        products.product(weights, x), (x.flatten(2) @ omega.mT).reshape(x.shape), **close
    )
    torch.testing.assert_close(
        products.transpose(weights, x), (x.flatten(2) @ omega).reshape(x.shape), **close
    )


@_WINDOWS
@pytest.mark.parametrize("differentiable", [False, True])
def test_the_gradient_has_the_entries_of_the_outer_product(make, differentiable: bool) -> None:
    window, weights, omega, spatial = make()
    products = Differentiable(window) if differentiable else window
    u, v = (_random(2, 3, *spatial, seed=s) for s in (1, 2))
    gradient = products.gradient(u, v)
    assert gradient.shape == weights.shape
    inside = window.inside(spatial)
    assert inside.shape == window.weights_shape(spatial)
    assert not gradient[:, ~inside].any()
    # <gradient, w> = <u, Omega(w) v> for every w decides the gradient.
    outer = (u.flatten(2).mT @ v.flatten(2) * omega).sum(dim=(1, 2))
    torch.testing.assert_close((gradient * weights).flatten(1).sum(1), outer, rtol=1e-11, atol=1e-11)


@_WINDOWS
def test_sums_and_owners(make) -> None:
    window, weights, omega, spatial = make()
    sums = window.row_sums(weights)
    torch.testing.assert_close(sums.flatten(1), omega.sum(dim=2))
    shared = torch.where(window.inside(spatial), weights / window.of_owner(sums), 0)
    torch.testing.assert_close(window.row_sums(shared), torch.ones_like(sums))
    assert window.size == weights.shape[1]
    assert window.ndim == len(spatial)


@pytest.mark.parametrize("make", [lambda: _grid((2, 2), 3), _graph], ids=["grid", "graph"])
def test_products_have_derivatives_of_any_order(make) -> None:
    window, weights, _, spatial = make()
    w = weights.requires_grad_()
    x, u = (_random(2, 2, *spatial, seed=s).requires_grad_() for s in (1, 2))
    for function, inputs in ((average, (w, x)), (average_transpose, (w, x)), (correlate, (x, u))):
        assert torch.autograd.gradcheck(lambda *t, f=function: f(window, *t), inputs)
        assert torch.autograd.gradgradcheck(lambda *t, f=function: f(window, *t), inputs)


def test_the_weights_of_a_graph_are_its_ties_both_ways_and_its_nodes() -> None:
    window = graph_window(GRAPH)
    assert window.pairs is not None
    assert window.pairs.T.tolist() == [
        [0, 1], [1, 2], [0, 2], [3, 0], [1, 0], [2, 1], [2, 0], [0, 3], *([i, i] for i in range(5)),
    ]  # fmt: skip
    alone = graph_window(Graph(torch.zeros(2, 0, dtype=torch.int64), 3))
    assert alone.pairs is not None
    assert alone.pairs.tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("neighborhood", "shape", "ndim", "message"),
    [
        (
            None,
            (1, 8, 4, 4),
            2,
            r"weights: expected K = size\*\*2 channels of an odd window, got 8; pass neigh",
        ),
        (None, (1, 16, 4, 4), 2, r"weights: expected K = size\*\*2 channels of an odd window, got 16"),
        (None, (1, 0, 4, 4), 2, r"weights: expected K = size\*\*2 channels of an odd window, got 0"),
        (
            None,
            (1, 9, 4, 4),
            3,
            r"weights: expected shape \(N, K, 3 spatial axes\)",
        ),
        (None, (1, 9, 4), 2, r"weights: expected shape \(N, K, 2 spatial axes\), got \(1, 9, 4\)"),
        (Neighborhood.window(2, 3), (1, 25, 4, 4), 2, "weights: expected 9 channels and 2 spatial axes"),
        (Neighborhood.window(3, 3), (1, 27, 4, 4), 2, "weights: expected 27 channels and 3 spatial axes"),
        (GRAPH, (1, 12), 1, r"weights: expected shape \(N, 13\) on this graph .*, got \(1, 12\)"),
        (GRAPH, (1, 13, 5), 1, r"weights: expected shape \(N, 13\) on this graph .*, got \(1, 13, 5\)"),
    ],
)
def test_shapes_that_fit_no_window(neighborhood, shape, ndim: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        window_of(neighborhood, torch.ones(shape), ndim)
