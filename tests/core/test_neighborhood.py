"""Neighborhoods against SciPy's structuring elements and brute force over all pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import generate_binary_structure

from flowcut.core.neighborhood import Neighborhood, source_slices, target_slices


@pytest.mark.parametrize(("ndim", "connectivity", "neighbours"), [
    (1, 1, 2), (2, 1, 4), (2, 2, 8), (3, 1, 6), (3, 2, 18), (3, 3, 26), (4, 1, 8), (4, 4, 80),
])  # fmt: skip
def test_every_undirected_tie_stands_once(ndim: int, connectivity: int, neighbours: int) -> None:
    neighborhood = Neighborhood.edges(ndim, connectivity)
    assert len(neighborhood) == neighbours // 2
    both = set(neighborhood.offsets) | {tuple(-o for o in offset) for offset in neighborhood.offsets}
    assert len(both) == neighbours
    structure = generate_binary_structure(ndim, connectivity)
    structure[(1,) * ndim] = False
    assert both == {tuple(int(i) - 1 for i in place) for place in np.argwhere(structure)}
    assert neighborhood.connectivity == connectivity
    assert neighborhood.ndim == ndim


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_axes_come_first_and_in_order(ndim: int) -> None:
    axes = tuple(tuple(int(a == b) for b in range(ndim)) for a in range(ndim))
    for connectivity in range(1, ndim + 1):
        offsets = Neighborhood.edges(ndim, connectivity).offsets
        assert offsets[:ndim] == axes
        reach = [sum(map(abs, o)) for o in offsets]
        assert reach == sorted(reach)


def test_diagonals_of_the_plane() -> None:
    assert Neighborhood.edges(2, 2).offsets == ((1, 0), (0, 1), (1, 1), (1, -1))


@pytest.mark.parametrize(("ndim", "size"), [(1, 1), (1, 5), (2, 3), (2, 7), (3, 3)])
def test_a_window_is_full_row_major_and_centred(ndim: int, size: int) -> None:
    window = Neighborhood.window(ndim, size)
    assert len(window) == size**ndim
    assert window.offsets[len(window) // 2] == (0,) * ndim
    assert list(window.offsets) == sorted(window.offsets)
    assert max(max(map(abs, o)) for o in window.offsets) == size // 2


def test_spacing_gives_lengths() -> None:
    neighborhood = Neighborhood.edges(2, 2, spacing=(3, 4))
    assert neighborhood.lengths == (3.0, 4.0, 5.0, 5.0)
    assert Neighborhood.edges(3, 3).lengths[-1] == pytest.approx(math.sqrt(3))
    assert Neighborhood.window(1, 3, spacing=(2.5,)).lengths == (2.5, 0.0, 2.5)
    assert Neighborhood.edges(2).spacing == (1.0, 1.0)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_infer_is_the_inverse_of_edges(ndim: int) -> None:
    for connectivity in range(1, ndim + 1):
        neighborhood = Neighborhood.edges(ndim, connectivity)
        assert Neighborhood.infer(ndim, len(neighborhood)) == neighborhood


def test_infer_names_what_would_fit() -> None:
    with pytest.raises(ValueError, match=r"^edges: expected 3, 9, 13 channels for 3 spatial axes .* got 5"):
        Neighborhood.infer(3, 5)


_FAR = Neighborhood(((0, 0), (1, -2), (-3, 1), (9, 0), (0, -9), (4, 4)))


@pytest.mark.parametrize("spatial", [(1, 1), (1, 5), (4, 1), (3, 4), (0, 3), (9, 10)])
@pytest.mark.parametrize("neighborhood", [Neighborhood.edges(2, 2), Neighborhood.window(2, 5), _FAR])
def test_inside_and_slices_by_brute_force(spatial: tuple[int, ...], neighborhood: Neighborhood) -> None:
    inside = neighborhood.inside(spatial)
    assert inside.shape == (len(neighborhood), *spatial)
    pixels = list(itertools.product(*map(range, spatial)))
    number = torch.arange(len(pixels)).reshape(spatial)
    for k, offset in enumerate(neighborhood.offsets):
        pairs = []
        for i in pixels:
            j = tuple(a + o for a, o in zip(i, offset, strict=True))
            has = all(0 <= a < n for a, n in zip(j, spatial, strict=True))
            assert bool(inside[k][i]) == has
            if has:
                pairs.append((int(number[i]), int(number[j])))
        here = number[source_slices(offset, spatial)].flatten().tolist()
        there = number[target_slices(offset, spatial)].flatten().tolist()
        assert sorted(zip(here, there, strict=True)) == sorted(pairs)


def test_equal_neighborhoods_are_equal_and_hash_alike() -> None:
    a, b = Neighborhood.edges(2), Neighborhood(((1, 0), (0, 1)))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Neighborhood.edges(2, spacing=(1, 2))
    assert a.flat == [1, 0, 0, 1]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Neighborhood(()), "offsets: expected at least one offset"),
    (lambda: Neighborhood(((),)), "offsets: expected at least one offset"),
    (lambda: Neighborhood(((1, 0), (1,))), "offsets: expected every offset to have 2 axes"),
    (lambda: Neighborhood(((1, 0), (1, 0))), "offsets: expected each offset once"),
    (lambda: Neighborhood(((1, 0),), (1.0,)), "spacing: expected 2 finite numbers > 0"),
    (lambda: Neighborhood(((1, 0),), (1.0, 0.0)), "spacing: expected 2 finite numbers > 0"),
    (lambda: Neighborhood(((1, 0),), (1.0, float("nan"))), "spacing: expected 2 finite numbers > 0"),
    (lambda: Neighborhood(((1, 0),), (1.0, float("inf"))), "spacing: expected 2 finite numbers > 0"),
    (lambda: Neighborhood.edges(0), "ndim: expected at least one spatial axis, got 0"),
    (lambda: Neighborhood.edges(2, 3), "connectivity: expected 1 to 2 for 2 axes, got 3"),
    (lambda: Neighborhood.edges(2, 0), "connectivity: expected 1 to 2 for 2 axes, got 0"),
    (lambda: Neighborhood.window(2, 4), "size: expected an odd window side >= 1, got 4"),
    (lambda: Neighborhood.window(2, -1), "size: expected an odd window side >= 1, got -1"),
    (lambda: Neighborhood.window(0, 3), "ndim: expected at least one spatial axis, got 0"),
])  # fmt: skip
def test_bad_input_is_refused_by_name(make, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
