"""WeizmannHorses on files of the same layout, and on the real database where there is one."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data import WeizmannHorses

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "horses"
needs_horses = pytest.mark.skipif(
    not DATA.is_dir(), reason="the Weizmann horses are not here; set FLOWCUT_DATA to the folder with horses/"
)


@pytest.fixture
def root(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(4):
        size = (20 + i, 30)
        Image.fromarray(np.full((*size, 3), 40 * i, dtype=np.uint8)).save(
            tmp_path / "images" / f"horse{i}.jpg"
        )
        mask = np.zeros(size, dtype=np.uint8)
        mask[:, :15] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"horse{i}.png")
    for split, ids in (("train", "horse3\nhorse0\n"), ("val", "horse1\n"), ("test", "horse2")):
        (tmp_path / f"{split}.txt").write_text(ids)
    return tmp_path


def test_lists_make_splits(root):
    assert WeizmannHorses(root, "train").ids == ["horse3", "horse0"]
    assert WeizmannHorses(root, "val").ids == ["horse1"]
    item = WeizmannHorses(root, "test", size=(10, 12))[0]
    assert item["id"] == "horse2"
    assert item["image"].shape == (3, 10, 12)
    assert torch.equal(item["target"], (torch.arange(12) < 6).long().expand(10, -1))


def test_own_size_and_revealed_share(root):
    assert WeizmannHorses(root, "train", size=None)[0]["image"].shape == (3, 23, 30)
    target = WeizmannHorses(root, "train", size=None, reveal=0.01)[0]["target"]
    assert int((target != 255).sum()) == 7


def test_bad_arguments(root, tmp_path):
    with pytest.raises(ValueError, match=r"^split: expected one of train, val, test, got 'dev'"):
        WeizmannHorses(root, "dev")
    with pytest.raises(ValueError, match=r"^root: expected images/, masks/ and val.txt"):
        WeizmannHorses(tmp_path / "none", "val")
    (root / "val.txt").write_text("horse9")
    with pytest.raises(ValueError, match=r"^ids: .*'horse9'"):
        WeizmannHorses(root, "val")


@needs_horses
def test_the_real_database():
    splits = {split: WeizmannHorses(DATA, split) for split in ("train", "val", "test")}
    assert [len(s) for s in splits.values()] == [180, 30, 52]
    assert len({i for s in splits.values() for i in s.ids}) == 262
    item = splits["test"][0]
    assert item["image"].shape == (3, 128, 128)
    assert item["target"].unique().tolist() == [0, 1]


@needs_horses
@pytest.mark.slow
def test_every_real_pair_is_whole():
    for split in ("train", "val", "test"):
        for item in WeizmannHorses(DATA, split):
            assert 0.005 < item["target"].double().mean() < 0.9, item["id"]
