"""The same bits for any number of threads, on every run, wherever the input lies in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import threads as spread
from flowcut.kernels.cg import grid_cg
from flowcut.kernels.grid import grid_edge_gradient, grid_product
from flowcut.kernels.threads import strip_count
from flowcut.kernels.window import window_product, window_product_transpose, window_weight_gradient
from tests.kernels.dense import positive, random

_SIZES = [(1, 1), (3, 5), (7, 300), (257, 255), (259, 257), (33, 17, 9), (37, 39, 47), (70001,)]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _solve(spatial: tuple[int, ...], items: int, dtype: torch.dtype, connectivity: int, shift: int):
    neighborhood = Neighborhood.edges(len(spatial), connectivity)
    sizes = (items, 1, len(neighborhood), *spatial), (1, 1, *spatial), (items, 2, *spatial)
    inputs = []
    for seed, size in enumerate(sizes):
        make = random if seed == 2 else positive
        value = make(*size, seed=seed, dtype=dtype)
        home = torch.empty(value.numel() + 64, dtype=dtype)
        inputs.append(home[shift : shift + value.numel()].reshape(size).copy_(value))
    return grid_cg(*inputs, neighborhood.flat, 1e-5, 2000, "scores", "raise")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("diagonals", [False, True])
@pytest.mark.parametrize("spatial", _SIZES, ids=str)
def test_a_solve(spatial: tuple[int, ...], diagonals: bool, dtype: torch.dtype) -> None:
    connectivity = len(spatial) if diagonals else 1
    for items in (1,) if len(spatial) == 3 else (1, 5):
        _same_bits(spatial, items, dtype, connectivity)


def _same_bits(spatial: tuple[int, ...], items: int, dtype: torch.dtype, connectivity: int) -> None:
    torch.set_num_threads(1)
    expected = _solve(spatial, items, dtype, connectivity, 0)
    for threads, shift in ((2, 0), (3, 1), (1, 16)):
        torch.set_num_threads(threads)
        again = _solve(spatial, items, dtype, connectivity, shift)
        for a, b in zip(expected, again, strict=True):
            assert torch.equal(a, b)


def test_both_ways_of_sharing_work_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have found the machine too busy for threads that wait for each other.
    monkeypatch.setattr(spread, "_alone_until", 0.0)
    torch.set_num_threads(2)
    assert strip_count(257 * 255) == 1
    assert strip_count(259 * 257) == 2
    assert strip_count(37 * 39 * 47) == 2
    assert strip_count(33 * 17 * 9) == 1
    torch.set_num_threads(1)
    assert strip_count(4096 * 4096) == 1


def test_an_item_does_not_depend_on_its_batch() -> None:
    neighborhood = Neighborhood.edges(2)
    edges = positive(6, 1, 2, 257, 255, dtype=torch.float32)
    leak, rhs = torch.ones(1, 1, 257, 255), random(6, 2, 257, 255, dtype=torch.float32)
    torch.set_num_threads(2)
    batch = grid_cg(edges, leak, rhs, neighborhood.flat, 1e-5, 2000, "scores", "raise")
    for n in range(6):
        alone = grid_cg(
            edges[n : n + 1], leak, rhs[n : n + 1, 1:], neighborhood.flat, 1e-5, 2000, "scores", "raise"
        )
        for a, b in zip(batch, alone, strict=True):
            assert torch.equal(a[n, 1], b[0, 0])


@pytest.mark.parametrize("spatial", [(3, 5), (257, 255)], ids=str)
def test_products(spatial: tuple[int, ...]) -> None:
    flat, window = Neighborhood.edges(2).flat, Neighborhood.window(2, 3).flat
    x, v = (random(3, 2, *spatial, seed=s, dtype=torch.float32) for s in (0, 1))
    edges, leak = positive(3, 1, 2, *spatial, dtype=torch.float32), torch.ones(1, 1, *spatial)
    weights = positive(3, 9, *spatial, dtype=torch.float32)

    def all_products() -> list[torch.Tensor]:
        return [
            grid_product(edges, leak, x, flat),
            grid_edge_gradient(x, v, flat, 1),
            grid_edge_gradient(x, v, flat, 2),
            window_product(weights, x, window),
            window_product_transpose(weights, x, window),
            window_weight_gradient(x, v, window),
        ]

    torch.set_num_threads(1)
    expected = all_products()
    for threads in (2, 3, 2):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(expected, all_products(), strict=True))
