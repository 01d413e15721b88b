"""Resizing: majorities of labels, smoothed pictures."""

import numpy as np
import pytest
import torch
from skimage.transform import downscale_local_mean

from flowcut.vision.resize import resize_image, resize_mask

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (7, 9), dtype=np.uint8)


def test_resized_masks_are_majorities():
    mask = torch.from_numpy((GREY[:6, :8] > 90).astype(np.int64))
    share = downscale_local_mean(mask.numpy().astype(float), (2, 2))
    assert torch.equal(resize_mask(mask, (3, 4)), torch.from_numpy(share > 0.5).long())


@pytest.mark.parametrize("size", [(3, 3), (5, 11), (20, 30), 1, (7, 9)])
def test_no_value_between_two_labels(size):
    mask = torch.from_numpy(np.where(GREY % 3 == 2, 255, GREY % 3 * 7)).long()
    resized = resize_mask(mask, size)
    assert set(resized.unique().tolist()) <= {0, 7, 255}
    assert resized.shape == ((1, 1) if size == 1 else size)


def test_whole_multiples_repeat_pixels():
    mask = torch.from_numpy(GREY % 4).long()
    repeated = mask.repeat_interleave(3, 0).repeat_interleave(2, 1)
    assert torch.equal(resize_mask(mask, (21, 18)), repeated)
    assert torch.equal(resize_mask(repeated, (7, 9)), mask)


def test_resizing_pictures_keeps_range_and_means():
    image = torch.from_numpy(RGB.transpose(2, 0, 1)).float() / 255
    small = resize_image(image, (3, 4))
    assert small.shape == (3, 3, 4)
    assert 0 <= small.min() <= small.max() <= 1
    # Without smoothing first, a one-pixel checkerboard would not come out grey.
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(3, -1, -1)
    assert (resize_image(board, 16)[:, 1:-1, 1:-1] - 0.5).abs().max() < 0.01


@pytest.mark.parametrize("size", [0, (3,), (3, 0), (2.5, 2), "ab"])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match=r"^size: expected"):
        resize_mask(torch.zeros(4, 4).long(), size)


def test_a_mask_of_void_alone_stays_void():
    assert resize_mask(torch.full((5, 7), 255), (3, 9)).unique().tolist() == [255]
