"""Window products: Numba = reference = dense matrix; transposes and gradients belong to it."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.window import window_product, window_product_transpose, window_weight_gradient
from flowcut.kernels.window_reference import gradient_reference, product_reference, transpose_reference
from tests.kernels.dense import (
    TYPES,
    WINDOW_CASES,
    Case,
    apply,
    close,
    positive,
    random,
    scrambled,
    ties,
    window_matrix,
    with_junk,
)

_CASES = pytest.mark.parametrize("case", WINDOW_CASES, ids=str)
_DOORS = pytest.mark.parametrize(
    "door",
    [
        (window_product, window_product_transpose, window_weight_gradient),
        (product_reference, transpose_reference, gradient_reference),
    ],
    ids=["numba", "reference"],
)


def _weights(case: Case, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return with_junk(positive(2, len(case.neighborhood), *case.spatial, dtype=dtype), case)


def _matrices(weights: torch.Tensor, case: Case, channels: int = 3) -> torch.Tensor:
    dense = torch.stack([window_matrix(w, case) for w in weights])
    return dense[:, None].expand(-1, channels, -1, -1)


@_DOORS
@_CASES
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_products_are_the_dense_matrix_and_its_transpose(door, case: Case, dtype: torch.dtype) -> None:
    product, transpose, _ = door
    weights, x = _weights(case, dtype), random(2, 3, *case.spatial, dtype=dtype)
    dense = _matrices(weights, case)
    for function, matrix in ((product, dense), (transpose, dense.mT)):
        y = function(weights, x, case.flat)
        assert y.dtype == dtype
        assert y.shape == x.shape
        close(y, apply(matrix, x), dtype)


@_DOORS
@_CASES
def test_adjoint_identities(door, case: Case) -> None:
    product, transpose, gradient = door
    weights = _weights(case)
    x, u = (random(2, 3, *case.spatial, seed=s) for s in (1, 2))
    form = (product(weights, x, case.flat) * u).sum()
    torch.testing.assert_close(form, (x * transpose(weights, u, case.flat)).sum(), rtol=1e-12, atol=1e-12)
    inside = case.neighborhood.inside(case.spatial)
    linear = torch.where(inside, gradient(u, x, case.flat) * weights, 0).sum()
    torch.testing.assert_close(form, linear, rtol=1e-12, atol=1e-12)


@_DOORS
@_CASES
def test_weight_gradient_entry_by_entry(door, case: Case) -> None:
    u, v = (random(2, 3, *case.spatial, seed=s) for s in (1, 2))
    g = door[2](u, v, case.flat)
    expected = torch.zeros(2, len(case.neighborhood), case.pixels, dtype=torch.float64)
    for k, i, j in ties(case.spatial, case.neighborhood.offsets):
        expected[:, k, i] = (u.flatten(2)[:, :, i] * v.flatten(2)[:, :, j]).sum(dim=1)
    close(g, expected.reshape(g.shape), torch.float64)


@_CASES
def test_gradients_agree_with_autograd_through_the_reference(case: Case) -> None:
    weights = positive(2, len(case.neighborhood), *case.spatial).requires_grad_()
    x = random(2, 3, *case.spatial, seed=1).requires_grad_()
    u = random(2, 3, *case.spatial, seed=2)
    form = (u * product_reference(weights, x, case.flat)).sum()
    to_weights, to_x = torch.autograd.grad(form, (weights, x))
    close(window_weight_gradient(u, x.detach(), case.flat), to_weights, torch.float64)
    close(window_product_transpose(weights.detach(), u, case.flat), to_x, torch.float64)


@_DOORS
@_CASES
def test_inputs_may_lie_anywhere_in_memory(door, case: Case) -> None:
    weights = _weights(case)
    x, u = (random(2, 3, *case.spatial, seed=s) for s in (1, 2))
    for function, inputs in ((door[0], (weights, x)), (door[1], (weights, x)), (door[2], (u, x))):
        y = function(*map(scrambled, inputs), case.flat)
        assert y.is_contiguous()
        close(y, function(*inputs, case.flat), torch.float64)


@_DOORS
def test_types_promote_and_the_answer_has_the_type_of_x(door) -> None:
    case = WINDOW_CASES[3]
    weights, x = _weights(case), random(2, 3, *case.spatial, dtype=torch.float32)
    for function, matrix in ((door[0], _matrices(weights, case)), (door[1], _matrices(weights, case).mT)):
        y = function(weights, x, case.flat)
        assert y.dtype == torch.float32
        close(y, apply(matrix, x), torch.float32)
    g = door[2](x, x.double(), case.flat)
    assert g.dtype == torch.float32
    close(g, gradient_reference(x.double(), x.double(), case.flat), torch.float32)


@_DOORS
def test_empty_batches_channels_and_pictures(door) -> None:
    flat = Neighborhood.window(2, 3).flat
    for items, channels, spatial in ((0, 2, (3, 4)), (2, 0, (3, 4)), (2, 2, (0, 4)), (2, 2, (3, 0))):
        x, weights = torch.ones(items, channels, *spatial), torch.ones(items, 9, *spatial)
        assert door[0](weights, x, flat).shape == x.shape
        assert door[1](weights, x, flat).shape == x.shape
        g = door[2](x, x, flat)
        assert g.shape == weights.shape
        assert not g.any()


@pytest.mark.parametrize("spatial", [(257, 255), (33, 40, 31)])
def test_large_pictures_are_worked_on_in_pieces(spatial: tuple[int, ...]) -> None:
    neighborhood = Neighborhood.window(len(spatial), 3)
    weights = positive(1, len(neighborhood), *spatial, dtype=torch.float32)
    x, flat = random(1, 2, *spatial, dtype=torch.float32), neighborhood.flat
    close(window_product(weights, x, flat), product_reference(weights, x, flat), torch.float32)
    close(window_product_transpose(weights, x, flat), transpose_reference(weights, x, flat), torch.float32)
    close(window_weight_gradient(x, x + 1, flat), gradient_reference(x, x + 1, flat), torch.float32)
