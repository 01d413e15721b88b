"""Real tiny trainings: what lies in the run folder, resuming bit for bit, stopping with a reason."""

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowcut.train.fit import fit, plain_scores
from flowcut.train.pictures import example_columns, look_inside
from flowcut.train.recipe import DataRecipe, LossRecipe, NetworkRecipe, OptimizerRecipe, TrainingRecipe
from flowcut.train.recipe_file import read_recipe
from flowcut.train.task import TrainingDivergedError
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.predict import evaluate_dataset
from tests.train.helpers import tiny_recipe, write_drive, write_isbi, write_pairs


def quiet_fit(recipe, output, **options):
    return fit(recipe, output, progress=False, say=None, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    recipe = tiny_recipe(training=TrainingRecipe(epochs=4, batch_size=4, device="cpu", picture_every=2))
    return recipe, quiet_fit(recipe, tmp_path_factory.mktemp("run"))


def test_run_folder_holds_what_was_promised(finished):
    recipe, result = finished
    assert read_recipe(result.run.recipe) == recipe
    metrics = json.loads(result.run.metrics.read_text())
    assert metrics == result.metrics
    assert metrics["epochs"] == 4
    assert metrics["test"]["iou"]["count"] == 3
    assert metrics["versions"]["torch"] == torch.__version__
    assert 0 < metrics["seconds_per_epoch"] < metrics["seconds_total"]
    with result.run.history.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(
        np.isfinite(float(row[name])) for row in rows for name in ("train_loss", "val_loss", "val_iou")
    )
    # Title row, then one row of pictures for each of the three test items.
    assert Image.open(result.run.panel).height > 3 * 128


def test_written_network_gives_the_written_numbers(finished):
    _, result = finished
    network, _ = load_checkpoint(result.run.weights)
    scores = plain_scores(evaluate_dataset(network, result.splits.test, progress=False))
    assert scores == result.metrics["test"]


def test_best_is_the_epoch_of_lowest_validation_loss(finished):
    _, result = finished
    losses = [row["val_loss"] for row in result.history]
    best = int(np.argmin(losses))
    assert result.metrics["best_epoch"] == best + 1
    loss = torch.nn.BCEWithLogitsLoss()
    batch = [result.splits.val[i] for i in range(4)]
    with torch.no_grad():
        logits = result.network(torch.stack([item["image"] for item in batch]))
    target = torch.stack([item["target"] for item in batch]).float()
    assert loss(logits[:, 0], target).item() == pytest.approx(losses[best], rel=1e-5)


def test_numbers_and_pictures_reach_tensorboard(finished):
    _, result = finished
    events = EventAccumulator(str(result.run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("validation")] == [1, 3]
    logged = [event.value for event in events.Scalars("val_loss")]
    assert logged == pytest.approx([row["val_loss"] for row in result.history])


def test_training_lowers_the_loss(tmp_path):
    recipe = tiny_recipe(
        optimizer=OptimizerRecipe(lr=1e-2), training=TrainingRecipe(epochs=12, batch_size=4, device="cpu")
    )
    history = quiet_fit(recipe, tmp_path).history
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.02


class Interrupted(Exception):
    pass


CROPS = {"size": None, "crop": (16, 12), "crops": 2}


@pytest.mark.parametrize(
    ("head", "crops"),
    [("none", {}), ("soft_cut", {}), ("linear_assignment_flow", {}), ("linear_assignment_flow", CROPS)],
    ids=["none", "soft_cut", "flow", "flow-crops"],
)
def test_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path, head, crops):
    data = tiny_recipe().dataset
    if crops:
        write_drive(tmp_path / "vessels")
        data = DataRecipe(kind="drive", root=str(tmp_path / "vessels"), **crops)
    recipe = tiny_recipe(
        dataset=data,
        network=NetworkRecipe(width=4, head=head),
        training=TrainingRecipe(epochs=4, batch_size=3, device="cpu"),
    )
    whole = quiet_fit(recipe, tmp_path / "whole")

    def interrupt(line):
        if line.startswith("epoch 3/"):
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "parts", progress=False, say=interrupt)
    # What happened to the generators in between must not matter.
    torch.manual_seed(12345)
    torch.rand(7)
    parts = quiet_fit(recipe, tmp_path / "parts", resume=True)

    states = [torch.load(r.run.last, weights_only=True) for r in (whole, parts)]
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys() != set()
    for index, moment in moments[0].items():
        for name, tensor in moment.items():
            assert torch.equal(tensor, moments[1][index][name]), name
    without_time = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in r.history] for r in (whole, parts)
    ]
    # By text, because the error of a single validation picture is NaN, which equals nothing.
    assert repr(without_time[0]) == repr(without_time[1])
    assert whole.metrics["test"] == parts.metrics["test"]


def test_a_flow_head_trained_on_crops_end_to_end(tmp_path):
    write_isbi(tmp_path / "cells")
    recipe = tiny_recipe(
        dataset=DataRecipe(kind="isbi2012", root=str(tmp_path / "cells"), size=None, crop=(16, 16), crops=4),
        network=NetworkRecipe(width=6, head="linear_assignment_flow"),
        optimizer=OptimizerRecipe(lr=2e-2),
        training=TrainingRecipe(epochs=8, batch_size=4, device="cpu", picture_every=3),
    )
    result = quiet_fit(recipe, tmp_path / "run")
    assert result.history[-1]["train_loss"] < 0.95 * result.history[0]["train_loss"]
    assert result.metrics["test"]["iou"]["count"] == 2
    network, config = load_checkpoint(result.run.weights)
    assert config["head"]["name"] == "LinearAssignmentFlow"
    assert set(look_inside(network, result.splits.test[0]["image"])) == {
        "scores",
        "weights",
        "logits",
        "labels",
    }
    assert list(example_columns(network, [result.splits.test[0]]))[-1] == "weights"


def test_resuming_with_more_epochs_goes_on(finished, tmp_path):
    recipe, _ = finished
    short = quiet_fit(replace(recipe, training=replace(recipe.training, epochs=2)), tmp_path)
    assert len(short.history) == 2
    longer = quiet_fit(recipe, tmp_path, resume=True)
    assert [row["epoch"] for row in longer.history] == [1, 2, 3, 4]


def test_same_seed_same_network_other_seed_other_network(tmp_path):
    recipe = tiny_recipe()
    weights = [
        torch.cat([p.flatten() for p in quiet_fit(r, tmp_path / str(i)).network.parameters()])
        for i, r in enumerate([recipe, recipe, replace(recipe, training=replace(recipe.training, seed=1))])
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_divergence_in_the_first_epoch_stops_with_a_reason(tmp_path):
    recipe = tiny_recipe(optimizer=OptimizerRecipe(lr=1e13))
    with pytest.raises(TrainingDivergedError, match=r"loss.* of epoch 1 is (nan|inf)") as stopped:
        quiet_fit(recipe, tmp_path)
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "metrics.json").exists()


def test_divergence_later_keeps_the_last_good_checkpoints(tmp_path):
    recipe = tiny_recipe()
    run = quiet_fit(recipe, tmp_path).run
    # From weights like these the next forward pass overflows.
    state = torch.load(run.last, weights_only=True)
    for tensor in state["state_dict"].values():
        tensor.mul_(1e30)
    torch.save(state, run.last)
    before = {path: path.read_bytes() for path in (run.last, run.best)}
    longer = replace(recipe, training=replace(recipe.training, epochs=5))
    with pytest.raises(TrainingDivergedError, match=r"training loss in step 1 of epoch 3 is (nan|inf)"):
        quiet_fit(longer, tmp_path, resume=True)
    assert {path: path.read_bytes() for path in before} == before
    good = torch.load(run.best, weights_only=True)["state_dict"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in good.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": LossRecipe("dice"), "optimizer": OptimizerRecipe("adagrad", 1e-2)},
        {"dataset": DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(4, 2, 2), num_classes=3)},
        {"dataset": DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(4, 2, 2), reveal=0.01)},
        {"network": NetworkRecipe(width=3, solver="cholesky")},
        {"network": NetworkRecipe(width=3, solver="auto", kernel_size=5)},
        {"network": NetworkRecipe(width=3, head="linear_assignment_flow", window=5, flow_time=2.0)},
        {
            "network": NetworkRecipe(width=3, head="linear_assignment_flow", rho=0.5, krylov_dim=3),
            "dataset": DataRecipe(
                kind="texture_mosaic", size=(32, 32), crop=(16, 16), lengths=(4, 2, 2), num_classes=3
            ),
        },
    ],
    ids=["dice-adagrad", "three-labels", "revealed", "exact", "auto", "flow", "flow-three-labels-crops"],
)
def test_every_choice_of_the_recipe_trains(tmp_path, changes):
    result = quiet_fit(tiny_recipe(**changes), tmp_path)
    assert 0 <= result.metrics["test"]["iou"]["mean"] <= 1
    assert np.isfinite(result.history[-1]["train_loss"])


def test_pictures_of_different_size_train_one_at_a_time(tmp_path):
    write_pairs(tmp_path / "a", 5, size=32)
    write_pairs(tmp_path / "b", 3, size=24, split="val")
    recipe = tiny_recipe(
        dataset=DataRecipe(
            images=str(tmp_path / "a/images"),
            masks=str(tmp_path / "a/masks"),
            val_images=str(tmp_path / "b/images"),
            val_masks=str(tmp_path / "b/masks"),
            size=None,
        ),
        training=TrainingRecipe(epochs=1, batch_size=1, device="cpu"),
    )
    result = quiet_fit(recipe, tmp_path / "run")
    assert len(result.splits.train) == 4
    assert result.metrics["test"]["iou"]["count"] == 1


def test_a_bad_picture_is_named_before_anything_is_written(tmp_path):
    images, masks = write_pairs(tmp_path, 6)
    bad = sorted(images.iterdir())[3]
    bad.write_bytes(bad.read_bytes()[:100])
    recipe = tiny_recipe(dataset=DataRecipe(images=str(images), masks=str(masks), size=(32, 32)))
    with pytest.raises(ValueError, match=bad.name):
        quiet_fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    with pytest.raises(OSError, match="--output: expected a folder that can be written"):
        fit(tiny_recipe(), tmp_path / "file" / "run", progress=False, say=said.append)
    assert said == []


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_resuming_never_runs_code_of_the_checkpoint(tmp_path):
    result = quiet_fit(tiny_recipe(), tmp_path / "run")
    with result.run.last.open("wb") as file:
        pickle.dump(Trap(tmp_path / "sprung"), file)
    with pytest.raises(ValueError, match=r"last\.ckpt: expected a checkpoint of a training"):
        quiet_fit(tiny_recipe(), tmp_path / "run", resume=True)
    assert not (tmp_path / "sprung").exists()
