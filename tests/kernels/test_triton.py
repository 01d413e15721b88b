"""Triton's kernels, interpreted on the CPU (compiled where there is CUDA), against the reference."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import grid_reference, grid_triton, triton_grid, window_reference, window_triton
from tests.kernels.dense import EDGE_CASES, WINDOW_CASES, Case, close, positive, random, scrambled, with_junk

pytestmark = pytest.mark.skipif(not triton_grid.AVAILABLE, reason="no Triton on this platform")
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_LARGE = [  # more than one block, the last one partly filled
    Case((300,), Neighborhood.edges(1)),
    Case((19, 17), Neighborhood.edges(2, 2)),
    Case((7, 9, 11), Neighborhood.edges(3)),
]
_WINDOWS = [case for case in WINDOW_CASES if len(case.neighborhood) < 40]
_WINDOWS_LARGE = [Case((300,), Neighborhood.window(1, 3)), Case((19, 17), Neighborhood.window(2, 3))]


def _with_types(small: list[Case], large: list[Case]) -> pytest.MarkDecorator:
    """Small pictures in double, large ones in every type."""
    rows = [(case, torch.float64) for case in small]
    rows += [(case, dtype) for case in large for dtype in (torch.float64, torch.float32, torch.bfloat16)]
    return pytest.mark.parametrize(("case", "dtype"), rows, ids=str)


def _to(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t.to(_DEVICE) for t in tensors]


@_with_types(EDGE_CASES, _LARGE)
@pytest.mark.parametrize("groups", [1, 3])
def test_grid_product(case: Case, groups: int, dtype: torch.dtype) -> None:
    edges = with_junk(positive(2, groups, len(case.neighborhood), *case.spatial, dtype=dtype), case)
    for leak_shape in ((1, 1), (2, groups)):
        leak = positive(*leak_shape, *case.spatial, seed=1, dtype=dtype)
        x = random(2, 3, *case.spatial, seed=2, dtype=dtype)
        y = grid_triton.product_cuda(*_to(scrambled(edges), leak, scrambled(x)), case.flat)
        assert y.dtype == dtype
        close(y.cpu(), grid_reference.product_reference(edges, leak, x, case.flat), dtype)


@_with_types(EDGE_CASES, _LARGE)
@pytest.mark.parametrize("groups", [1, 3])
def test_grid_edge_gradient(case: Case, groups: int, dtype: torch.dtype) -> None:
    u, v = (random(2, 3, *case.spatial, seed=s, dtype=dtype) for s in (1, 2))
    g = grid_triton.edge_gradient_cuda(*_to(u, scrambled(v)), case.flat, groups)
    assert g.dtype == dtype
    close(g.cpu(), grid_reference.edge_gradient_reference(u, v, case.flat, groups), dtype)


@_with_types(_WINDOWS, _WINDOWS_LARGE)
def test_window_products(case: Case, dtype: torch.dtype) -> None:
    weights = with_junk(positive(2, len(case.neighborhood), *case.spatial, dtype=dtype), case)
    x, u = (random(2, 3, *case.spatial, seed=s, dtype=dtype) for s in (1, 2))
    for kernel, reference, inputs in (
        (window_triton.product_cuda, window_reference.product_reference, (weights, x)),
        (window_triton.transpose_cuda, window_reference.transpose_reference, (weights, x)),
        (window_triton.gradient_cuda, window_reference.gradient_reference, (u, x)),
    ):
        y = kernel(*_to(*map(scrambled, inputs)), case.flat)
        assert y.dtype == dtype
        close(y.cpu(), reference(*inputs, case.flat), dtype)


def test_mixed_types_and_empty_input() -> None:
    case = EDGE_CASES[5]
    edges, leak = positive(2, 1, 2, *case.spatial), positive(1, 1, *case.spatial)
    x = random(2, 3, *case.spatial, dtype=torch.float32)
    y = grid_triton.product_cuda(*_to(edges, leak, x), case.flat)
    assert y.dtype == torch.float32
    close(y.cpu(), grid_reference.product_reference(edges, leak, x, case.flat), torch.float32)
    for items, channels, spatial in ((0, 3, (4, 5)), (2, 0, (4, 5)), (2, 3, (0, 5))):
        x = torch.ones(items, channels, *spatial)
        edges, weights = torch.ones(items, 1, 2, *spatial), torch.ones(items, 2, *spatial)
        assert (
            grid_triton.product_cuda(*_to(edges, torch.ones(1, 1, *spatial), x), case.flat).shape == x.shape
        )
        assert not grid_triton.edge_gradient_cuda(*_to(x, x), case.flat, 1).any()
        assert window_triton.product_cuda(*_to(weights, x), case.flat).shape == x.shape
        assert window_triton.transpose_cuda(*_to(weights, x), case.flat).shape == x.shape
        assert not window_triton.gradient_cuda(*_to(x, x), case.flat).any()
