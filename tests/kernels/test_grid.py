"""Products with a grid's Laplacian: Numba = reference = dense matrix, and its derivatives."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.grid import grid_edge_gradient, grid_product
from flowcut.kernels.grid_reference import edge_gradient_reference, product_reference
from tests.kernels.dense import (
    EDGE_CASES,
    TYPES,
    Case,
    apply,
    close,
    laplacians,
    positive,
    random,
    scrambled,
    with_junk,
)

_PRODUCTS = pytest.mark.parametrize("product", [grid_product, product_reference], ids=["numba", "reference"])
_GRADIENTS = pytest.mark.parametrize(
    "gradient", [grid_edge_gradient, edge_gradient_reference], ids=["numba", "reference"]
)
_CASES = pytest.mark.parametrize("case", EDGE_CASES, ids=str)


def _system(case: Case, groups: int, leak: tuple[int, int], dtype: torch.dtype, items: int = 2):
    edges = with_junk(positive(items, groups, len(case.neighborhood), *case.spatial, dtype=dtype), case)
    return edges, positive(*leak, *case.spatial, seed=1, dtype=dtype)


@_PRODUCTS
@_CASES
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_product_is_the_dense_matrix(product, case: Case, dtype: torch.dtype, groups: int) -> None:
    edges, leak = _system(case, groups, (2, groups), dtype)
    x = random(2, 3, *case.spatial, seed=2, dtype=dtype)
    y = product(edges, leak, x, case.flat)
    assert y.dtype == dtype
    assert y.shape == x.shape
    close(y, apply(laplacians(edges, leak, case, 3), x), dtype)


@_PRODUCTS
@pytest.mark.parametrize("leak", [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("groups", [1, 3])
def test_leak_and_edges_are_shared_independently(product, leak: tuple[int, int], groups: int) -> None:
    case = EDGE_CASES[6]
    edges, d = _system(case, groups, leak, torch.float64)
    x = random(2, 3, *case.spatial, seed=2)
    close(product(edges, d, x, case.flat), apply(laplacians(edges, d, case, 3), x), torch.float64)


@_PRODUCTS
def test_types_promote_and_the_answer_has_the_type_of_x(product) -> None:
    case = EDGE_CASES[5]
    edges, leak = _system(case, 1, (1, 1), torch.float64)
    x = random(2, 3, *case.spatial, dtype=torch.float32)
    y = product(edges, leak, x, case.flat)
    assert y.dtype == torch.float32
    close(y, apply(laplacians(edges, leak, case, 3), x), torch.float32)
    y = product(edges.bfloat16(), leak.float(), x.double(), case.flat)
    close(y, apply(laplacians(edges.bfloat16(), leak.float(), case, 3), x), torch.float64)


@_PRODUCTS
@_CASES
def test_inputs_may_lie_anywhere_in_memory(product, case: Case) -> None:
    edges, leak = _system(case, 3, (2, 3), torch.float64)
    x = random(2, 3, *case.spatial, seed=2)
    expected = product(edges, leak, x, case.flat)
    y = product(scrambled(edges), scrambled(leak), scrambled(x), case.flat)
    assert y.is_contiguous()
    close(y, expected, torch.float64)


def test_half_precision_is_summed_in_single() -> None:
    # 64 ties of one pixel: in bfloat16 the sum would stop growing at 256 steps of its last place.
    case = Case((65,), Neighborhood(tuple((k,) for k in range(1, 65))))
    edges = torch.zeros(1, 1, 64, 65, dtype=torch.bfloat16)
    edges[..., 0] = 1.0
    x = torch.zeros(1, 1, 65, dtype=torch.bfloat16)
    x[..., 0] = 1.01
    for product in (grid_product, product_reference):
        y = product(edges, torch.zeros(1, 1, 65, dtype=torch.bfloat16), x, case.flat)
        assert float(y[0, 0, 0]) == float(torch.tensor(64 * float(x[0, 0, 0])).bfloat16())


@_PRODUCTS
@_CASES
def test_symmetric_with_constants_mapped_to_the_leak(product, case: Case) -> None:
    edges, leak = _system(case, 3, (1, 3), torch.float64)
    x, y = (random(2, 3, *case.spatial, seed=s) for s in (2, 3))
    left, right = (
        (product(edges, leak, x, case.flat) * y).sum(),
        (x * product(edges, leak, y, case.flat)).sum(),
    )
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    ones = torch.ones(2, 3, *case.spatial, dtype=torch.float64)
    assert torch.equal(product(edges, leak, ones, case.flat), leak.expand(2, -1, *case.spatial))


@_PRODUCTS
@_GRADIENTS
def test_empty_batches_channels_and_pictures(product, gradient) -> None:
    flat = Neighborhood.edges(2).flat
    for items, channels, spatial in ((0, 2, (3, 4)), (2, 0, (3, 4)), (2, 2, (0, 4)), (2, 2, (3, 0))):
        x = torch.ones(items, channels, *spatial)
        y = product(torch.ones(items, 1, 2, *spatial), torch.ones(1, 1, *spatial), x, flat)
        assert y.shape == x.shape
        g = gradient(x, x, flat, 1)
        assert g.shape == (items, 1, 2, *spatial)
        assert not g.any()


@_GRADIENTS
@_CASES
@pytest.mark.parametrize("groups", [1, 3])
def test_edge_gradient_is_the_derivative_of_the_form(gradient, case: Case, groups: int) -> None:
    u, v = (random(2, 3, *case.spatial, seed=s) for s in (4, 5))
    g = gradient(u, v, case.flat, groups)
    # u^T A v is linear in the edges: its change along any direction is its value there.
    for seed in (6, 7):
        direction = random(2, groups, len(case.neighborhood), *case.spatial, seed=seed)
        a = laplacians(direction, torch.zeros(1, 1, *case.spatial), case, 3)
        form = (u * apply(a, v)).flatten(1 if groups == 1 else 2).sum(dim=-1)
        along = (g * direction).flatten(1 if groups == 1 else 2).sum(dim=-1)
        torch.testing.assert_close(along, form, rtol=1e-11, atol=1e-11)


@_CASES
@pytest.mark.parametrize("groups", [1, 3])
def test_edge_gradient_agrees_with_autograd_through_the_reference(case: Case, groups: int) -> None:
    edges = positive(2, groups, len(case.neighborhood), *case.spatial).requires_grad_()
    u, v = (random(2, 3, *case.spatial, seed=s) for s in (4, 5))
    form = (u * product_reference(edges, positive(1, 1, *case.spatial), v, case.flat)).sum()
    (expected,) = torch.autograd.grad(form, edges)
    close(grid_edge_gradient(u, v, case.flat, groups), expected, torch.float64)


@_GRADIENTS
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
def test_edge_gradient_in_every_type_from_anywhere_in_memory(
    gradient, dtype: torch.dtype, groups: int
) -> None:
    case = EDGE_CASES[9]
    u, v = (random(2, 3, *case.spatial, seed=s, dtype=dtype) for s in (4, 5))
    expected = edge_gradient_reference(u.double(), v.double(), case.flat, groups)
    g = gradient(scrambled(u), scrambled(v), case.flat, groups)
    assert g.dtype == dtype
    assert g.is_contiguous()
    close(g, expected, dtype)
    assert not g[..., ~case.neighborhood.inside(case.spatial)].any()


@pytest.mark.parametrize("spatial", [(257, 255), (40, 33, 31), (70001,)])
def test_large_pictures_are_worked_on_in_pieces(spatial: tuple[int, ...]) -> None:
    neighborhood = Neighborhood.edges(len(spatial), len(spatial))
    edges = positive(2, 1, len(neighborhood), *spatial, dtype=torch.float32)
    leak = positive(1, 1, *spatial, dtype=torch.float32)
    x = random(2, 2, *spatial, dtype=torch.float32)
    flat = neighborhood.flat
    close(grid_product(edges, leak, x, flat), product_reference(edges, leak, x, flat), torch.float32)
    close(grid_edge_gradient(x, x + 1, flat, 1), edge_gradient_reference(x, x + 1, flat, 1), torch.float32)
