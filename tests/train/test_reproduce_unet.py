"""Experiments 2 to 11 of the SoftCut thesis: rows by name, recipes that differ in one thing, tiny runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from flowcut.train.recipe import Recipe
from flowcut.train.reproduce.experiment import Workspace
from flowcut.train.reproduce.recipe import read_experiment
from flowcut.train.reproduce.run import reproduce
from flowcut.train.reproduce.thesis_tables import THESIS
from flowcut.train.reproduce.trainings import run_training, score_training
from flowcut.train.reproduce.unet_recipes import Row, Settings, recipe_of
from flowcut.vision.data import CAMVID_CLASSES
from tests.train.helpers import tiny_recipe

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "experiments" / f"experiment-{number}.yaml" for number in range(2, 12)]
TINY = {
    "size": [64, 64],
    "tile": 32,
    "tiles": 1,
    "test_tiles": 1,
    "epochs": 1,
    "batch_size": 2,
    "decoder_channels": [4, 4, 4, 4, 4],
    "encoder": "mobilenet_v2",
}


def write_camvid(root: Path) -> None:
    """Four streets in the layout of CamVid, with a sign, a car and a pedestrian in each."""
    for name in ("images", "labels"):
        (root / "camvid" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        labels = np.full((64, 64), CAMVID_CLASSES.index("Road"), dtype=np.uint8)
        for name, row in (("SignSymbol", 4), ("Car", 24), ("Pedestrian", 44)):
            left = int(rng.integers(40))
            labels[row : row + 14, left : left + 14] = CAMVID_CLASSES.index(name)
        pixels = np.stack([20 * labels] * 3, axis=2) + rng.integers(0, 30, (64, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / "camvid" / "images" / f"{i}.png")
        Image.fromarray(labels).save(root / "camvid" / "labels" / f"{i}.png")
    for split, names in (("train", "01"), ("val", "2"), ("test", "3")):
        (root / "camvid" / f"{split}.txt").write_text("\n".join(names) + "\n")


def tiny(number: int, folder: Path, **settings):
    """A committed experiment with tiny settings."""
    file = yaml.safe_load((ROOT / "experiments" / f"experiment-{number}.yaml").read_text())
    file["small"] |= TINY | {"seeds": [0, 1]} | settings
    path = folder / f"experiment-{number}.yaml"
    path.write_text(yaml.safe_dump(file))
    return read_experiment(path, "small")


def run_tiny(number: int, folder: Path, **settings):
    threads = torch.get_num_threads()
    told = []
    try:
        found = reproduce(
            tiny(number, folder, **settings),
            folder / f"experiment-{number}",
            data=folder,
            resume=(folder / f"experiment-{number}").exists(),
            say=told.append,
        )
    finally:
        torch.set_num_threads(threads)
    return found, told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_full_size_is_the_thesis_and_small_is_what_is_published(path):
    full, small = (read_experiment(path, scale) for scale in ("paper", "small"))
    assert full.published == "small"
    assert (full.settings.dataset, small.settings.dataset) == ("cityscapes", "camvid")
    assert (full.settings.tile, full.settings.batch_size, full.settings.epochs) == (256, 32, 100)
    assert path.stem == f"experiment-{full.settings.experiment}"
    # Whatever the thesis has a number for is a row, and the other way round.
    numbers = set(THESIS[full.settings.experiment])
    assert set(full.settings.rows) == numbers or full.settings.experiment == 9
    assert set(full.settings.rows) <= numbers
    assert len(small.settings.seeds) == 3


@pytest.mark.parametrize(
    "name",
    ["", "other", "base+max_flow", "exact/dice", "exact/focal", "exact+cut", "exact+", "exact/+max_flow"],
)
def test_rows_of_other_names_are_refused(name):
    with pytest.raises(ValueError, match="rows: expected"):
        Row(name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiment": 1}, "experiment: expected one of"),
        ({"tile": 40}, "tile: expected multiples of 32, got 40"),
        ({"overlap": -32}, "tile: expected multiples of 32"),
        ({"tiles": 0}, "tiles: expected an integer >= 1"),
        ({"rows": ()}, "rows: expected an integer >= 1"),
        ({"lr": 0.0}, "lr: expected"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


def test_rows_differ_by_head_or_loss_alone():
    settings = Settings(dataset="camvid", size=(64, 64), tile=32)
    base = recipe_of(settings, Row("base"), "x", 3)
    for name in ("submodular", "exact", "approximate"):
        other = recipe_of(settings, Row(name), "x", 3)
        assert replace(other, network=base.network) == base
        focal = recipe_of(settings, Row(f"{name}/focal_dice"), "x", 3)
        assert replace(focal, loss=other.loss) == other
    assert base.training.seed == 3
    # The sum of the residuals of a batch at which the thesis stops, whatever the batch.
    atol = recipe_of(settings, Row("approximate"), "x", 0).network.atol
    assert atol * settings.batch_size * 32**2 == pytest.approx(1e-6 * 32 * 256**2)
    assert recipe_of(Settings(batch_size=64), Row("approximate"), "x", 0).network.atol == 1e-6


@pytest.mark.parametrize(
    ("task", "channels", "labels"), [("object", 4, 2), ("multiclass", 3, 3), ("full", 3, 4)]
)
def test_roles_of_the_data(task, channels, labels):
    data = recipe_of(Settings(task=task, tile=64), Row("base"), "x", 0).dataset
    assert (4 if data.click else 3, data.labels) == (channels, labels)
    assert data.crop == ((96, 96) if task == "full" else (64, 64))


def test_max_flow_is_another_inference_of_the_same_networks(tmp_path):
    write_camvid(tmp_path)
    rows = ["base", "submodular", "approximate", "submodular+max_flow", "approximate+max_flow"]
    found, told = run_tiny(8, tmp_path, rows=rows)
    assert sum("started" in line for line in told) == 6
    again, told = run_tiny(8, tmp_path, rows=rows)
    assert not told
    assert again["values"] == found["values"]
    (table,) = found["tables"]
    assert [row[0] for row in table["cells"]] == [Row(name).label for name in rows]
    assert {len(row) for row in table["cells"]} == {len(table["header"])}
    scores = found["values"]["approximate+max_flow"]["scores"]
    assert [sorted(one) for one in scores] == [["accuracy", "distinct_figures", "iou", "loss"]] * 2
    # The Dice loss of a hard mask is one less its Dice overlap, which is a function of its IoU.
    iou, loss = (np.array([one[key] for one in scores]) for key in ("iou", "loss"))
    np.testing.assert_allclose(loss, 1 - 2 * iou / (1 + iou), atol=1e-6)
    folder = tmp_path / "experiment-8"
    assert not list(folder.glob("work/*/checkpoints"))
    assert Image.open(folder / "private_photographs.png").size[0] > Image.open(folder / "picture.png").size[0]

    # Experiment 7 has some of the same trainings.
    _, told = run_tiny(7, tmp_path, rows=["base", "approximate", "approximate/focal_dice"])
    assert sum("started" in line for line in told) == 2
    assert all(line.startswith("approximate_focal_dice_") for line in told)
    assert json.loads((tmp_path / "experiment-7" / "result.json").read_text())["scale"] == "small"

    # Both together: the difference of the same networks counts once.
    path = tmp_path / "softcut_summary.yaml"
    file = yaml.safe_load((ROOT / "experiments" / "softcut_summary.yaml").read_text())
    file["settings"] = {
        "experiments": ["experiment-8", "experiment-7"],
        "pairs": {"approximate": "base", "approximate+max_flow": "approximate"},
    }
    path.write_text(yaml.safe_dump(file))
    summary = reproduce(read_experiment(path), tmp_path / "softcut_summary", say=told.append)
    assert list(summary["values"]["approximate"]) == ["experiment-8"]
    expected = [np.mean(one["iou"]) for one in found["values"]["approximate"]["scores"]]
    expected -= np.array([np.mean(one["iou"]) for one in found["values"]["base"]["scores"]])
    np.testing.assert_allclose(summary["values"]["approximate"]["experiment-8"]["iou"], expected)
    assert [row[3] for row in summary["tables"][0]["cells"]] == ["2", "2"]
    file["settings"]["experiments"] = ["experiment-2"]
    path.write_text(yaml.safe_dump(file))
    with pytest.raises(ValueError, match="experiments: expected a finished run in"):
        reproduce(read_experiment(path), tmp_path / "other", say=told.append)


@pytest.mark.parametrize("number", [5, 10, 11])
def test_other_roles_run(number, tmp_path):
    write_camvid(tmp_path)
    found, _ = run_tiny(number, tmp_path, rows=["base", "approximate"], seeds=[0], overlap=32)
    assert found["rows"][-1]["what"] == "test pictures"
    assert int(found["rows"][-1]["ours"]) >= 1
    assert ("thesis: time" in found["tables"][0]["header"]) == (number == 11)


def test_trainings_of_another_recipe_are_not_taken_over(tmp_path):
    def workspace(name):
        return Workspace(tmp_path / name / "work", None, told.append)

    told: list[str] = []
    recipe: Recipe = tiny_recipe()
    run_training("a", recipe, workspace("one"))
    taken = run_training("a", recipe, workspace("two"), reuse=("none", "one"))
    assert taken.folder == tmp_path / "one" / "work" / "a"
    scores = score_training(taken, recipe, "again")
    assert scores["iou"] == taken.scores["iou"]
    told.clear()
    other = replace(recipe, optimizer=replace(recipe.optimizer, lr=0.5))
    assert run_training("a", other, workspace("two"), reuse=("one",)).folder.parent.parent.name == "two"
    assert "a: started" in told
