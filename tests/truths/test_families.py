"""The families are what they say, for pictures and volumes, and the same in every call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.families import FAMILIES, camera_image, make_family

from flowcut import Neighborhood
from tests.truths.families import EVERY_FAMILY

SHAPES = [(12, 17), (5, 8, 6)]


def test_there_are_ten():
    assert len(FAMILIES) == len(set(FAMILIES)) == 10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_layout_and_sign(family, shape):
    scores, edges = make_family(family, shape)
    offsets = Neighborhood.edges(len(shape)).offsets
    assert scores.shape == (1, 1, *shape)
    assert edges.shape == (1, len(offsets), *shape)
    assert scores.dtype == edges.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert torch.isfinite(edges).all()
    assert (edges >= 0).all()
    for k, offset in enumerate(offsets):
        axis = offset.index(1)
        outside = edges[0, k].select(axis, shape[axis] - 1)
        within = edges[0, k].narrow(axis, 0, shape[axis] - 1)
        assert (outside == 0).all()
        # Cells that do not touch, and softplus below what single precision holds, give zeros.
        positive = within > 0
        assert positive.any() if family.startswith("vor") or family == "soft30" else positive.all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_deterministic_and_rounded_once(family, shape):
    single, double = make_family(family, shape), make_family(family, shape, dtype=torch.float64)
    for first, again, exact in zip(single, make_family(family, shape), double, strict=True):
        assert torch.equal(first, again)
        assert exact.dtype == torch.float64
        assert torch.equal(first, exact.float())


def test_batch_items_have_their_own_seeds():
    scores, edges = make_family("soft3", (9, 7), batch=3)
    assert scores.shape == (3, 1, 9, 7)
    assert edges.shape == (3, 2, 9, 7)
    alone = make_family("soft3", (9, 7), seed=2)
    assert torch.equal(scores[2:], alone[0])
    assert torch.equal(edges[2:], alone[1])
    assert not torch.equal(scores[0], scores[1])


def test_weights_follow_their_laws():
    shape = (200, 300)

    def within(family: str) -> np.ndarray:
        edges = make_family(family, shape, dtype=torch.float64)[1][0].numpy()
        return np.concatenate([edges[0, :-1].ravel(), edges[1, :, :-1].ravel()])

    assert np.unique(within("const10")).tolist() == [10.0]
    for family, sigma in (("logn2", 2.0), ("logn4", 4.0)):
        logs = np.log(within(family))
        assert abs(logs.mean()) < 0.02 * sigma
        assert abs(logs.std() / sigma - 1) < 0.02
    for family, scale in (("soft3", 3.0), ("soft30", 30.0)):
        normal = np.log(np.expm1(np.minimum(within(family), 600.0))) / scale
        # The inverse loses what a double cannot hold; medians and quartiles keep their places.
        assert np.allclose(np.quantile(normal, [0.25, 0.5, 0.75]), [-0.6745, 0, 0.6745], atol=0.02)
    for family, strength in (("vor100", 100.0), ("vor1e4", 1e4)):
        weights = within(family)
        assert set(np.unique(weights).tolist()) == {0.0, strength}
        assert 0.02 < (weights == 0).mean() < 0.3


def test_camera_weights_fall_with_contrast():
    pytest.importorskip("skimage")
    shape = (64, 48)
    image = camera_image(shape)
    edges = make_family("cam1000", shape, dtype=torch.float64)[1][0].numpy()
    contrast = np.abs(image[1:] - image[:-1]).ravel()
    order = np.argsort(contrast)
    assert (np.diff(edges[0, :-1].ravel()[order]) <= 1e-9).all()
    assert np.isclose(edges[0, 10, 20], 1e3 * np.exp(-200 * (image[11, 20] - image[10, 20]) ** 2) + 1e-6)


def test_camera_volume_is_slanted():
    pytest.importorskip("skimage")
    volume = camera_image((4, 16, 16))
    assert np.array_equal(volume[2, 3, 5], volume[0, 5, 7])
    assert not np.array_equal(volume[0], volume[1])


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match=r"name: expected one of .*'soft'"):
        make_family("soft", (4, 4))
    with pytest.raises(ValueError, match="two or three axes"):
        camera_image((4,))
