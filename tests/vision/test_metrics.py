"""Metrics against torchmetrics, SciPy and closed forms."""

import pytest
import torch
from scipy import ndimage, stats
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_jaccard_index,
    multiclass_jaccard_index,
)

from flowcut.vision.metrics import Accuracy, DistinctFigures, IoU, MeanAndError

METRICS = [IoU, Accuracy, DistinctFigures]


def example(num_classes: int = 2, batch: int = 6, spatial=(9, 8), seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *spatial)
    predictions = torch.randint(num_classes, shape, generator=generator)
    target = torch.randint(num_classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = 255
    return predictions, target


def check_against(result: MeanAndError, values: list[float]) -> None:
    assert result.count.item() == len(values)
    assert result.mean.item() == pytest.approx(sum(values) / len(values), rel=1e-6)
    assert result.standard_error.item() == pytest.approx(stats.sem(values), rel=1e-5)


@pytest.mark.parametrize("spatial", [(50,), (9, 8), (4, 5, 6)])
def test_binary_iou_is_torchmetrics_image_by_image(spatial):
    predictions, target = example(spatial=spatial)
    metric = IoU()
    metric.update(predictions, target)
    values = [
        binary_jaccard_index(p, t, ignore_index=255).item() for p, t in zip(predictions, target, strict=True)
    ]
    check_against(metric.compute(), values)


def test_multiclass_iou_is_torchmetrics_where_all_classes_occur():
    predictions, target = example(3, spatial=(20, 20))
    metric = IoU(num_classes=3)
    metric.update(predictions, target)
    values = [
        multiclass_jaccard_index(p, t, num_classes=3, average="macro", ignore_index=255).item()
        for p, t in zip(predictions, target, strict=True)
    ]
    check_against(metric.compute(), values)


def test_accuracy_is_torchmetrics_image_by_image():
    predictions, target = example()
    metric = Accuracy()
    metric.update(predictions, target)
    values = [
        binary_accuracy(p, t, ignore_index=255).item() for p, t in zip(predictions, target, strict=True)
    ]
    check_against(metric.compute(), values)


@pytest.mark.parametrize("spatial", [(50,), (9, 8), (4, 5, 6)])
def test_figures_are_scipy_s(spatial):
    predictions, target = example(spatial=spatial)
    metric = DistinctFigures()
    metric.update(predictions, target)
    expected = []
    for p, t in zip(predictions.numpy(), target.numpy(), strict=True):
        figures, count = ndimage.label(p)
        expected.append(float(sum((t[figures == i] != 255).any() for i in range(1, count + 1))))
    check_against(metric.compute(), expected)
    everywhere = DistinctFigures(ignore_index=None)
    everywhere.update(predictions, torch.zeros_like(target))
    check_against(everywhere.compute(), [float(ndimage.label(p.numpy())[1]) for p in predictions])


def test_figures_of_void_pixels_alone_do_not_count():
    predictions = torch.tensor([[1, 0, 1, 1, 1, 0, 1]])
    metric = DistinctFigures()
    metric.update(predictions, torch.tensor([[255, 255, 255, 0, 255, 0, 1]]))
    assert metric.compute().mean.item() == 2


def test_figures_of_different_labels_are_apart():
    metric = DistinctFigures(num_classes=3)
    metric.update(torch.tensor([[[1, 1, 2], [0, 0, 2]]]), torch.zeros(1, 2, 3, dtype=torch.int64))
    assert metric.compute().mean.item() == 2


@pytest.mark.parametrize("make", METRICS)
@pytest.mark.parametrize("sizes", [[6], [1] * 6, [2, 4]])
def test_batching_does_not_matter(make, sizes):
    predictions, target = example()
    whole, parts = make(), make()
    whole.update(predictions, target)
    for p, t in zip(predictions.split(sizes), target.split(sizes), strict=True):
        parts.update(p, t)
    torch.testing.assert_close(tuple(parts.compute()), tuple(whole.compute()), rtol=1e-12, atol=1e-12)


def test_merging_states_adds_images_as_processes_do():
    predictions, target = example()
    whole, first, second = IoU(), IoU(), IoU()
    whole.update(predictions, target)
    first.update(predictions[:2], target[:2])
    second.update(predictions[2:], target[2:])
    first.merge_state(second)
    torch.testing.assert_close(tuple(first.compute()), tuple(whole.compute()))


def test_forward_gives_the_batch_and_keeps_the_sum():
    predictions, target = example()
    metric = IoU()
    one = metric(predictions[:3], target[:3])
    metric(predictions[3:], target[3:])
    alone = IoU()
    alone.update(predictions[:3], target[:3])
    torch.testing.assert_close(tuple(one), tuple(alone.compute()))
    assert metric.compute().count.item() == 6


@pytest.mark.parametrize("num_classes", [2, 3])
def test_empty_against_empty_is_one(num_classes):
    nothing = torch.zeros(1, 4, 4, dtype=torch.int64)
    metric = IoU(num_classes)
    metric.update(nothing, nothing)
    assert metric.compute().mean.item() == 1


def test_foreground_against_nothing_is_zero():
    metric = IoU()
    metric.update(torch.ones(1, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.int64))
    assert metric.compute().mean.item() == 0


def test_absent_classes_are_left_out_of_the_mean():
    metric = IoU(num_classes=5)
    metric.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]]))
    assert metric.compute().mean.item() == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("make", [IoU, Accuracy])
def test_images_without_labels_do_not_count(make):
    predictions, target = example()
    target[4] = 255
    kept = [0, 1, 2, 3, 5]
    with_void, without = make(), make()
    with_void.update(predictions, target)
    without.update(predictions[kept], target[kept])
    torch.testing.assert_close(tuple(with_void.compute()), tuple(without.compute()))


@pytest.mark.parametrize("make", METRICS)
def test_the_error_of_one_image_is_unknown_and_the_mean_of_none(make):
    predictions, target = example(batch=1)
    metric = make()
    metric.update(predictions, target)
    result = metric.compute()
    assert result.mean.isfinite()
    assert result.standard_error.isnan()
    metric.reset()
    metric.update(predictions[:0], target[:0])
    assert metric.compute().mean.isnan()
    assert metric.compute().count.item() == 0


@pytest.mark.parametrize("make", METRICS)
@pytest.mark.parametrize(
    ("predictions", "target", "message"),
    [
        (
            torch.zeros(1, 3),
            torch.zeros(1, 3).long(),
            "^predictions: expected integer labels, got torch.float32",
        ),
        (torch.zeros(1, 3).long(), torch.zeros(1, 3), "^target: expected integer labels"),
        (torch.zeros(1, 3).long(), torch.zeros(1, 4).long(), r"^target: .*\(1, 3\) and \(1, 4\)"),
        (torch.tensor([[2]]), torch.tensor([[1]]), r"^predictions: expected labels 0 to 1, got \[2\]"),
        (torch.tensor([[255]]), torch.tensor([[1]]), r"^predictions: .*got \[255\]"),
        (torch.tensor([[1]]), torch.tensor([[9]]), r"^target: .*got \[9\]"),
    ],
)
def test_bad_input_is_one_clear_line(make, predictions, target, message):
    metric = make()
    with pytest.raises(ValueError, match=message):
        metric.update(predictions, target)


def test_too_few_classes():
    with pytest.raises(ValueError, match=r"^num_classes: expected 2 or more, got 1"):
        IoU(1)
