"""The command behind the results of DRIVE and ISBI 2012, on small files of their layout, and its tables."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from experiments import drive_isbi
from PIL import Image

from docs import results
from flowcut.train.recipe import DataRecipe, NetworkRecipe, TrainingRecipe
from flowcut.vision.pictures import read_mask
from tests.train.helpers import tiny_recipe, write_drive, write_isbi

HEADS = {"base": "none", "softcut": "soft_cut", "flow": "linear_assignment_flow"}


@pytest.fixture
def data(tmp_path):
    write_drive(tmp_path / "data" / "vessels")
    write_isbi(tmp_path / "data" / "isbi2012")
    return tmp_path / "data"


def small_recipe(name, folder, seed):
    kind, head = name.split("_")
    kind, inner = {"drive": ("drive", "vessels"), "isbi": ("isbi2012", "isbi2012")}[kind]
    return tiny_recipe(
        dataset=DataRecipe(kind=kind, root=str(folder / inner), size=None, crop=(16, 16)),
        network=NetworkRecipe(width=2, head=HEADS[head]),
        training=TrainingRecipe(epochs=1, batch_size=3, device="cpu", seed=seed),
    )


def test_everything_is_trained_once_and_written(data, tmp_path, monkeypatch):
    monkeypatch.setattr(drive_isbi, "recipe_of", small_recipe)
    output = tmp_path / "results"
    command = ["", "--data", data, "--runs", tmp_path / "runs", "--output", output, "--seeds", "0", "7"]
    trained = ["drive_base", "drive_softcut", "drive_flow", "isbi_flow"]
    monkeypatch.setattr(sys, "argv", list(map(str, [*command, "--only", *trained])))
    drive_isbi.main()
    names = [f"{name}.json" for name in [*trained, "drive_observer"]]
    # A picture compares all three heads.
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, "drive.png"])
    runs = json.loads((output / "isbi_flow.json").read_text())["runs"]
    assert [run["seed"] for run in runs] == [0, 7]
    assert runs[0]["test"] != runs[1]["test"]
    written = {path.name: path.read_bytes() for path in output.iterdir()}

    again = []
    monkeypatch.setattr(drive_isbi, "fit", lambda recipe, folder, overwrite: again.append(folder.name))
    drive_isbi.main()
    assert again == []
    assert {path.name: path.read_bytes() for path in output.iterdir()} == written
    changed = TrainingRecipe(epochs=2, batch_size=3, device="cpu", seed=7)
    monkeypatch.setattr(
        drive_isbi,
        "recipe_of",
        lambda name, folder, seed: (
            replace(small_recipe(name, folder, seed), training=changed)
            if (name, seed) == ("drive_softcut", 7)
            else small_recipe(name, folder, seed)
        ),
    )
    drive_isbi.main()
    assert again == ["drive_softcut_7"]
    height, width = np.asarray(Image.open(io.BytesIO(written["drive.png"]))).shape[:2]
    assert (height > 2 * 320, width > 3 * 320) == (True, True)


def test_committed_recipes_get_folder_and_seed(tmp_path):
    recipe = drive_isbi.recipe_of("drive_flow", tmp_path, 5)
    assert recipe.dataset.root == str(tmp_path / "vessels")
    assert (recipe.training.seed, recipe.network.head) == (5, "linear_assignment_flow")


def test_the_second_observer_is_scored_inside_the_field_of_view(data):
    scores = drive_isbi.second_observer(data)["test"]
    ious = []
    for name in ("04", "05"):
        first, second = (
            read_mask(data / "vessels" / "DRIVE" / f"manual{n}" / f"{name}.png")[:, 1:].numpy()
            for n in (1, 2)
        )
        ious.append((first & second).sum() / (first | second).sum())
    assert scores["iou"]["count"] == 2
    assert scores["iou"]["mean"] == pytest.approx(np.mean(ious))


def training(iou, seconds, parameters):
    scores = {"iou": iou, "accuracy": 0.5, "distinct_figures": 3.25}
    return {
        "test": {name: {"mean": m, "standard_error": 0.01, "count": 12} for name, m in scores.items()},
        "parameters": parameters,
        "seconds_per_epoch": seconds,
        "seconds_total": 30 * seconds,
        "epochs": 30,
        "device": "cpu",
        "threads": 1,
        "versions": {"torch": "2.0"},
    }


def test_a_table_averages_over_the_seeds(tmp_path):
    folder = tmp_path / "experiments" / "results"
    folder.mkdir(parents=True)
    assert results.block("drive", full=True, root=tmp_path) == results.NOT_MEASURED
    for name, content in {
        "drive_flow": {"runs": [training(0.6, 4.0, 2000), training(0.7, 8.0, 2000)]},
        "drive_base": {"runs": [training(0.5, 1.0, 1000), training(0.5, 1.0, 1000)]},
        "drive_observer": {"test": training(0.8, 0.0, 0)["test"]},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    rows = results.block("drive", full=False, root=tmp_path).splitlines()
    assert rows[2:5] == [
        "| drive_base | 0.500 ± 0.010 | 0.500–0.500 | 0.500 ± 0.010 | 3.2 ± 0.0 | 1,000 | 1.0 | 0.5 |",
        "| drive_flow | 0.650 ± 0.010 | 0.600–0.700 | 0.500 ± 0.010 | 3.2 ± 0.0 | 2,000 | 6.0 | 3.0 |",
        "| drive_observer | 0.800 ± 0.010 | – | 0.500 ± 0.010 | 3.2 ± 0.0 | – | – | – |",
    ]
    assert "over 12 test pictures, both averaged over 2 seeds" in rows[-1]
    assert "30 epochs. cpu, 1 threads; torch 2.0." in rows[-1]
    (folder / "drive.png").write_bytes(b"")
    assert "](../experiments/results/drive.png)" in results.block("drive", full=True, root=tmp_path)
