"""Connected components against scikit-image and SciPy; Numba = reference; the operations' shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as scipy_components
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.components import graph_components, grid_components
from flowcut.kernels.components_reference import graph_components_reference, grid_components_reference

_CASES = [
    (shape, connectivity)
    for shape in ((40,), (17, 13), (6, 7, 5), (1, 9), (9, 1), (3, 4, 3, 2))
    for connectivity in range(1, len(shape) + 1)
]


def _labels(shape: tuple[int, ...], count: int, seed: int, items: int = 3) -> Tensor:
    return torch.randint(count, (items, *shape), generator=torch.Generator().manual_seed(seed))


def _no_weights(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros((1, 0, *shape), dtype=torch.float64)


@pytest.mark.parametrize(("shape", "connectivity"), _CASES)
def test_masks_as_scipy_labels_them(shape: tuple[int, ...], connectivity: int) -> None:
    where = Neighborhood.edges(len(shape), connectivity)
    structure = generate_binary_structure(len(shape), connectivity)
    masks = _labels(shape, 2, connectivity)
    for door in (grid_components, grid_components_reference):
        ours = door(masks, _no_weights(shape), where.flat, True)
        for mask, numbers in zip(masks, ours, strict=True):
            np.testing.assert_array_equal(numbers, label(mask.numpy(), structure)[0])


@pytest.mark.parametrize(("shape", "connectivity"), [c for c in _CASES if len(c[0]) < 4])
def test_labels_as_scikit_image_labels_them(shape: tuple[int, ...], connectivity: int) -> None:
    measure = pytest.importorskip("skimage.measure")
    where = Neighborhood.edges(len(shape), connectivity)
    for count in (2, 3, 5):
        labels = _labels(shape, count, count)
        for background in (True, False):
            for values in (labels, labels.double() / 7):
                ours = grid_components(values, _no_weights(shape), where.flat, background)
                for item, numbers in zip(labels, ours, strict=True):
                    ground = 0 if background else -1
                    theirs = measure.label(item.numpy(), background=ground, connectivity=connectivity)
                    np.testing.assert_array_equal(numbers, theirs - (not background))


@pytest.mark.parametrize(("shape", "connectivity"), _CASES)
def test_only_ties_with_weight_connect(shape: tuple[int, ...], connectivity: int) -> None:
    where = Neighborhood.edges(len(shape), connectivity)
    labels = _labels(shape, 2, 1)
    g = torch.Generator().manual_seed(0)
    weights = (torch.rand((3, len(where), *shape), generator=g) < 0.5).double()
    weights[:, ~where.inside(shape)] = float("nan")  # never read
    pixels = list(itertools.product(*map(range, shape)))
    number = {pixel: i for i, pixel in enumerate(pixels)}
    for given in (weights, weights[:1]):
        ours = grid_components(labels, given, where.flat, False)
        assert torch.equal(ours, grid_components_reference(labels, given, where.flat, False))
        for n in range(3):
            ties = []
            for k, offset in enumerate(where.offsets):
                for here in pixels:
                    there = tuple(a + b for a, b in zip(here, offset, strict=True))
                    equal = there in number and labels[n][here] == labels[n][there]
                    if equal and given[n % len(given), k][here] > 0:
                        ties.append((number[here], number[there]))
            i, j = np.array(ties, dtype=np.int64).reshape(-1, 2).T
            matrix = coo_array((np.ones(len(i)), (i, j)), (len(pixels),) * 2)
            theirs = scipy_components(matrix, directed=False)[1]
            _, first = np.unique(theirs, return_index=True)
            rank = np.argsort(np.argsort(first))
            np.testing.assert_array_equal(ours[n].flatten(), rank[theirs])


def test_graphs() -> None:
    g = torch.Generator().manual_seed(0)
    for seed in range(20):
        pairs = torch.randint(15, (seed, 2), generator=g)
        labels, weights = _labels((15,), 2, seed), torch.rand((3, seed), generator=g).double() - 0.3
        for background in (True, False):
            for given in (weights, weights[:1], weights[:, :0]):
                ours = graph_components(labels, given, pairs, background)
                assert torch.equal(ours, graph_components_reference(labels, given, pairs, background))
        matrix = coo_array((np.ones(seed), tuple(pairs.T.numpy())), (15, 15))
        count, _ = scipy_components(matrix, directed=False)
        whole = graph_components(torch.zeros_like(labels), weights[:, :0], pairs, False)
        assert (whole.amax(dim=1) + 1 == count).all()


def test_a_spiral_and_nan() -> None:
    # One long component: trees get deep.
    mask = torch.zeros((1, 41, 41), dtype=torch.int64)
    mask[0, ::2] = 1
    mask[0, 1::4, -1] = 1
    mask[0, 3::4, 0] = 1
    where = Neighborhood.edges(2)
    assert grid_components(mask, _no_weights((41, 41)), where.flat, True).unique().tolist() == [0, 1]
    nan = torch.full((1, 3), float("nan"), dtype=torch.float64)
    assert grid_components(nan, _no_weights((3,)), [1], False).tolist() == [[0, 1, 2]]


def test_operations_empty_and_strided() -> None:
    where = Neighborhood.edges(2, 2)
    labels = _labels((4, 5), 2, 0)
    weights = torch.rand(3, 4, 4, 5, dtype=torch.float64)
    torch.library.opcheck(grid_components, (labels, weights, where.flat, True))
    torch.library.opcheck(grid_components, (labels.double(), _no_weights((4, 5)), where.flat, False))
    pairs = torch.tensor([[0, 1], [1, 3]])
    torch.library.opcheck(graph_components, (labels[:, 0], weights[:, 0, 0, :2], pairs, False))
    strided = torch.stack([labels, labels], dim=-1)[..., 0]
    expected = grid_components(labels, weights, where.flat, False)
    assert torch.equal(grid_components(strided, weights, where.flat, False), expected)
    mapped = torch.vmap(lambda x: grid_components(x, weights, where.flat, False))(labels.expand(2, 3, 4, 5))
    assert torch.equal(mapped[1], expected)
    for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0)):
        empty = torch.zeros(shape, dtype=torch.int64)
        for door in (grid_components, grid_components_reference):
            found = door(empty, torch.zeros((1, 0, *shape[1:])).double(), where.flat, True)
            assert found.shape == shape
