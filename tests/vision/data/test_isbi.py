"""Isbi2012 on files of the same layout, and on the real slices where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data import Isbi2012
from flowcut.vision.pictures import PictureError
from tests.train.helpers import write_isbi

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "isbi2012"
needs_isbi = pytest.mark.skipif(
    not DATA.is_dir(), reason="ISBI 2012 is not here; set FLOWCUT_DATA to the folder with isbi2012/"
)


@pytest.fixture
def root(tmp_path):
    write_isbi(tmp_path)
    return tmp_path


def test_lists_make_splits(root):
    ids = {split: Isbi2012(root, split).ids for split in ("train", "val", "test")}
    assert ids == {"train": ["00", "03", "01"], "val": ["02"], "test": ["04", "05"]}


def test_membranes_are_label_1(root):
    item = Isbi2012(root, "val")[0]
    written = np.asarray(Image.open(root / "labels" / "02.png"))
    assert torch.equal(item["target"], torch.from_numpy((written == 0).astype(np.int64)))
    assert (item["image"] == item["image"][:1]).all()


def test_size_and_revealed_share(root):
    item = Isbi2012(root, size=16, reveal=0.25)[0]
    assert item["image"].shape == (3, 16, 16)
    assert int((item["target"] != 255).sum()) == 64


def test_bad_arguments(root):
    with pytest.raises(ValueError, match=r"^split: expected one of train, val, test, got 'dev'"):
        Isbi2012(root, "dev")
    with pytest.raises(ValueError, match=r"^root: expected images/, labels/ and val.txt, got"):
        Isbi2012(root / "none", "val")
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(root / "labels" / "02.png")
    with pytest.raises(PictureError, match=r"02\.png: expected mask values"):
        Isbi2012(root, "val")[0]


@needs_isbi
def test_the_real_slices():
    splits = {split: Isbi2012(DATA, split) for split in ("train", "val", "test")}
    assert [len(s) for s in splits.values()] == [18, 2, 4]
    item = splits["test"][0]
    assert item["image"].shape == (3, 512, 512)
    # Membranes are thin: the smaller part, and darker than cells.
    membrane = item["target"] == 1
    assert 0.1 < membrane.double().mean() < 0.4
    assert item["image"][0][membrane].mean() < item["image"][0][~membrane].mean()
