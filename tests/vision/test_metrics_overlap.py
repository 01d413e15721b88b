"""Dice, MeanIoU and connectivity against torchmetrics, the jackknife and closed forms."""

import doctest
import importlib

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from scipy import stats
from skimage.measure import label
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from flowcut.vision.metrics import Dice, DistinctFigures, IoU, MeanIoU
from flowcut.vision.metrics.counts import count_classes


def example(num_classes=2, batch=6, spatial=(9, 8), seed=0, right=0.6):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *spatial)
    # Images differ in how much foreground they have and how well it is found.
    share = torch.rand(batch, *(1,) * len(spatial), generator=generator)
    target = torch.randint(num_classes, shape, generator=generator)
    target = torch.where(torch.rand(shape, generator=generator) < share, target, 0)
    guess = torch.randint(num_classes, shape, generator=generator)
    same = torch.rand(shape, generator=generator) < right
    predictions = torch.where(same, target, guess)
    target[torch.rand(shape, generator=generator) < 0.2] = 255
    return predictions, target


@pytest.mark.parametrize(
    "name", ["accuracy", "boundary", "centerline", "counts", "figures", "mean_iou", "overlap"]
)
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"flowcut.vision.metrics.{name}")
    failed, tried = doctest.testmod(module, extraglobs={"torch": torch})
    assert not failed
    assert tried


@pytest.mark.parametrize("spatial", [(50,), (9, 8), (4, 5, 6)])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_counts_are_those_of_comparisons(spatial, num_classes):
    predictions, target = example(num_classes, spatial=spatial)
    valid = target != 255
    counts = count_classes(predictions, torch.where(valid, target, 0), valid, num_classes)
    for c in range(num_classes):
        x, y = ((t == c) & valid for t in (predictions, target))
        for got, expected in zip((*counts, counts.union), (x & y, x, y, x | y), strict=True):
            assert torch.equal(got[:, c], expected.flatten(1).sum(1).double())


@pytest.mark.parametrize("spatial", [(50,), (9, 8), (4, 5, 6)])
def test_binary_dice_is_torchmetrics_f1(spatial):
    predictions, target = example(spatial=spatial)
    result = Dice()(predictions, target)
    values = [
        binary_f1_score(p, t, ignore_index=255).item() for p, t in zip(predictions, target, strict=True)
    ]
    assert result.mean.item() == pytest.approx(np.mean(values), rel=1e-6)
    assert result.standard_error.item() == pytest.approx(stats.sem(values), rel=1e-5)


def test_overlaps_are_those_of_segmentation_models_pytorch():
    predictions, target = example()
    clean = torch.where(target == 255, 0, target)
    stats_of = smp.metrics.get_stats(predictions, clean, mode="binary")
    for ours, theirs in ((IoU, smp.metrics.iou_score), (Dice, smp.metrics.f1_score)):
        expected = theirs(*stats_of, reduction="micro-imagewise").item()
        assert ours()(predictions, clean).mean.item() == pytest.approx(expected, rel=1e-6)
    expected = smp.metrics.iou_score(*stats_of, reduction="micro").item()
    assert MeanIoU()(predictions, clean).mean.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("include_background", [True, False])
def test_multiclass_dice_is_torchmetrics_f1(include_background):
    predictions, target = example(3, spatial=(20, 20))
    values = []
    for p, t in zip(predictions, target, strict=True):
        each = multiclass_f1_score(p, t, num_classes=3, average="none", ignore_index=255)
        values.append(each[0 if include_background else 1 :].mean().item())
    result = Dice(3, include_background=include_background)(predictions, target)
    assert result.mean.item() == pytest.approx(np.mean(values), rel=1e-6)


def test_background_can_count_with_two_labels():
    x, y = torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 0]])
    assert IoU(include_background=True)(x, y).mean.item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert MeanIoU(include_background=True)(x, y).mean.item() == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("make", [IoU, Dice])
def test_without_counted_classes_prediction_and_target_agree(make):
    nothing, figure = torch.zeros(1, 4).long(), torch.tensor([[0, 1, 0, 0]])
    assert make(3, include_background=False)(nothing, nothing).mean.item() == 1
    assert make()(nothing, figure).mean.item() == make()(figure, nothing).mean.item() == 0
    assert make()(figure, torch.full((1, 4), 255)).count.item() == 0


@pytest.mark.parametrize("spatial", [(9, 8), (4, 5, 6)])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_mean_iou_is_torchmetrics_over_all_pixels(num_classes, spatial):
    predictions, target = example(num_classes, spatial=spatial)
    metric, alone = MeanIoU(num_classes), MeanIoU(num_classes, average="none")
    for part in ([0, 1], [2], [3, 4, 5]):
        metric.update(predictions[part], target[part])
        alone.update(predictions[part], target[part])
    if num_classes == 2:
        expected = binary_jaccard_index(predictions, target, ignore_index=255)
    else:
        expected = multiclass_jaccard_index(predictions, target, num_classes, "macro", 255)
    each = multiclass_jaccard_index(predictions, target, num_classes, "none", 255)
    assert metric.compute().mean.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(alone.compute().mean.float(), each)


def jackknife(values: np.ndarray) -> float:
    """Standard error from the values without each of the n images."""
    n = len(values)
    return float(np.sqrt((n - 1) / n * np.square(values - values.mean(axis=0)).sum(axis=0)))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_error_of_mean_iou_is_about_that_of_the_jackknife(num_classes):
    predictions, target = example(num_classes, batch=400)
    result = MeanIoU(num_classes)(predictions, target)
    each = MeanIoU(num_classes, average="none")(predictions, target)
    valid = target != 255
    counts = count_classes(predictions, torch.where(valid, target, 0), valid, num_classes)
    both, union = counts.both.numpy(), counts.union.numpy()
    left_out = (both.sum(0) - both) / (union.sum(0) - union)
    mean = left_out[:, 1:].mean(1) if num_classes == 2 else left_out.mean(1)
    assert result.standard_error.item() == pytest.approx(jackknife(mean), rel=0.02)
    for c in range(num_classes):
        assert each.standard_error[c].item() == pytest.approx(jackknife(left_out[:, c]), rel=0.02)


def test_with_equal_unions_the_error_is_that_of_a_mean():
    target = torch.ones(5, 10).long()
    predictions = (torch.arange(10) < torch.tensor([[1], [4], [4], [7], [10]])).long()
    result = MeanIoU()(predictions, target)
    values = [0.1, 0.4, 0.4, 0.7, 1.0]
    assert result.mean.item() == pytest.approx(np.mean(values))
    assert result.standard_error.item() == pytest.approx(stats.sem(values))


def test_the_error_of_two_images_by_hand():
    # I = (1, 3), U = (2, 8): r = 0.4, residuals I - r U = (0.2, -0.2), SE^2 = 2/1 * 0.08 / 100.
    target = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    predictions = torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
    result = MeanIoU()(predictions, target)
    assert result.mean.item() == pytest.approx(0.4)
    assert result.standard_error.item() == pytest.approx((2 * 0.08 / 100) ** 0.5)


def test_classes_never_present_are_left_out_of_mean_iou():
    x, y = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
    assert MeanIoU(5)(x, y).mean.item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    each = MeanIoU(5, average="none")(x, y)
    assert each.mean[2:].isnan().all()
    assert each.count.tolist() == [1, 1, 0, 0, 0]


def test_mean_iou_of_nothing():
    nothing, void = torch.zeros(2, 4).long(), torch.full((2, 4), 255)
    assert tuple(v.item() for v in MeanIoU()(nothing, nothing)) == (1, 0, 2)
    result = MeanIoU()(nothing, void)
    assert result.mean.isnan()
    assert result.standard_error.isnan()
    assert result.count.item() == 0


def test_merging_states_of_mean_iou_adds_images_as_processes_do():
    predictions, target = example(3)
    whole, first, second = (MeanIoU(3) for _ in range(3))
    whole.update(predictions, target)
    first.update(predictions[:2], target[:2])
    second.update(predictions[2:], target[2:])
    first.merge_state(second)
    torch.testing.assert_close(tuple(first.compute()), tuple(whole.compute()))


@pytest.mark.parametrize("spatial", [(50,), (12, 13), (5, 6, 7)])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_figures_are_scikit_image_s_at_every_connectivity(spatial, num_classes):
    predictions, _ = example(num_classes, spatial=spatial)
    for connectivity in range(1, len(spatial) + 1):
        metric = DistinctFigures(num_classes, connectivity=connectivity)
        got = metric(predictions, torch.zeros_like(predictions)).mean.item()
        counts = [
            label(p, background=0, connectivity=connectivity, return_num=True)[1] for p in predictions.numpy()
        ]
        assert got == pytest.approx(np.mean(counts))


def test_bad_settings():
    with pytest.raises(ValueError, match=r"^connectivity: expected 1 or more, got 0"):
        DistinctFigures(connectivity=0)
    with pytest.raises(ValueError, match=r"^connectivity: expected 1 to 2 for 2 spatial axes, got 3"):
        DistinctFigures(connectivity=3)(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long())
    with pytest.raises(ValueError, match=r"^average: expected 'macro' or 'none', got 'micro'"):
        MeanIoU(average="micro")
    with pytest.raises(ValueError, match=r"^num_classes: expected 2 or more, got 1"):
        MeanIoU(1)
