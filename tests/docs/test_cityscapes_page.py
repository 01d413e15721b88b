"""The page of street scenes: its data sets are recipes that the code takes, its numbers are the tables'."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from flowcut.train.datasets import build_datasets
from flowcut.train.recipe_file import read_recipe
from flowcut.vision.data import THESIS_SETS, Camvid
from flowcut.vision.data.cityscapes_facts import TRAIN_CITIES
from tests.vision.data.cityscapes_made import write_cityscapes

CAMVID = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"
PAGE = (Path(__file__).parents[2] / "docs" / "cityscapes.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_there_are_four():
    assert len(RECIPES) == 4


@pytest.mark.parametrize("text", RECIPES)
def test_the_recipes_make_data_sets(text, tmp_path, monkeypatch):
    # Enlarged, for tiles of 288 pixels to fit.
    write_cityscapes(tmp_path / "cityscapes", size=(312, 624))
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("recipe.yaml").dataset
    assert recipe.classes is not None
    assert recipe.num_classes == len(recipe.classes) + 1
    splits = build_datasets(recipe)
    assert splits.train[1, 0]["image"].shape[1:] == recipe.crop
    assert splits.train[1, 0]["image"].shape[0] == 3 + recipe.click


def test_the_numbers_are_those_of_the_tables():
    kept = TRAIN_CITIES["bochum"] + TRAIN_CITIES["zurich"]
    assert f"| 2757 |\n| `val` | bochum, zurich of `train` | {kept} |" in PAGE
    for one in THESIS_SETS.values():
        assert f"{one.train} / {one.val} / {one.test}" in PAGE


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here; set FLOWCUT_DATA to its parent folder")
def test_the_numbers_of_camvid_are_those_of_the_files():
    shares, frames = {1: [], 2: []}, []
    for split in ("train", "val", "test"):
        data = Camvid(CAMVID, split, classes=["SignSymbol", "Car"])
        targets = np.stack([data.target(i).numpy() for i in range(len(data))])
        frames.append(str(len(data)))
        for label, found in shares.items():
            found.append(f"{100 * np.mean(targets == label):.1f}")
    text = " ".join(PAGE.split())
    assert f"({' / '.join(frames)}) signs cover {' / '.join(shares[1])} % of the pixels" in text
    assert f"Cars cover {' / '.join(shares[2])} %" in text
    counts = []
    for size in (None, (180, 240)):
        signs = Camvid(CAMVID, "test", size=size, classes=["SignSymbol"])
        sizes = []
        for i in range(len(signs)):
            parts, _ = ndimage.label(signs.target(i).numpy() == 1)
            sizes += np.bincount(parts.ravel())[1:].tolist()
        counts += [len(sizes), sum(n >= 20 for n in sizes)]
    wanted = "of {} components in the test frames {} have 20 pixels or more, of {} at half the size {}."
    assert wanted.format(*counts) in text
