"""Tiles: every pixel once, local networks exactly, shares that sum to one, MONAI's sliding window."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import nn

from flowcut.cut.soft_cut import SoftCut
from flowcut.linear.cholesky import Cholesky
from flowcut.vision.data import tile as public_tile
from flowcut.vision.networks import BasicCnn
from flowcut.vision.ties import WindowWeights
from flowcut.vision.tiled import TiledNetwork, predict_tiled
from flowcut.vision.tiles import TileGrid, tile, untile
from flowcut.vision.with_head import with_head

SHAPES = [(1,), (37,), (12, 31), (16, 16), (3, 40), (5, 7, 4)]
PADDINGS = [None, "reflect", "edge"]
WINDOWS = ["linear", "cosine", "constant"]


def random(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_is_public():
    assert public_tile is tile


def test_the_tiles_of_the_thesis():
    grid = TileGrid((1024, 2048))
    assert grid.window == (288, 288)
    assert grid.starts == ((0, 256, 512, 736), (0, 256, 512, 768, 1024, 1280, 1536, 1760))
    assert len(grid) == 32


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("size", "overlap"), [(8, 4), (5, 3), (3, 8), (6, 0), (100, 10), (1, 1)])
def test_tiles_come_together_again(shape, padding, size, overlap):
    image = random(2, *shape)
    tiles, grid = tile(image, size, overlap, padding)
    assert tuple(tiles.shape) == (len(grid), 2, *grid.window)
    assert torch.equal(untile(tiles, grid), image)
    for window in WINDOWS:
        assert (untile(tiles, grid, "weighted", window) - image).abs().max() < 1e-14
    labels = (image * 9).long()
    assert torch.equal(untile(tile(labels, size, overlap, padding)[0], grid), labels)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("window", WINDOWS)
def test_shares_are_not_negative_and_fill_the_picture_once(padding, window):
    for combine in ("discard", "weighted"):
        grid, total = TileGrid((29, 13), (7, 4), 5, padding), torch.zeros(29, 13, dtype=torch.float64)
        for k in range(len(grid)):
            rows, columns = grid.share(k, combine, window)
            assert rows.min() >= 0
            assert columns.min() >= 0
            total[grid.part(k)] += rows[:, None] * columns
        assert (total - 1).abs().max() < 1e-14


def test_weights_fall_over_the_overlap_in_closed_form():
    grid = TileGrid((20,), 8, 4)
    assert grid.starts == ((0, 8),)
    fall = torch.tensor([7, 5, 3, 1], dtype=torch.float64) / 8
    (linear,) = grid.share(0, "weighted", "linear")
    (cosine,) = grid.share(0, "weighted", "cosine")
    assert torch.equal(linear, torch.cat([torch.ones(8, dtype=torch.float64), fall]))
    assert torch.allclose(cosine[8:], torch.sin(torch.pi / 2 * fall) ** 2)


def test_half_of_each_overlap_is_thrown_away():
    grid = TileGrid((20,), 8, 4)
    tiles = torch.stack([torch.zeros(1, 12), torch.ones(1, 12)])
    assert torch.equal(untile(tiles, grid)[0], (torch.arange(20) >= 10).float())


@pytest.mark.parametrize("padding", ["reflect", "edge"])
@pytest.mark.parametrize("n", [1, 2, 3, 11, 16])
def test_padding_is_numpy_s(padding, n):
    image = random(1, n, 5)
    tiles, grid = tile(image, (8, 8), 6, padding)
    ends = [8 * -(-length // 8) - length + 3 for length in (n, 5)]
    whole = np.pad(image[0].numpy(), [(3, end) for end in ends], mode=padding)
    for k, (i, j) in enumerate(grid.places):
        assert np.array_equal(tiles[k, 0], whole[8 * i : 8 * i + 14, 8 * j : 8 * j + 14])


def test_one_tile_at_a_time_is_enough():
    image = random(1, 30, 30)
    tiles, grid = tile(image, 8, 4)
    assert torch.equal(untile(iter(tiles), grid), image)


def test_what_is_not_used_does_not_spread():
    tiles, grid = tile(torch.zeros(1, 20), 8, 4)
    tiles[0, 0, 10:] = torch.nan
    assert torch.equal(untile(tiles, grid), torch.zeros(1, 20))


def local(head=None):
    """Scores by three 3x3 convolutions, which see 7 pixels, ties by four, which see 9."""
    torch.manual_seed(3)
    return BasicCnn(width=5, num_classes=1, head=head).double().eval()


@pytest.mark.parametrize("shape", [(50, 37), (16, 64), (8, 8), (33, 90)])
@pytest.mark.parametrize("combine", ["discard", "joint"])
def test_a_local_network_gives_what_it_gives_for_the_whole(shape, combine):
    network, image = local(), random(3, *shape)
    whole = network(image[None])[0].detach()
    # Three 3x3 convolutions see 7 pixels, so an overlap of 6 is enough and 4 is not.
    assert (predict_tiled(network, image, 8, 6, combine) - whole).abs().max() < 1e-14
    if max(shape) > 12:
        assert (predict_tiled(network, image, 8, 4, combine) - whole).abs().max() > 1e-6


class Averages(nn.Module):
    """Forty means over 3x3 windows, by weights that know where the picture ends."""

    ties = WindowWeights(3)

    def forward(self, scores, weights):
        for _ in range(40):
            neighbours = F.unfold(scores, 3, padding=1).view_as(weights)
            scores = (weights * neighbours).sum(dim=1, keepdim=True)
        return scores


@pytest.mark.parametrize("head", [SoftCut(Cholesky()), Averages()])
def test_joint_is_the_whole_picture_and_the_others_are_not(head):
    network, image = local(head), random(3, 70, 53)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
        whole = network(image[None])[0]
    size, overlap = 24, 8  # the edges see 9 pixels
    error = {
        combine: float((predict_tiled(network, image, size, overlap, combine) - whole).abs().max())
        for combine in ("joint", "discard", "weighted")
    }
    assert error["joint"] < 1e-9 * float(whole.abs().max())
    assert error["discard"] > 1e-3 * float(whole.abs().max())
    assert error["weighted"] > 1e-3 * float(whole.abs().max())


@pytest.mark.parametrize("edges", ["convolution", "contrast"])
def test_joint_takes_a_network_that_was_given_a_head(edges):
    torch.manual_seed(0)
    scorer = nn.Conv2d(3, 1, 3, padding=1)
    network = with_head(scorer, SoftCut(Cholesky()), edges=edges).double().eval()
    image = random(3, 40, 31)
    with torch.no_grad():
        whole = network(image[None])[0]
    found = predict_tiled(network, image, 16, 8, "joint")
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(50, 37), (16, 64)])
def test_constant_weights_are_monai_s(shape):
    # A network that sees the whole tile: no two tiles agree.
    network = nn.Conv2d(3, 2, 9, padding=4).double()
    image = random(3, *shape)
    theirs = sliding_window_inference(image[None], (16, 16), 2, network, overlap=0.25, mode="constant")
    ours = predict_tiled(network, image, 12, 4, "weighted", "constant")
    assert (ours - theirs[0]).abs().max() < 1e-13
    assert (ours - network(image[None])[0]).abs().max() > 1e-3


def test_a_batch_is_its_pictures():
    network, images = local(), random(3, 3, 30, 20)
    tiled = TiledNetwork(network, 8, 4)(images)
    for image, logits in zip(images, tiled, strict=True):
        assert torch.equal(predict_tiled(network, image, 8, 4), logits)


def test_the_network_sees_tiles_only_and_gets_its_mode_back():
    class Watched(nn.Module):
        def forward(self, images):
            assert images.shape[2:] == (12, 12)
            assert not self.training
            assert not torch.is_grad_enabled()
            return images[:, :1]

    network = Watched()
    assert torch.equal(predict_tiled(network, random(3, 100, 60), 8, 4), random(3, 100, 60)[:1])
    assert network.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"^size: expected one number >= 1 or 2 of them, got 0"),
        ({"size": (3,)}, r"^size: expected"),
        ({"overlap": -1}, r"^overlap: expected 0 or more, got -1"),
        ({"padding": "zeros"}, r"^padding: expected reflect, edge or None, got 'zeros'"),
    ],
)
def test_bad_tiles(arguments, message):
    with pytest.raises(ValueError, match=message):
        tile(torch.zeros(3, 8, 8), **arguments)


def test_bad_arguments():
    tiles, grid = tile(torch.zeros(3, 20, 20), 8, 4)
    with pytest.raises(ValueError, match=r"^image: expected at least one pixel"):
        tile(torch.zeros(3, 0, 8))
    with pytest.raises(ValueError, match=r"^image: expected \(C, \*spatial\)"):
        tile(torch.zeros(3))
    with pytest.raises(ValueError, match=r"^tiles: expected 4, got 3"):
        untile(tiles[:3], grid)
    with pytest.raises(ValueError, match=r"^tiles: expected 4 of shape .* at 4"):
        untile(torch.cat([tiles, tiles]), grid)
    with pytest.raises(ValueError, match=r"^tiles: expected 4 of shape"):
        untile(tiles[..., 1:], grid)
    with pytest.raises(ValueError, match=r"^tiles: expected floating point"):
        untile(tiles.long(), grid, "weighted")
    with pytest.raises(ValueError, match=r"^combine: expected one of discard, weighted, got 'joint'"):
        untile(tiles, grid, "joint")
    with pytest.raises(ValueError, match=r"^window: expected one of linear, cosine, constant, got 'hat'"):
        untile(tiles, grid, "weighted", "hat")
    with pytest.raises(ValueError, match=r"^combine: expected a network .* got Conv2d"):
        predict_tiled(nn.Conv2d(3, 1, 1), torch.zeros(3, 8, 8), combine="joint")
    with pytest.raises(ValueError, match=r"^tile: expected"):
        predict_tiled(local(), torch.zeros(3, 8, 8), tile=0)
    with pytest.raises(ValueError, match=r"^overlap: expected"):
        predict_tiled(local(), torch.zeros(3, 8, 8), overlap=-1)
