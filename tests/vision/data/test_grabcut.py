"""The GrabCut reader on a small twin of the folder."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data.grabcut import GrabCut, resize_seeds
from flowcut.vision.pictures import PictureError

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "grabcut"


@pytest.fixture
def root(tmp_path):
    generator = np.random.default_rng(0)
    truth = np.zeros((6, 8), np.uint8)
    truth[2:5, 2:6], truth[1, 2:6] = 255, 128
    strokes = np.zeros((6, 8), np.uint8)
    strokes[3, 3], strokes[0, :3] = 1, 2
    for folder, value in (("gt", truth), ("scribbles1", strokes), ("scribbles2", strokes[::-1])):
        (tmp_path / folder).mkdir()
        Image.fromarray(value).save(tmp_path / folder / "a.png")
    (tmp_path / "images").mkdir()
    Image.fromarray(generator.integers(0, 255, (6, 8, 3), np.uint8)).save(tmp_path / "images" / "a.jpg")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").write_text("a\n")
    return tmp_path


def test_values_are_translated(root):
    item = GrabCut(root)[0]
    assert item["image"].shape == (3, 6, 8)
    assert item["id"] == "a"
    assert item["target"][1].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]
    assert item["target"][3].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert item["seeds"][0].tolist() == [0, 0, 0, 255, 255, 255, 255, 255]
    assert int(item["seeds"][3, 3]) == 1
    assert int((item["seeds"] != 255).sum()) == 4
    assert int(GrabCut(root, scribbles=2)[0]["seeds"][2, 3]) == 1


def test_sizes(root):
    assert GrabCut(root, longest=4)[0]["target"].shape == (3, 4)
    assert GrabCut(root, longest=100)[0]["image"].shape == (3, 6, 8)
    item = GrabCut(root, size=(3, 4))[0]
    assert {tuple(item[key].shape[-2:]) for key in ("image", "target", "seeds")} == {(3, 4)}
    assert item["seeds"].tolist()[0][:2] == [0, 0]
    assert 1 in item["seeds"].tolist()[1]


def test_seeds_are_neither_lost_nor_invented():
    seeds = torch.full((8, 8), 255)
    seeds[:, 0], seeds[0, 4] = 1, 0
    small = resize_seeds(seeds, (2, 2))
    assert small.tolist() == [[1, 255], [1, 255]]  # a quarter of a pixel is enough, a sixteenth is not


def test_refused(root):
    with pytest.raises(ValueError, match="scribbles: expected 1 or 2, got 3"):
        GrabCut(root, scribbles=3)
    with pytest.raises(ValueError, match="longest: expected"):
        GrabCut(root, longest=10, size=(2, 2))
    with pytest.raises(ValueError, match="split: expected"):
        GrabCut(root, "all")
    with pytest.raises(IndexError, match="index: expected -1 to 0, got 1"):
        GrabCut(root)[1]
    (root / "test.txt").write_text("b\n")
    with pytest.raises(ValueError, match="root: expected images/ to hold b"):
        GrabCut(root, "test")


@pytest.mark.parametrize(
    ("folder", "value", "message"),
    [
        ("gt", np.full((6, 8), 64), "128 and 255, got 64"),
        ("gt", np.zeros((6, 7)), r"expected \(6, 8\), got \(6, 7\)"),
        ("scribbles1", np.full((6, 8), 255), "expected scribbles 0, 1 and 2, got 255"),
        ("scribbles1", np.full((6, 8), 7), "got 7"),
    ],
)
def test_a_file_that_does_not_fit_is_named(root, folder, value, message):
    Image.fromarray(value.astype(np.uint8)).save(root / folder / "a.png")
    with pytest.raises(PictureError, match=message):
        GrabCut(root)[0]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no GrabCut pictures (set FLOWCUT_DATA)")
@pytest.mark.parametrize("scribbles", [1, 2])
def test_the_real_scribbles_lie_where_their_readme_says(scribbles):
    data = [GrabCut(DATA, split, scribbles) for split in ("train", "val", "test")]
    assert [len(part) for part in data] == [24, 6, 10]
    spilt = {"189080": 0.208, "388016": 0.068, "cross": 0.035}
    for item in (part[i] for part in data for i in range(len(part))):
        seeds, target = item["seeds"], item["target"]
        outside = float((target[seeds == 1] == 0).double().mean())
        expected = spilt.get(item["id"], 0.0) if scribbles == 2 else 0.0
        assert outside == pytest.approx(expected, abs=0.005), item["id"]
        assert not (target[seeds == 0] == 1).any()
