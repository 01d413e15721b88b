"""Boundary and centreline measures against MONAI, scikit-image and closed forms."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from skimage.metrics import hausdorff_distance
from skimage.morphology import skeletonize

from flowcut.vision.metrics import CenterlineDice, HausdorffDistance, NormalizedSurfaceDistance

METRICS = [HausdorffDistance, NormalizedSurfaceDistance, CenterlineDice]
PERFECT = {HausdorffDistance: 0.0, NormalizedSurfaceDistance: 1.0, CenterlineDice: 1.0}
SPATIAL = [(30, 33), (11, 12, 13)]
every = pytest.mark.parametrize("make", METRICS)


def blobs(num_classes=2, batch=4, spatial=(30, 33), seed=0):
    """Smooth figures, and the same ones a little deformed."""
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.standard_normal((num_classes, *spatial)), (0, *(2,) * len(spatial)))
              for _ in range(2 * batch)]  # fmt: skip
    target = np.stack([s.argmax(0) for s in smooth[:batch]])
    predictions = np.stack(
        [(a + 0.4 * b).argmax(0) for a, b in zip(smooth[:batch], smooth[batch:], strict=True)]
    )
    return torch.from_numpy(predictions), torch.from_numpy(target)


def one_hot(labels, num_classes):
    return torch.nn.functional.one_hot(labels, num_classes).movedim(-1, 1)


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("sizes", [None, (0.5, 2.0, 1.5)])
def test_boundary_measures_are_monai_s(spatial, num_classes, sizes):
    monai = pytest.importorskip("monai.metrics", reason="compares with MONAI, which is not installed")
    predictions, target = blobs(num_classes, spatial=spatial)
    x, y = one_hot(predictions, num_classes), one_hot(target, num_classes)
    spacing = 1.0 if sizes is None else sizes[: len(spatial)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI 1.6 warns of an argument that it sets itself
        distances = monai.compute_hausdorff_distance(x, y, percentile=95, spacing=spacing)
        shares = monai.compute_surface_dice(x, y, [1.7] * (num_classes - 1), spacing=spacing)
    assert 0 < shares.min() < 1
    for metric, theirs in (
        (HausdorffDistance(num_classes, spacing=spacing), distances),
        (NormalizedSurfaceDistance(num_classes, tolerance=1.7, spacing=spacing), shares),
    ):
        result, values = metric(predictions, target), theirs.mean(1).tolist()
        assert result.mean.item() == pytest.approx(np.mean(values), rel=1e-5)
        assert result.standard_error.item() == pytest.approx(stats.sem(values), rel=1e-4)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_percentile_100_is_scikit_image_s_hausdorff_distance(spatial):
    for seed in range(5):
        predictions, target = blobs(batch=1, spatial=spatial, seed=seed)
        edges = [t[0].numpy() & ~ndimage.binary_erosion(t[0].numpy()) == 1 for t in (predictions, target)]
        got = HausdorffDistance(percentile=100)(predictions, target).mean.item()
        assert got == pytest.approx(hausdorff_distance(*edges))


def test_hausdorff_distance_of_shifted_squares():
    target = torch.zeros(1, 20, 20).long()
    target[:, 5:10, 5:10] = 1
    for shift in (1, 4, 9):
        moved = target.roll(shift, 2)
        assert HausdorffDistance(percentile=100)(moved, target).mean.item() == shift
        wide = HausdorffDistance(percentile=100, spacing=(1.0, 2.5))
        assert wide(moved, target).mean.item() == 2.5 * shift


def test_hd95_forgives_a_stray_pixel():
    target = torch.zeros(1, 60, 60).long()
    target[:, 10:40, 10:40] = 1
    stray = target.clone()
    stray[0, 59, 59] = 1
    assert HausdorffDistance()(stray, target).mean.item() == 0
    assert HausdorffDistance(percentile=100)(stray, target).mean.item() == pytest.approx(math.hypot(20, 20))


def test_rounding_does_not_decide_about_the_tolerance():
    target, predictions = torch.zeros(2, 1, 1, 10).long()
    target[..., 2], predictions[..., 5] = 1, 1
    metric = NormalizedSurfaceDistance(tolerance=0.3, spacing=0.1)  # 3 * 0.1 > 0.3 in float64
    assert metric(predictions, target).mean.item() == 1


@pytest.mark.parametrize("spatial", SPATIAL)
def test_centreline_dice_is_written_out(spatial):
    predictions, target = blobs(spatial=spatial, batch=3)
    values = []
    for p, t in zip(predictions.numpy() == 1, target.numpy() == 1, strict=True):
        sp, st = skeletonize(p), skeletonize(t)
        precision, sensitivity = (sp & t).sum() / sp.sum(), (st & p).sum() / st.sum()
        values.append(2 * precision * sensitivity / (precision + sensitivity))
    result = CenterlineDice()(predictions, target)
    assert 0 < result.mean.item() < 1
    assert result.mean.item() == pytest.approx(np.mean(values), abs=0.02)
    assert result.standard_error.item() == pytest.approx(stats.sem(values), abs=0.02)


def test_centreline_dice_by_hand():
    # A line of 12 pixels, of which the prediction has the first 9 and 3 more elsewhere.
    target, predictions = torch.zeros(2, 1, 9, 20).long()
    target[0, 4, 2:14] = 1
    predictions[0, 4, 2:11] = 1
    predictions[0, 0, 15:18] = 1
    assert CenterlineDice()(predictions, target).mean.item() == pytest.approx(9 / 12)


def test_broken_lines_show_in_centreline_dice():
    target = torch.zeros(1, 9, 40).long()
    target[0, 3:6] = 1
    broken = target.clone()
    broken[0, :, 10:30] = 0
    wide = torch.ones_like(target)
    wide[0, :2], wide[0, 7:] = 0, 0
    assert CenterlineDice()(broken, target).mean.item() < 0.8
    assert CenterlineDice()(wide, target).mean.item() > 0.95


def test_pieces_that_thinning_removes_are_their_own_skeleton():
    cube = torch.zeros(1, 6, 6, 6).long()
    cube[0, 1:3, 1:3, 1:3] = 1
    assert not skeletonize(cube[0].numpy() == 1).any()  # what this is about
    assert CenterlineDice()(cube, cube).mean.item() == 1
    half = cube.clone()
    half[0, 1] = 0
    assert CenterlineDice()(half, cube).mean.item() == pytest.approx(2 * 0.5 / 1.5)


@every
@pytest.mark.parametrize("spatial", SPATIAL)
def test_a_figure_agrees_with_itself(make, spatial):
    _, target = blobs(3, spatial=spatial)
    assert make(3)(target, target).mean.item() == PERFECT[make]


@every
def test_nothing_agrees_with_nothing(make):
    nothing = torch.zeros(2, 5, 5).long()
    result = make(3)(nothing, nothing)
    assert (result.mean.item(), result.count.item()) == (PERFECT[make], 2)


@every
def test_a_figure_against_nothing_is_the_worst(make):
    nothing, figure = torch.zeros(2, 1, 4, 5).long()
    figure[0, 1, 1] = 1
    worst = 5.0 if make is HausdorffDistance else 0.0  # the diagonal, (3, 4)
    assert make()(figure, nothing).mean.item() == make()(nothing, figure).mean.item() == worst
    corner, far = torch.zeros(2, 1, 4, 5).long()
    corner[0, 0, 0], far[0, 3, 4] = 1, 1
    assert make()(corner, far).mean.item() == worst  # found as badly as possible


@every
def test_classes_that_do_not_occur_are_left_out(make):
    predictions, target = blobs(2)
    torch.testing.assert_close(tuple(make(5)(predictions, target)), tuple(make(2)(predictions, target)))


@every
def test_classes_are_averaged(make):
    predictions, target = blobs(3, batch=1)
    alone = [make()((predictions == c).long(), (target == c).long()).mean.item() for c in (1, 2)]
    assert make(3)(predictions, target).mean.item() == pytest.approx(np.mean(alone))


@every
def test_void_pixels_belong_to_no_figure(make):
    predictions, target = blobs()
    void = torch.zeros_like(target, dtype=torch.bool)
    void[:, 10:20, 5:15] = True
    expected = make(ignore_index=None)(torch.where(void, 0, predictions), torch.where(void, 0, target))
    torch.testing.assert_close(tuple(make()(predictions, torch.where(void, 255, target))), tuple(expected))


@every
def test_images_without_labels_do_not_count(make):
    predictions, target = blobs()
    target[1] = 255
    kept = [0, 2, 3]
    expected = make()(predictions[kept], target[kept])
    torch.testing.assert_close(tuple(make()(predictions, target)), tuple(expected))


@every
def test_batching_does_not_matter(make):
    predictions, target = blobs()
    whole, parts = make(), make()
    whole.update(predictions, target)
    for p, t in zip(predictions.split(3), target.split(3), strict=True):
        parts.update(p, t)
    torch.testing.assert_close(tuple(parts.compute()), tuple(whole.compute()))


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (HausdorffDistance, {"percentile": 0}, "percentile"),
        (HausdorffDistance, {"percentile": 101}, "percentile"),
        (HausdorffDistance, {"spacing": 0.0}, "spacing"),
        (HausdorffDistance, {"spacing": (1.0, math.nan)}, "spacing"),
        (NormalizedSurfaceDistance, {"tolerance": -1.0}, "tolerance"),
        (NormalizedSurfaceDistance, {"spacing": ()}, "spacing"),
        (CenterlineDice, {"num_classes": 1}, "num_classes"),
    ],
)
def test_bad_settings(make, arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        make(**arguments)


def test_axes_that_do_not_fit():
    figure = torch.ones(1, 3, 3).long()
    with pytest.raises(ValueError, match=r"^spacing: expected 1 or 2 numbers, got 3"):
        HausdorffDistance(spacing=(1.0, 1.0, 1.0))(figure, figure)
    with pytest.raises(ValueError, match=r"^predictions: expected 2 or 3 spatial axes, got 1"):
        CenterlineDice()(figure[:, 0], figure[:, 0])
