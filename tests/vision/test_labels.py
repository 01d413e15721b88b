"""From logits to labels, and the checks of targets."""

import pytest
import torch

from flowcut.vision.labels import num_labels, predict_labels
from flowcut.vision.targets import split_void


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4)])
def test_one_channel_is_the_sigmoid_over_a_half(spatial):
    logits = torch.randn(2, 1, *spatial, dtype=torch.float64)
    labels = predict_labels(logits)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, (logits.sigmoid() > 0.5)[:, 0].long())


@pytest.mark.parametrize("channels", [2, 5])
def test_several_channels_are_the_largest_softmax(channels):
    logits = torch.randn(2, channels, 3, 4)
    assert torch.equal(predict_labels(logits), logits.softmax(1).argmax(1))


def test_two_channels_are_one_channel_on_the_difference():
    logits = torch.randn(2, 2, 6, 5)
    assert torch.equal(predict_labels(logits), predict_labels(logits[:, 1:] - logits[:, :1]))


def test_ties_take_the_smaller_label_and_infinities_count():
    assert predict_labels(torch.zeros(1, 1, 1)).item() == 0
    assert predict_labels(torch.zeros(1, 3, 1)).item() == 0
    assert predict_labels(torch.tensor([[[torch.inf, -torch.inf]]])).tolist() == [[1, 0]]


def test_empty_batch():
    assert predict_labels(torch.zeros(0, 3, 4, 4)).shape == (0, 4, 4)


@pytest.mark.parametrize(
    "logits",
    [torch.zeros(3), torch.zeros(1, 0, 3), torch.zeros(1, 1, 3).long(), torch.tensor([[[0.0, torch.nan]]])],
)
def test_bad_logits(logits):
    with pytest.raises(ValueError, match=r"^logits: expected"):
        predict_labels(logits)


def test_number_of_labels():
    assert [num_labels(c) for c in (1, 2, 3)] == [2, 2, 3]


def test_void_pixels_are_set_apart():
    labels, valid = split_void(torch.tensor([[0, 3, 2]], dtype=torch.uint8), 3, 3)
    assert labels.tolist() == [[0, 0, 2]]
    assert valid.tolist() == [[True, False, True]]
    assert labels.dtype == torch.int64
