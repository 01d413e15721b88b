"""The layout with gaps: every tap of every pixel is its neighbour or a place that belongs to nobody."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.flat import (
    BLOCK,
    flat_layout,
    flat_length,
    pack_reference,
    places,
    unpack_reference,
    whole_vectors,
)
from tests.kernels.dense import WINDOW_CASES, Case, random, scrambled

_CASES = pytest.mark.parametrize(
    "case",
    [
        *WINDOW_CASES,
        Case((40, 70), Neighborhood.window(2, 3)),
        Case((2, 3), Neighborhood(((0, 9), (-7, 0), (4, -4)))),
        Case((5, 4), Neighborhood(((0, 0),))),
    ],
    ids=str,
)


@_CASES
def test_every_tap_is_the_neighbour_or_a_gap(case: Case) -> None:
    offsets = case.neighborhood.offsets
    layout = flat_layout(case.spatial, offsets)
    pixels = list(itertools.product(*map(range, case.spatial)))
    place = dict(zip(pixels, places(case.spatial, offsets).tolist(), strict=True))
    owned = set(place.values())
    assert len(owned) == len(pixels)
    for pixel, offset in itertools.product(pixels, range(len(offsets))):
        tap = place[pixel] + int(layout.shifts[offset])
        neighbour = tuple(a + b for a, b in zip(pixel, offsets[offset], strict=True))
        if neighbour in place:
            assert tap == place[neighbour]
        else:
            assert 0 <= tap < layout.length
            assert tap not in owned


@_CASES
def test_blocks_hold_all_pixels_and_no_tap_leaves_the_memory(case: Case) -> None:
    offsets = case.neighborhood.offsets
    layout = flat_layout(case.spatial, offsets)
    where = places(case.spatial, offsets)
    assert layout.length % BLOCK == 0
    assert layout.length == flat_length(case.spatial, offsets)
    assert layout.first * BLOCK <= int(where.min())
    assert int(where.max()) < layout.last * BLOCK
    # Kernels take taps of whole blocks in both directions, and of rows lengthened to whole vectors.
    far = int(np.abs(layout.shifts).max())
    assert layout.first * BLOCK - far >= 0
    assert layout.last * BLOCK + far <= layout.length
    assert int(layout.starts[-1]) + whole_vectors(case.spatial[-1]) + far <= layout.length


@_CASES
def test_packing_keeps_pixels_and_leaves_zeros(case: Case) -> None:
    offsets = case.neighborhood.offsets
    x = random(2, 3, *case.spatial)
    packed = pack_reference(scrambled(x), offsets)
    assert packed.shape == (2, 3, flat_length(case.spatial, offsets))
    assert torch.equal(unpack_reference(packed, case.spatial, offsets), x)
    packed[..., places(case.spatial, offsets)] = 0
    assert not packed.any()


def test_pictures_without_pixels() -> None:
    offsets = Neighborhood.window(2, 3).offsets
    for shape in ((2, 0, 4), (2, 4, 0)):
        packed = pack_reference(torch.ones(*shape), offsets)
        assert packed.shape == (2, 0)
        assert unpack_reference(packed, shape[1:], offsets).shape == shape
