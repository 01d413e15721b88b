"""TextureMosaic: determinism, exact masks, splits without shared pixels, no network."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import data as photographs

from flowcut.vision.data import TextureMosaic
from flowcut.vision.data.mosaic import PARTS, TEXTURES, _cells, _kinds, _mirror, _patch, _texture

SPLITS = ("train", "val", "test")


def test_items_depend_on_seed_split_and_index_alone():
    data = TextureMosaic(length=20, size=32)
    again = TextureMosaic(length=9, size=32)
    for index in (7, 0, 3):
        assert torch.equal(data[index]["image"], again[index]["image"])
        assert torch.equal(data[index]["target"], again[index]["target"])
    others = [data[1], TextureMosaic(size=32, seed=1)[0], TextureMosaic(size=32, split="val")[0]]
    for other in others:
        assert not torch.equal(data[0]["target"], other["target"])
    assert len({item["id"] for item in [data[0], *others]}) == 4
    assert torch.equal(data[-1]["image"], data[19]["image"])


def test_global_random_state_is_neither_used_nor_touched():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    first = TextureMosaic(size=32)[0]["image"]
    assert np.random.random() == np.random.RandomState(3).random()  # noqa: NPY002
    assert torch.equal(first, TextureMosaic(size=32)[0]["image"])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [(24, 40), (150, 130)])
def test_items_are_pictures_with_masks(split, size):
    item = TextureMosaic(length=3, size=size, split=split)[2]
    assert item["image"].shape == (3, *size)
    assert item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() < item["image"].max() <= 1
    assert item["target"].shape == size
    assert item["target"].dtype == torch.int64


def test_both_labels_occur_and_classes_are_named_by_texture():
    for item in TextureMosaic(length=40, size=48):
        assert item["target"].unique().tolist() == [0, 1]
    many = TextureMosaic(length=40, size=48, num_classes=3)
    assert {v for item in many for v in item["target"].unique().tolist()} == {0, 1, 2}
    for index in range(5):
        brick = (many[index]["target"] == TEXTURES.index("brick")).long()
        assert torch.equal(brick, TextureMosaic(length=40, size=48)[index]["target"])


def test_masks_are_exact():
    # Without noise, a pixel of a region is an affine function of some patch of its texture:
    # the residual of the best fit by that very patch is rounding.
    data = TextureMosaic(length=5, size=64, num_textures=2, regions=2, noise=0.0, contrast=0.08)
    for index in range(5):
        item = data[index]
        for label, name in enumerate(("grass", "brick")):
            region = item["target"] == label
            assert _fits(item["image"][0][region].double().numpy(), region.numpy(), name, index)
            wrong = torch.roll(region, 11, dims=1)
            assert not _fits(item["image"][0][wrong].double().numpy(), wrong.numpy(), name, index)


def _fits(values: np.ndarray, region: np.ndarray, name: str, index: int) -> bool:
    """Whether the values are an affine image of the patch that the item's generator draws."""
    rng = np.random.default_rng([0, 0, index])
    _cells(rng, region.shape, 2)
    kinds = _kinds(rng, 2, 2)
    for kind in kinds:
        patch = _patch(rng, _texture(TEXTURES[kind], "train", 1 / 3), region.shape)
        rng.uniform(), rng.uniform()
        if TEXTURES[kind] == name:
            design = np.stack([patch[region], np.ones(region.sum())], axis=1)
            residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
            return bool(np.abs(residual).max() < 1e-6)
    raise AssertionError(name)


def test_splits_share_no_pixel_of_the_photographs():
    edges = [share for split in SPLITS for share in PARTS[split]]
    assert edges == sorted(edges)
    assert edges[0] == 0
    assert edges[-1] == 1
    for name in TEXTURES:
        widths = [_texture(name, split).shape[1] for split in SPLITS]
        assert sum(widths) == getattr(photographs, name)().shape[1]


@pytest.mark.parametrize("split", SPLITS)
def test_patches_stay_in_their_part(split):
    rng = np.random.default_rng(0)
    marked = np.broadcast_to(
        np.arange(_texture("brick", split).shape[1]), (512, _texture("brick", split).shape[1])
    )
    for _ in range(20):
        patch = _patch(rng, marked, (40, 300))
        assert np.abs(np.diff(patch, axis=1)).max() <= 1


def test_mirrored_indices():
    assert _mirror(np.arange(8), 3).tolist() == [0, 1, 2, 2, 1, 0, 0, 1]


def test_textures_have_one_brightness():
    for split in SPLITS:
        for name in TEXTURES:
            texture = _texture(name, split)
            assert abs(texture.mean()) < 1e-12
            assert texture.std() == pytest.approx(1)


def test_reveal():
    whole, some = TextureMosaic(size=32)[0]["target"], TextureMosaic(size=32, reveal=0.01)[0]["target"]
    assert int((some != 255).sum()) == 10
    assert torch.equal(some[some != 255], whole[some != 255])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"length": 0}, "length"),
        ({"size": 0}, "size"),
        ({"seed": -1}, "seed"),
        ({"split": "dev"}, "split"),
        ({"num_textures": 4}, "num_textures"),
        ({"num_textures": 2, "num_classes": 3}, "num_classes"),
        ({"regions": 1}, "regions"),
        ({"scale": 0.0}, "scale"),
        ({"scale": 1.5}, "scale"),
        ({"contrast": 0.0}, "contrast"),
        ({"noise": -0.1}, "noise"),
        ({"reveal": 2.0}, "reveal"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        TextureMosaic(**arguments)


def test_index_out_of_range():
    with pytest.raises(IndexError):
        TextureMosaic(length=2)[2]


def test_photographs_come_with_the_package(tmp_path):
    # A fresh home has no download cache, and no socket can be opened.
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from flowcut.vision.data import TextureMosaic\n"
        "for split in ('train', 'val', 'test'):\n"
        "    print(tuple(TextureMosaic(size=16, split=split)[0]['image'].shape))\n"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(3, 16, 16)"] * 3
    # Where scikit-image would put what it downloads.
    assert not (tmp_path / "cache" / "scikit-image").exists()
