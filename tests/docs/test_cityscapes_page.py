"""The page of street scenes: its data sets are recipes that the code takes, its numbers are the tables'."""

import re
from pathlib import Path

import pytest

from flowcut.train.datasets import build_datasets
from flowcut.train.recipe_file import read_recipe
from flowcut.vision.data import THESIS_SETS
from flowcut.vision.data.cityscapes_facts import TRAIN_CITIES
from tests.vision.data.cityscapes_made import write_cityscapes

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
