"""Experiments of the SoftCut thesis: differences in pairs, gradients watched, trainings that continue."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from PIL import Image
from scipy import stats

import flowcut as fc
from flowcut.linear.thesis_cg import ThesisCG
from flowcut.train.recipe import DataRecipe
from flowcut.train.reproduce.experiment import Workspace
from flowcut.train.reproduce.gradient_watch import gradient_error
from flowcut.train.reproduce.kinds import softcut_adjoint
from flowcut.train.reproduce.paired import mean_and_interval, paired_difference
from flowcut.train.reproduce.recipe import read_experiment
from flowcut.train.reproduce.run import reproduce
from flowcut.train.reproduce.trainings import run_training, with_seed
from flowcut.vision.data import TextureMosaic
from flowcut.vision.losses import DiceLoss
from tests.train.helpers import tiny_recipe

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "experiments" / f"{name}.yaml" for name in ("experiment-1", "softcut_adjoint")]
TINY = {
    "experiment-1": {"size": [16, 24], "reveal": 0.2, "epochs": 2, "width": 2, "kernel_size": 3},
    "softcut_adjoint": {
        "size": [32, 32],
        "epochs": 2,
        "batch_size": 3,
        "tolerances": [0.1],
        "decoder_channels": [4, 4, 4, 4, 4],
    },
}
FEW = {"seeds": [0, 1]}


def write_horses(root: Path) -> None:
    """Five mosaics in the layout of the horses."""
    for name in ("images", "masks"):
        (root / "horses" / name).mkdir(parents=True)
    for i, item in enumerate(TextureMosaic(5, (32, 40))):
        pixels = (item["image"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(root / "horses" / "images" / f"{i}.jpg")
        mask = item["target"].numpy().astype(np.uint8) * 255
        Image.fromarray(mask).save(root / "horses" / "masks" / f"{i}.png")
    for split, names in (("train", "012"), ("val", "3"), ("test", "4")):
        (root / "horses" / f"{split}.txt").write_text("\n".join(names) + "\n")


def tiny(name: str, folder: Path):
    """A committed experiment with tiny settings."""
    file = yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text())
    file["settings"] = TINY[name] | FEW
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(file))
    return read_experiment(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_a_committed_experiment_loads(path, scale):
    found = read_experiment(path, scale)
    assert isinstance(found.settings, found.kind.settings)
    assert found.name == path.stem


def test_intervals_are_those_of_a_paired_t_test():
    generator = np.random.default_rng(0)
    theirs = generator.normal(size=(3, 7))
    ours = theirs + 0.3 + 0.1 * generator.normal(size=(3, 7))
    found = paired_difference(ours.tolist(), theirs.tolist())
    for axis, half in ((1, found.seeds), (0, found.pictures)):
        interval = stats.ttest_rel(ours.mean(axis), theirs.mean(axis)).confidence_interval(0.95)
        assert (interval.high - interval.low) / 2 == pytest.approx(half)
        assert (interval.high + interval.low) / 2 == pytest.approx(found.mean)
    assert found.sure
    assert not paired_difference([[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]).sure


def test_one_seed_has_no_interval():
    mean, half = mean_and_interval([2.0])
    assert mean == 2.0
    assert math.isnan(half)
    assert not paired_difference([[1.0, 2.0]], [[0.0, 0.0]]).sure
    with pytest.raises(ValueError, match="ours: expected the shape"):
        paired_difference([[1.0]], [[1.0, 2.0]])


def circuit(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 1, 12, 10, generator=generator)
    edges = 5 * torch.rand(2, 2, 12, 10, generator=generator)
    target = (torch.rand(2, 12, 10, generator=generator) < 0.4).long()
    return scores, edges, lambda x: DiceLoss()(x, target)


def test_the_error_of_a_gradient_falls_with_the_tolerance():
    scores, edges, loss = circuit()
    errors = [gradient_error(scores, edges, fc.CG(rtol=r), loss)["error"] for r in (1e-1, 1e-3, 1e-5)]
    assert errors[0] > errors[1] > errors[2]
    exact = gradient_error(scores, edges, fc.Cholesky(), loss)
    assert exact["error"] < 1e-6
    assert exact["cosine"] == pytest.approx(1)


def test_a_rule_that_is_met_at_once_hands_the_gradient_straight_through():
    """x0 = b: no step is taken, so the scores' gradient is the loss' gradient itself."""
    scores, edges, loss = circuit()
    found = gradient_error(scores, edges, ThesisCG(atol=1.0), loss)
    assert found["adjoint_steps"] == 0
    straight = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(straight), straight)
    through = scores.clone().requires_grad_()
    # As forward is not solved either, the loss sees the scores themselves.
    (given,) = torch.autograd.grad(
        loss(fc.soft_cut(through, edges, solver=ThesisCG(atol=1e3), on_failure="ignore")), through
    )
    torch.testing.assert_close(given, expected)


class Stop(Exception):
    pass


class Interrupt(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise Stop


def test_a_training_goes_on_where_it_stopped_and_is_not_repeated(tmp_path):
    recipe = with_seed(tiny_recipe(), 3)
    told = []
    whole = run_training("a", recipe, Workspace(tmp_path / "whole", None, told.append))
    workspace = Workspace(tmp_path / "parts", None, told.append)
    with pytest.raises(Stop):
        run_training("a", recipe, workspace, lambda: [Interrupt()])
    parts = run_training("a", recipe, workspace)
    assert "a: resumed" in told
    assert parts.scores == whole.scores
    assert [row["train_loss"] for row in parts.history] == [row["train_loss"] for row in whole.history]
    told.clear()
    assert run_training("a", recipe, workspace).scores == whole.scores
    assert told == []
    assert sum(whole.scores["iou"]) / 3 == pytest.approx(whole.metrics["test"]["iou"]["mean"])


@pytest.mark.parametrize("name", TINY)
def test_an_experiment_runs_and_runs_again_alike(name, tmp_path):
    write_horses(tmp_path)
    experiment = tiny(name, tmp_path)
    threads = torch.get_num_threads()
    try:
        first = reproduce(experiment, tmp_path / "a", data=tmp_path, say=lambda line: None)
        told = []
        again = reproduce(experiment, tmp_path / "a", data=tmp_path, resume=True, say=told.append)
    finally:
        torch.set_num_threads(threads)
    assert not [line for line in told if "started" in line]
    assert again["values"] == first["values"]
    assert json.loads((tmp_path / "a" / "result.json").read_text())["tables"] == again["tables"]
    for table in first["tables"]:
        assert {len(row) for row in table["cells"]} == {len(table["header"])}
    assert Image.open(tmp_path / "a" / "picture.png").size[0] > 100
    with pytest.raises(ValueError, match="--data: expected the folder that holds horses/"):
        reproduce(experiment, tmp_path / "b", say=lambda line: None)


def test_the_threshold_of_the_thesis_is_that_of_its_batch():
    settings = softcut_adjoint.Settings(size=(64, 96), batch_size=16)
    recipe = softcut_adjoint._systems(settings, "x")["thesis' rule, its threshold"]
    assert recipe.network.atol * 16 * 64 * 96 == pytest.approx(1e-6 * 32 * 256 * 256)
    larger = replace(settings, size=(512, 512), batch_size=64)
    # A larger batch of larger pictures is what the rule as printed is lax for by itself.
    assert softcut_adjoint._systems(larger, "x")["thesis' rule, its threshold"].network.atol == 1e-6
    assert isinstance(recipe.dataset, DataRecipe)
