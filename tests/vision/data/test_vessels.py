"""DriveVessels on files of the same layout, and on the real pictures where they are."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data import DriveVessels
from flowcut.vision.metrics import Accuracy, IoU
from flowcut.vision.pictures import PictureError, read_mask
from tests.train.helpers import write_drive

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "vessels"
needs_drive = pytest.mark.skipif(
    not (DATA / "DRIVE").is_dir(), reason="DRIVE is not here; set FLOWCUT_DATA to the folder with vessels/"
)


@pytest.fixture
def root(tmp_path):
    write_drive(tmp_path)
    return tmp_path


def test_lists_make_splits(root):
    ids = {split: DriveVessels(root, split).ids for split in ("train", "val", "test")}
    assert ids == {"train": ["00", "03", "01"], "val": ["02"], "test": ["04", "05"]}


def test_outside_the_field_of_view_nothing_counts(root):
    item = DriveVessels(root, "test")[1]
    vessels = read_mask(root / "DRIVE" / "manual1" / "05.png")
    assert (item["target"][:, 0] == 255).all()
    assert torch.equal(item["target"][:, 1:], vessels[:, 1:])
    wrong_outside = vessels.clone()
    wrong_outside[:, 0] = 1 - vessels[:, 0]
    for metric in (IoU(), Accuracy()):
        metric.update(wrong_outside[None], item["target"][None])
        assert metric.compute().mean == 1


def test_the_second_observer(root):
    item = DriveVessels(root, "val", observer=2)[0]
    second = read_mask(root / "DRIVE" / "manual2" / "02.png")
    assert torch.equal(item["target"][:, 1:], second[:, 1:])


def test_size_and_revealed_share(root):
    item = DriveVessels(root, size=(12, 16), reveal=0.5)[0]
    assert item["image"].shape == (3, 12, 16)
    # The field of view is lost in half of the pixels of the first column; on a tie the smaller label wins.
    assert abs(int((item["target"] != 255).sum()) - 12 * 16 / 2) <= 1


def test_bad_arguments(root):
    with pytest.raises(ValueError, match=r"^observer: expected 1 or 2, got 3"):
        DriveVessels(root, observer=3)
    with pytest.raises(ValueError, match=r"^split: expected one of train, val, test, got 'dev'"):
        DriveVessels(root, "dev")
    with pytest.raises(ValueError, match=r"^root: expected DRIVE/ and DRIVE_val.txt, got .*none without"):
        DriveVessels(root / "none", "val")
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save(root / "DRIVE" / "fov" / "02.png")
    with pytest.raises(PictureError, match=r"02\.png: expected \(24, 32\) pixels, got \(3, 3\)"):
        DriveVessels(root, "val")[0]
    (root / "DRIVE" / "fov" / "00.png").unlink()
    with pytest.raises(ValueError, match=r"^root: expected a field of view for 00, got none in"):
        DriveVessels(root)
    shutil.rmtree(root / "DRIVE" / "fov")
    with pytest.raises(ValueError, match=r"^root: expected a folder, got .*fov"):
        DriveVessels(root)


@needs_drive
def test_the_real_pictures():
    splits = {split: DriveVessels(DATA, split) for split in ("train", "val", "test")}
    assert [len(s) for s in splits.values()] == [16, 4, 12]
    assert len({i for s in splits.values() for i in s.ids}) == 32
    item = splits["test"][0]
    assert item["image"].shape == (3, 584, 565)
    assert item["target"].unique().tolist() == [0, 1, 255]
    inside = item["target"] != 255
    assert 0.6 < inside.double().mean() < 0.75
    assert 0.08 < item["target"][inside].double().mean() < 0.17
