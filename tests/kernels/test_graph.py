"""Products on a graph: Numba = reference = dense matrix."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import graph_reference as reference
from flowcut.kernels.graph import (
    graph_edge_gradient,
    graph_product,
    graph_window_gradient,
    graph_window_product,
)
from flowcut.kernels.grid import grid_product
from flowcut.kernels.grounded import grid_ties
from tests.kernels.dense import TYPES, apply, close, graph_laplacians, positive, random, scrambled

# A triangle, a pendant node, a tie given twice and a node without ties.
_INDEX = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 0, 2, 3, 1]])
_NODES, _TIES = 6, 6
_NUMBA = (graph_product, graph_edge_gradient, graph_window_product, graph_window_gradient)
_PLAIN = (
    reference.product_reference,
    reference.edge_gradient_reference,
    reference.window_product_reference,
    reference.window_gradient_reference,
)
_DOORS = pytest.mark.parametrize("door", [_NUMBA, _PLAIN], ids=["numba", "reference"])


@_DOORS
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("leak", [(1, 1), (2, 3)])
def test_product_is_the_dense_matrix(door, dtype: torch.dtype, groups: int, leak: tuple[int, int]) -> None:
    edges, d = positive(2, groups, _TIES, dtype=dtype), positive(*leak, _NODES, seed=1, dtype=dtype)
    x = random(2, 3, _NODES, seed=2, dtype=dtype)
    y = door[0](_INDEX, edges, d, x)
    assert y.dtype == dtype
    close(y, apply(graph_laplacians(_INDEX, edges, d, 3), x), dtype)


@_DOORS
def test_inputs_may_lie_anywhere_in_memory(door) -> None:
    edges, weights, d = positive(2, 3, _TIES), positive(2, _TIES), positive(2, 3, _NODES, seed=1)
    x, u = (random(2, 3, _NODES, seed=s) for s in (2, 3))
    for function, inputs in (
        (lambda i, *t: door[0](i, *t), (edges, d, x)),
        (lambda i, *t: door[1](i, *t, 3), (u, x)),
        (lambda i, *t: door[1](i, *t, 1), (u, x)),
        (lambda i, *t: door[2](i, *t), (weights, x)),
        (lambda i, *t: door[3](i, *t), (u, x)),
    ):
        y = function(scrambled(_INDEX), *map(scrambled, inputs))
        assert y.is_contiguous()
        close(y, function(_INDEX, *inputs), torch.float64)


@_DOORS
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_edge_gradient_tie_by_tie(door, groups: int, dtype: torch.dtype) -> None:
    u, v = (random(2, 3, _NODES, seed=s, dtype=dtype) for s in (3, 4))
    g = door[1](_INDEX, u, v, groups)
    assert g.shape == (2, groups, _TIES)
    assert g.dtype == dtype
    i, j = _INDEX
    each = (u[..., i].double() - u[..., j].double()) * (v[..., i].double() - v[..., j].double())
    close(g, each.sum(dim=1, keepdim=True) if groups == 1 else each, dtype)


@_DOORS
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_window_product_transpose_and_gradient(door, dtype: torch.dtype) -> None:
    weights, index = positive(2, _TIES, dtype=dtype), _INDEX
    x, u = (random(2, 3, _NODES, seed=s, dtype=dtype) for s in (3, 4))
    dense = torch.zeros(2, 3, _NODES, _NODES, dtype=torch.float64)
    for e, (i, j) in enumerate(index.T.tolist()):
        dense[:, :, i, j] += weights[:, e, None].double()
    close(door[2](index, weights, x), apply(dense, x), dtype)
    close(door[2](index.flip(0), weights, u), apply(dense.mT, u), dtype)
    form = torch.einsum("nci,ncij,ncj->n", u.double(), dense, x.double())
    g = door[3](index, u, x)
    assert g.dtype == dtype
    close((g.double() * weights.double()).sum(dim=1), form, dtype)
    close(g, (u.double()[..., index[0]] * x.double()[..., index[1]]).sum(dim=1), dtype)


def test_gradients_agree_with_autograd_through_the_reference() -> None:
    edges, leak = positive(2, 1, _TIES).requires_grad_(), positive(1, 1, _NODES)
    u, v = (random(2, 3, _NODES, seed=s) for s in (3, 4))
    form = (u * reference.product_reference(_INDEX, edges, leak, v)).sum()
    close(graph_edge_gradient(_INDEX, u, v, 1), torch.autograd.grad(form, edges)[0], torch.float64)
    weights = positive(2, _TIES).requires_grad_()
    form = (u * reference.window_product_reference(_INDEX, weights, v)).sum()
    close(graph_window_gradient(_INDEX, u, v), torch.autograd.grad(form, weights)[0], torch.float64)


@_DOORS
def test_symmetric(door) -> None:
    edges, leak = positive(2, 3, _TIES), positive(1, 1, _NODES)
    x, y = (random(2, 3, _NODES, seed=s) for s in (3, 4))
    left, right = (door[0](_INDEX, edges, leak, x) * y).sum(), (door[0](_INDEX, edges, leak, y) * x).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@_DOORS
def test_a_grid_is_a_graph(door) -> None:
    neighborhood, spatial = Neighborhood.edges(2, 2), (5, 4)
    i, j, place = grid_ties(spatial, neighborhood.offsets)
    edges, leak = positive(2, 1, 4, *spatial), positive(1, 1, *spatial)
    x = random(2, 3, *spatial)
    y = door[0](torch.stack([i, j]), edges.flatten(2)[..., place], leak.flatten(2), x.flatten(2))
    close(y, grid_product(edges, leak, x, neighborhood.flat).flatten(2), torch.float64)


@_DOORS
def test_nothing_to_do(door) -> None:
    no_ties = torch.zeros(2, 0, dtype=torch.int64)
    x, leak = random(2, 3, 4), positive(1, 1, 4)
    assert torch.equal(door[0](no_ties, torch.zeros(2, 1, 0).double(), leak, x), leak * x)
    assert door[1](no_ties, x, x, 1).shape == (2, 1, 0)
    assert not door[2](no_ties, torch.zeros(2, 0).double(), x).any()
    assert door[3](no_ties, x, x).shape == (2, 0)
    empty = torch.zeros(0, 3, _NODES)
    assert (
        door[0](_INDEX, torch.zeros(0, 1, _TIES), leak.new_ones(1, 1, _NODES).float(), empty).shape
        == empty.shape
    )
    assert door[1](_INDEX, empty, empty, 3).shape == (0, 3, _TIES)
    assert door[3](_INDEX, empty, empty).shape == (0, _TIES)
