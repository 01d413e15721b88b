"""The random walker against scikit-image's exact mode, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest

import flowcut as fc
from flowcut.cut import random_walker as module

skimage = pytest.importorskip("skimage", reason="the peer is scikit-image (extra vision)")
from skimage import data as pictures  # noqa: E402
from skimage.segmentation import random_walker as peer  # noqa: E402


def _grey():
    image = pictures.camera()[::4, ::4]
    labels = np.zeros(image.shape, int)
    labels[5:10, 5:10], labels[60:70, 50:60], labels[100:110, 100:105] = 1, 2, 7
    return image, labels


def _colour():
    image = pictures.astronaut()[::8, ::8]
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[2:5, 2:5], labels[30:35, 30:35] = 1, 2
    return image, labels


def _volume():
    image = np.random.default_rng(0).random((12, 14, 10))
    labels = np.zeros(image.shape, int)
    labels[0, 0, 0], labels[-1, -1, -1], labels[5, 5, 5] = 1, 2, 3
    return image, labels


CASES = {
    "grey": (_grey, {}),
    "strong contrast": (_grey, {"beta": 1000}),
    "spacing": (_grey, {"spacing": (1, 2.5)}),
    "colour": (_colour, {"channel_axis": -1}),
    "volume": (_volume, {}),
    "volume with spacing": (_volume, {"spacing": (1, 0.5, 3)}),
}


@pytest.mark.parametrize("mode", [None, "bf"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_exact_mode_of_scikit_image(case: str, mode: str | None) -> None:
    make, options = CASES[case]
    image, labels = make()
    ours = fc.random_walker(image, labels, mode=mode, return_full_prob=True, **options)
    truth = peer(image, labels, mode="bf", return_full_prob=True, **options)
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-4)
    ours = fc.random_walker(image, labels, mode=mode, **options)
    truth = peer(image, labels, mode="bf", **options)
    assert ours.dtype == truth.dtype == labels.dtype
    np.testing.assert_array_equal(ours, truth)


def test_conjugate_gradients_meet_the_tolerance_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes too large to factor take this path; the bound, not the residual, ends it."""
    monkeypatch.setattr(module, "may_factor", lambda system: False)
    image = np.random.default_rng(0).random((7, 8, 6))
    labels = np.zeros(image.shape, int)
    labels[0, 0, 0], labels[-1, -1, -1], labels[3, 3, 3] = 1, 2, 3
    truth = peer(image, labels, mode="bf", return_full_prob=True)
    ours = fc.random_walker(image, labels, return_full_prob=True, tol=1e-4)
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-4)


def test_inactive_and_unreachable_pixels() -> None:
    image = np.random.default_rng(1).random((7, 7))
    labels = np.zeros((7, 7), int)
    labels[0, 0], labels[6, 6] = 1, 2
    labels[2:5, 2:5] = -1
    labels[3, 3] = 0  # walled in
    np.testing.assert_array_equal(fc.random_walker(image, labels), peer(image, labels, mode="bf"))
    ours = fc.random_walker(image, labels, return_full_prob=True)
    np.testing.assert_allclose(ours, peer(image, labels, mode="bf", return_full_prob=True), atol=1e-8)
    assert fc.random_walker(image, labels)[3, 3] == 0


def test_isolated_seeds_keep_their_label() -> None:
    image = np.random.default_rng(2).random((7, 7))
    labels = np.zeros((7, 7), int)
    labels[1:4, 1:4], labels[6, 6] = 1, 2
    labels[2, 2] = 3  # surrounded by seeds
    ours = fc.random_walker(image, labels)
    np.testing.assert_array_equal(ours, peer(image, labels, mode="bf"))
    assert ours[2, 2] == 3


def test_seeds_everywhere_and_all_cut_off() -> None:
    image, labels = np.random.default_rng(3).random((4, 4)), np.ones((4, 4), int)
    labels[2:] = 5
    with pytest.warns(fc.FlowcutWarning, match="no pixel is unlabeled"):
        np.testing.assert_array_equal(fc.random_walker(image, labels), labels)
    with pytest.warns(fc.FlowcutWarning):
        full = fc.random_walker(image, labels, return_full_prob=True)
    np.testing.assert_array_equal(full, [labels == 1, labels == 5])
    labels[:], labels[0, 0], labels[3, 3] = -1, 1, 0
    with pytest.warns(fc.FlowcutWarning, match="cut off"):
        assert fc.random_walker(image, labels)[3, 3] == -1


def test_labels_may_be_overwritten() -> None:
    image, labels = _colour()
    expected = fc.random_walker(image, labels, channel_axis=-1)
    result = fc.random_walker(image, labels, channel_axis=-1, copy=False)
    assert result is labels
    np.testing.assert_array_equal(labels, expected)


def test_a_line_and_four_axes() -> None:
    line = fc.random_walker(np.zeros(5), np.array([1, 0, 0, 0, 2]), return_full_prob=True)
    np.testing.assert_allclose(line[0], [1, 0.75, 0.5, 0.25, 0], atol=1e-9)
    labels = np.zeros((2, 3, 2, 2), int)
    labels[0, 0, 0, 0], labels[1, 2, 1, 1] = 1, 2
    probability = fc.random_walker(np.ones(labels.shape), labels, return_full_prob=True)
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((5, 5), int)}, "labels: .*seed"),
        ({"labels": np.ones((5, 4), int)}, r"labels: .*\(5, 5\).*\(5, 4\)"),
        ({"mode": "fast"}, "mode: .*'fast'"),
        ({"spacing": (1, 2, 3)}, "spacing: .*2 numbers"),
        ({"spacing": (1, 0)}, "spacing: .*> 0"),
        ({"data": np.full((5, 5), np.nan)}, "data: .*NaN"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    labels = np.zeros((5, 5), int)
    labels[0, 0] = 1
    arguments = {"data": np.zeros((5, 5)), "labels": labels, **change}
    with pytest.raises(ValueError, match=message):
        fc.random_walker(**arguments)
