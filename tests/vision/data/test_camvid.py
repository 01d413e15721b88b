"""Camvid on files of the same layout, and on the real database where there is one."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data import CAMVID_CLASSES, BalancedTiles, Camvid, ClickedObjects

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "camvid"


@pytest.fixture
def root(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.arange(12, dtype=np.uint8).repeat(4).reshape(4, 12)
    for split in ("train", "val", "test"):
        Image.fromarray(np.zeros((4, 12, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{split}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{split}.png")
        (tmp_path / f"{split}.txt").write_text(split)
    return tmp_path


def test_eleven_classes_and_void(root):
    data = Camvid(root, "val")
    assert data.names == CAMVID_CLASSES
    assert data.classes == 11
    assert data[0]["target"].flatten()[::4].tolist() == [*range(11), 255]
    assert torch.equal(data.target(0), data[0]["target"])


def test_some_classes_in_the_order_asked(root):
    data = Camvid(root, "test", classes=["Car", "SignSymbol"])
    assert data.names == ("background", "Car", "SignSymbol")
    assert data.classes == 3
    expected = [0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 255]
    assert data[0]["target"].flatten()[::4].tolist() == expected


def test_size_and_revealed_share(root):
    target = Camvid(root, size=(8, 24), reveal=0.1)[0]["target"]
    assert target.shape == (8, 24)
    assert int((target != 255).sum()) == round(0.1 * 8 * 24 * 11 / 12)


@pytest.mark.parametrize("classes", [[], ["Horse"], ["Car", "Car"]])
def test_bad_classes(root, classes):
    with pytest.raises(ValueError, match=r"^classes: expected different names out of"):
        Camvid(root, classes=classes)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="CamVid is not here; set FLOWCUT_DATA to its parent folder")
def test_the_real_database():
    lengths = [len(Camvid(DATA, split)) for split in ("train", "val", "test")]
    assert lengths == [100, 30, 20]
    item = Camvid(DATA, "test", size=(180, 240))[0]
    assert item["image"].shape == (3, 180, 240)
    assert set(item["target"].unique().tolist()) <= {*range(11), 255}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="CamVid is not here; set FLOWCUT_DATA to its parent folder")
def test_the_roles_of_cityscapes_on_the_real_database():
    signs = Camvid(DATA, "test", size=(180, 240), classes=["SignSymbol"], cache=True)
    tiles = BalancedTiles(signs, 64, count=4, classes=[1], share=0.9)
    held = [bool((tiles[k]["target"] == 1).any()) for k in range(len(tiles))]
    assert np.mean(held) > 0.8
    both = Camvid(DATA, "test", size=(180, 240), classes=["SignSymbol", "Car"], cache=True)
    objects = ClickedObjects(both, enumerate_all=True, min_pixels=20)
    for item in objects:
        assert int((item["target"] == 1).sum()) >= 20
        assert int(item["target"][item["image"][3] == 1]) == 1
    assert len(objects) > 50
