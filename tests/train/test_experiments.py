"""The committed recipes: readable, twins but for the head, and trained on where the data is."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from flowcut.train.fit import fit
from flowcut.train.recipe_file import read_recipe

ROOT = Path(__file__).parents[2]
# Other YAML files there are no recipes of trainings.
DATA_SETS = ("drive", "horses", "isbi")
RECIPES = sorted(p for p in (ROOT / "experiments").glob("*.yaml") if p.stem.split("_")[0] in DATA_SETS)
DATA = Path(os.environ.get("FLOWCUT_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_committed_recipe_is_readable(path):
    read_recipe(path)


def test_the_horses_twins_differ_by_the_head_alone():
    base, cut = (read_recipe(ROOT / "experiments" / f"horses_{name}.yaml") for name in ("base", "softcut"))
    assert (base.network.head, cut.network.head) == ("none", "soft_cut")
    assert replace(base, network=replace(base.network, head="soft_cut")) == cut


@pytest.mark.parametrize("name", ["drive", "isbi"])
def test_three_recipes_differ_by_the_head_alone(name):
    made = [read_recipe(ROOT / "experiments" / f"{name}_{head}.yaml") for head in ("base", "softcut", "flow")]
    assert [r.network.head for r in made] == ["none", "soft_cut", "linear_assignment_flow"]
    for other in made[1:]:
        assert replace(other, network=replace(other.network, head="none")) == made[0]


@pytest.mark.skipif(not (DATA / "horses").is_dir(), reason="no Weizmann horses (set FLOWCUT_DATA)")
@pytest.mark.slow
def test_one_small_epoch_on_real_horses(tmp_path):
    recipe = read_recipe(ROOT / "experiments" / "horses_softcut.yaml")
    recipe = replace(
        recipe,
        dataset=replace(recipe.dataset, root=str(DATA / "horses"), size=(48, 64)),
        training=replace(recipe.training, epochs=1),
    )
    result = fit(recipe, tmp_path, progress=False, say=None)
    assert result.metrics["test"]["iou"]["count"] == 52
