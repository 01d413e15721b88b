"""Total variation: Numba = reference, threads, values outside, shapes; lines, isotonic fit, block means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scipy.optimize
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.total_variation import block_means, graph_total_variation, grid_total_variation
from flowcut.kernels.total_variation_blocks import block_means_reference
from flowcut.kernels.total_variation_lines import (
    isotonic_fit,
    isotonic_reference,
    lines_reference,
    lines_total_variation,
)
from flowcut.kernels.total_variation_reference import (
    graph_total_variation_reference,
    grid_total_variation_reference,
)

_GRIDS = [
    ((17,), Neighborhood.edges(1)),
    ((4, 5), Neighborhood.edges(2)),
    ((3, 5), Neighborhood.edges(2, 2)),
    ((2, 3, 3), Neighborhood.edges(3, 3)),
    ((1, 1), Neighborhood.edges(2, 2)),
    # Steps larger than the picture, both ways of one tie, and a knight's move.
    ((4, 5), Neighborhood(((0, 9), (0, 1), (0, -1), (7, -7), (2, 1)))),
]
_CASES = pytest.mark.parametrize(("spatial", "where"), _GRIDS)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _grid(
    spatial: tuple[int, ...], where: Neighborhood, seed: int, whole: bool = False
) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn((2, 2, *spatial), generator=g, dtype=torch.float64)
    weights = torch.rand((2, 1, len(where), *spatial), generator=g, dtype=torch.float64)
    return ((3 * scores).round(), (3 * weights).floor()) if whole else (scores, weights)


@_CASES
@pytest.mark.parametrize("whole", [False, True], ids=["real", "integer"])
def test_numba_finds_the_blocks_of_the_reference(spatial, where, whole) -> None:
    scores, weights = _grid(spatial, where, 1, whole)
    z, flow, blocks = grid_total_variation(scores, weights, where.flat, True)
    other = grid_total_variation_reference(scores, weights, where.flat, True)
    torch.testing.assert_close(z, other[0], rtol=0, atol=1e-12)
    assert torch.equal(blocks, other[2])
    inside = where.inside(spatial)
    for f in (flow, other[1]):
        assert (f[:, :, ~inside] == 0).all()
        assert (f.abs() <= weights)[:, :, inside].all()


def test_numba_finds_the_blocks_of_the_reference_on_graphs() -> None:
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        pairs = torch.randint(9, (2 * seed, 2), generator=g)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        scores = torch.randn((2, 1, 9), generator=g, dtype=torch.float64)
        weights = torch.rand((1, 1, len(pairs)), generator=g, dtype=torch.float64)
        z, flow, blocks = graph_total_variation(scores, weights, pairs, True)
        other = graph_total_variation_reference(scores, weights, pairs, True)
        torch.testing.assert_close(z, other[0], rtol=0, atol=1e-12)
        assert torch.equal(blocks, other[2])
        assert (flow.abs() <= weights).all()
        assert graph_total_variation(scores, weights, pairs, False)[1].shape == (2, 1, 0)


@_CASES
def test_values_of_ties_that_leave_the_picture_are_never_read(spatial, where) -> None:
    scores, weights = _grid(spatial, where, 2)
    expected = grid_total_variation(scores, weights, where.flat, True)
    bad = torch.where(where.inside(spatial), weights, float("nan"))
    for found, truth in zip(grid_total_variation(scores, bad, where.flat, True), expected, strict=True):
        assert torch.equal(found, truth)


def test_the_same_bits_for_any_number_of_threads_and_items() -> None:
    where = Neighborhood.edges(2)
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 2, 20, 30, generator=g, dtype=torch.float64)
    weights = torch.rand(5, 1, 2, 20, 30, generator=g, dtype=torch.float64)
    torch.set_num_threads(1)
    expected = grid_total_variation(scores, weights, where.flat, True)
    torch.set_num_threads(3)
    for found, truth in zip(grid_total_variation(scores, weights, where.flat, True), expected, strict=True):
        assert torch.equal(found, truth)
    alone = grid_total_variation(scores[3:4, 1:], weights[3:4], where.flat, True)
    for found, truth in zip(alone, expected, strict=True):
        assert torch.equal(found[0, 0], truth[3, 1])
    shared = grid_total_variation(scores, weights[:1], where.flat, False)[0]
    assert torch.equal(shared[4:], grid_total_variation(scores[4:], weights[:1], where.flat, False)[0])


def test_inputs_may_lie_anywhere_in_memory_and_stay_as_they_are() -> None:
    where = Neighborhood.edges(2, 2)
    arguments = _grid((4, 5), where, 3)
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in arguments]
    before = [t.clone() for t in strided]
    assert torch.equal(
        grid_total_variation(*strided, where.flat, True)[0],
        grid_total_variation(*arguments, where.flat, True)[0],
    )
    assert all(torch.equal(a, b) for a, b in zip(before, strided, strict=True))


def test_operations_and_vmap() -> None:
    where = Neighborhood.edges(2)
    scores, weights = _grid((3, 4), where, 1)
    torch.library.opcheck(grid_total_variation, (scores, weights, where.flat, True))
    torch.library.opcheck(grid_total_variation, (scores, weights, where.flat, False))
    pairs = torch.tensor([[0, 1], [1, 3]])
    torch.library.opcheck(graph_total_variation, (scores[:, :, 0], weights[..., 0, 0, :2], pairs, True))
    torch.library.opcheck(block_means, (scores, torch.zeros_like(scores).long()))
    torch.library.opcheck(lines_total_variation, (scores[:, 0, 0], weights[:, 0, 0, 0]))
    torch.library.opcheck(isotonic_fit, (scores[:, 0, 0],))
    expected = grid_total_variation(scores, weights, where.flat, True)
    split = [t[:, None] for t in (scores, weights)]
    mapped = torch.vmap(lambda x, w: grid_total_variation(x, w, where.flat, True))(*split)
    for found, truth in zip(mapped, expected, strict=True):
        assert torch.equal(found[:, 0], truth)


def test_empty() -> None:
    where = Neighborhood.edges(2)
    for shape in ((0, 2, 4, 3), (2, 0, 4, 3), (2, 1, 0, 3), (2, 1, 3, 0)):
        scores = torch.zeros(shape, dtype=torch.float64)
        weights = torch.zeros((*shape[:1], 1, 2, *shape[2:]), dtype=torch.float64)
        z, flow, blocks = grid_total_variation(scores, weights, where.flat, True)
        assert z.shape == blocks.shape == shape
        assert flow.shape == (*shape[:2], 2, *shape[2:])
        assert block_means(scores, blocks).shape == shape
    assert lines_total_variation(torch.zeros(3, 0).double(), torch.zeros(3, 0).double()).shape == (3, 0)
    assert isotonic_fit(torch.zeros(0, 3).double()).shape == (0, 3)


def test_means_of_blocks() -> None:
    g = torch.Generator().manual_seed(0)
    values = torch.randn(3, 2, 5, 7, generator=g)
    blocks = torch.randint(35, (3, 2, 5, 7), generator=g)
    for v in (values, values.double()):
        means = block_means(v, blocks)
        assert means.dtype == v.dtype
        torch.testing.assert_close(means, block_means_reference(v, blocks))
        for n, c, b in ((0, 0, int(blocks[0, 0, 0, 0])), (2, 1, int(blocks[2, 1, 4, 6]))):
            chosen = blocks[n, c] == b
            torch.testing.assert_close(means[n, c][chosen].mean(), v[n, c][chosen].mean())


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0, 1e8])
def test_lines(strength: float) -> None:
    g = torch.Generator().manual_seed(0)
    for length in (1, 2, 3, 11):
        scores = torch.randn(40, length, generator=g, dtype=torch.float64)
        weights = strength * torch.rand(40, length, generator=g, dtype=torch.float64)
        weights[:, -1] = float("nan")
        z = lines_total_variation(scores, weights)
        torch.testing.assert_close(z[:5], lines_reference(scores[:5], weights[:5]), rtol=0, atol=1e-12)
        if strength > 10:
            mean = scores.mean(dim=1, keepdim=True).expand(z.shape)
            torch.testing.assert_close(z, mean, rtol=0, atol=1e-12)
        elif strength > 0 and length > 1:
            d = torch.eye(length)[:-1].double() - torch.eye(length)[1:].double()
            w = weights[0, :-1].numpy()
            found = lsq_linear(d.T.numpy(), scores[0].numpy(), (-w, w), method="bvls", tol=1e-15)
            truth = scores[0] - d.T @ torch.from_numpy(found.x)
            torch.testing.assert_close(z[0], truth, rtol=0, atol=1e-10)


def test_isotonic_fit() -> None:
    g = torch.Generator().manual_seed(0)
    for values in (
        torch.randn(20, 13, generator=g).double(),
        torch.randn(20, 13, generator=g).double().round(),
    ):
        fitted = isotonic_fit(values)
        torch.testing.assert_close(fitted, isotonic_reference(values), rtol=0, atol=1e-12)
        assert (fitted.diff(dim=1) <= 0).all()
    if hasattr(scipy.optimize, "isotonic_regression"):  # since SciPy 1.12
        theirs = scipy.optimize.isotonic_regression(values[0].numpy(), increasing=False).x.copy()
        torch.testing.assert_close(fitted[0], torch.from_numpy(theirs), rtol=0, atol=1e-12)
