"""The commands one after another on a folder of pictures, as a newcomer would call them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.apps.main import main
from flowcut.vision.pictures import read_mask
from tests.train.helpers import write_pairs

TINY = ["--training.epochs=2", "--training.batch_size=4", "--network.width=4", "--dataset.size=[32,32]"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Twelve pairs of pictures, and a network trained on them from the command line."""
    folder = tmp_path_factory.mktemp("world")
    images, masks = write_pairs(folder, 12, size=40)
    arguments = ["train", "--images", str(images), "--masks", str(masks), "--output", str(folder / "run")]
    assert main([*arguments, *TINY]) == 0
    return folder


def json_of(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_training_without_a_recipe_leaves_a_whole_run_folder(world):
    names = {path.name for path in (world / "run").iterdir()}
    assert names == {
        "best.pt",
        "checkpoints",
        "history.csv",
        "metrics.json",
        "panel.png",
        "recipe.yaml",
        "tensorboard",
    }


def test_train_prints_json_alone_on_standard_output(world, capsys):
    recipe = str(world / "run" / "recipe.yaml")
    result = json_of(["train", recipe, "--output", str(world / "again"), "--json"], capsys)
    assert result["checkpoint"] == str(world / "again" / "best.pt")
    first = json.loads((world / "run" / "metrics.json").read_text())
    assert result["test"] == first["test"]


def test_the_command_line_stands_above_the_recipe(world, capsys):
    recipe = str(world / "run" / "recipe.yaml")
    arguments = ["train", recipe, "--output", str(world / "one"), "--training.epochs", "1", "--json"]
    assert json_of(arguments, capsys)["epochs"] == 1


def test_resume_goes_on(world, capsys):
    recipe = str(world / "run" / "recipe.yaml")
    arguments = ["train", recipe, "--output", str(world / "two"), "--json"]
    assert json_of([*arguments, "--training.epochs=1"], capsys)["epochs"] == 1
    assert json_of([*arguments, "--resume"], capsys)["epochs"] == 2


def test_predict_writes_a_mask_and_an_overlay_of_each_picture(world, capsys):
    result = json_of(
        [
            "predict",
            str(world / "run/best.pt"),
            str(world / "images"),
            "--output",
            str(world / "out"),
            "--json",
        ],
        capsys,
    )
    assert set(result["masks"]) == {path.stem for path in (world / "images").iterdir()}
    for path in result["masks"].values():
        assert read_mask(path).shape == (40, 40)
    for path in result["overlays"].values():
        assert Image.open(path).size == (40, 40)


def test_predict_in_tiles_solved_jointly_is_close_to_predicting_whole(world, tmp_path, capsys):
    """In the picture's own size, which is not the one of the training: both ways see the same pixels."""
    common = ["predict", str(world / "run/best.pt"), str(world / "images"), "--json"]
    whole = json_of([*common, "--size=[40,40]", "--output", str(tmp_path / "whole")], capsys)
    tiled = ["--tile=16", "--overlap=16", "--combine=joint", "--output", str(tmp_path / "tiles")]
    found = json_of([*common, *tiled], capsys)
    # The receptive field of three 3 x 3 kernels lies within the overlap.
    for name, path in whole["masks"].items():
        assert (read_mask(path) == read_mask(found["masks"][name])).all()
    assert main([*common, "--tile=0", "--output", str(tmp_path / "none")]) == 2
    assert "tile: expected one number >= 1" in capsys.readouterr().err


def test_predict_passes_over_what_is_no_picture_and_says_so(world, tmp_path, capsys):
    item = next((world / "images").iterdir())
    (tmp_path / "good.png").write_bytes(item.read_bytes())
    (tmp_path / "bad.png").write_bytes(item.read_bytes()[:60])
    result = json_of(
        ["predict", str(world / "run/best.pt"), str(tmp_path), "--output", str(tmp_path / "out"), "--json"],
        capsys,
    )
    assert list(result["masks"]) == ["good"]
    assert list(result["skipped"]) == ["bad.png"]
    (tmp_path / "good.png").unlink()
    assert (
        main(["predict", str(world / "run/best.pt"), str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    )
    assert "bad.png" in capsys.readouterr().err


def test_evaluating_by_recipe_gives_the_numbers_of_training(world, capsys):
    checkpoint, recipe = str(world / "run/best.pt"), str(world / "run/recipe.yaml")
    result = json_of(["evaluate", checkpoint, "--recipe", recipe, "--json"], capsys)
    assert result == json.loads((world / "run/metrics.json").read_text())["test"]


def test_evaluating_on_folders_agrees_with_counting_pixels(world, capsys):
    result = json_of(
        [
            "evaluate",
            str(world / "run/best.pt"),
            "--images",
            str(world / "images"),
            "--masks",
            str(world / "masks"),
            "--size=[40,40]",
            "--json",
        ],
        capsys,
    )
    main(
        [
            "predict",
            str(world / "run/best.pt"),
            str(world / "images"),
            "--output",
            str(world / "full"),
            "--size=[40,40]",
        ]
    )
    right = []
    for truth in sorted((world / "masks").iterdir()):
        found = read_mask(world / "full" / "masks" / truth.name).numpy()
        right.append(np.mean(found == read_mask(truth).numpy()))
    assert result["accuracy"]["mean"] == pytest.approx(np.mean(right))
    assert result["accuracy"]["standard_error"] == pytest.approx(np.std(right, ddof=1) / len(right) ** 0.5)


def test_evaluate_prints_a_table(world, capsys):
    main(["evaluate", str(world / "run/best.pt"), "--recipe", str(world / "run/recipe.yaml")])
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["metric", "mean", "±", "standard", "error", "pictures"]
    assert {line.split()[0] for line in out.splitlines()[2:]} == {"iou", "accuracy", "distinct_figures"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{run}/best.pt"], "--images DIR and --masks DIR, or --recipe FILE"),
        (
            ["evaluate", "{run}/best.pt", "--recipe", "{run}/recipe.yaml", "--split", "all"],
            "--split: expected",
        ),
        (
            ["evaluate", "{run}/best.pt", "--recipe", "{run}/recipe.yaml", "--images", "x"],
            "--recipe: expected",
        ),
        (["train", "{run}/recipe.yaml", "--output", "{run}"], "already holds a training"),
        (["train", "{run}/recipe.yaml", "--output", "{run}/best.pt/x"], "--output: expected a folder"),
        (["predict", "{run}/metrics.json", "{run}"], "metrics.json: not a flowcut checkpoint"),
        (["predict", "{run}/best.pt", "{run}/best.pt/x", "--output", "{run}/best.pt/y"], "x"),
        (["predict", "{run}/best.pt", "{run}/panel.png", "--output", "{run}/best.pt/y"], "output: expected"),
        (["predict", "{run}/best.pt", "{run}", "--device", "tpu"], "device: expected auto, cpu or cuda"),
    ],
)
def test_errors_are_one_line(world, arguments, message, capsys):
    capsys.readouterr()
    assert main([argument.format(run=world / "run") for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_a_picture_and_a_mask_of_different_size_are_named(world, tmp_path, capsys):
    images, masks = write_pairs(tmp_path, 4)
    odd = sorted(masks.iterdir())[1]
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(odd)
    capsys.readouterr()
    assert (
        main(["train", "--images", str(images), "--masks", str(masks), "--output", str(tmp_path / "run")])
        == 2
    )
    assert odd.name in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_not_ours_runs_no_code(world, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": "flowcut.checkpoint", "version": 1, "config": Trap()}, tmp_path / "a.pt")
    assert main(["predict", str(tmp_path / "a.pt"), str(world / "images")]) == 2
    assert "a.pt: not a flowcut checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()


def test_a_real_process_tells_epochs_on_standard_error(world, tmp_path):
    code = "import sys; from flowcut.apps.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["train", str(world / "run/recipe.yaml"), "--output", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    lines = done.stderr.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[2].startswith("test IoU")
    assert len(lines) == 3
