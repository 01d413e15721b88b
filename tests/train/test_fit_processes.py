"""Real processes: killed at any moment and resumed bit for bit; two of them sharing each step."""

import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from flowcut.train.fit import fit
from flowcut.train.loop import _told
from flowcut.train.recipe import DataRecipe, NetworkRecipe, OptimizerRecipe, TrainingRecipe
from flowcut.train.recipe_file import dump_recipe
from flowcut.train.task import TrainingDivergedError
from tests.train.helpers import tiny_recipe

RECIPE = tiny_recipe(
    dataset=DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(7, 3, 2), crop=(24, 24), flip=0.5),
    network=NetworkRecipe(width=4),
    optimizer=OptimizerRecipe("adamw", 1e-2, schedule="cosine", warmup=1, clip=1.0),
    training=TrainingRecipe(epochs=6, batch_size=2, accumulate=2, device="cpu", picture_every=2),
)
PLAIN = "import sys; from flowcut.apps.main import main; sys.exit(main(sys.argv[1:]))"
# Dies when a checkpoint is written beside its place and not yet moved there.
DYING = """
import os, signal
from flowcut.train import saving
written = 0
def die(descriptor, last=int(os.environ["DIE_AT"])):
    global written
    written += 1
    if written == last:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(RECIPE, tmp_path_factory.mktemp("whole"), progress=False, say=None)


def started(folder, code, **environment):
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text(dump_recipe(RECIPE))
    resume = ["--resume"] if (folder / "recipe.yaml").is_file() else []
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", str(recipe), "--output", str(folder), *resume],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        **environment,
    )


def finish_and_compare(folder, whole):
    process = started(folder, PLAIN)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    files = [run / "checkpoints" / "last.ckpt" for run in (whole.run.path, folder)]
    states = [torch.load(path, weights_only=True) for path in files]
    kept = [torch.load(run / "best.pt", weights_only=True)["state"] for run in (whole.run.path, folder)]
    for a, b in ([state["state_dict"] for state in states], kept):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    moments = [state["optimizer_states"][0]["state"] for state in states[:2]]
    assert all(torch.equal(m[k], moments[1][i][k]) for i, m in moments[0].items() for k in m)
    assert not list(folder.rglob("*.part"))
    return said


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_bit_for_bit_as_another(tmp_path, whole):
    moments = random.Random(time.time_ns())
    folder = tmp_path / "run"
    for epoch in (1, 3):
        process = started(folder, PLAIN)
        for line in process.stderr:
            if line.startswith(f"epoch {epoch}/"):
                break
        time.sleep(moments.uniform(0, 0.6))
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    finish_and_compare(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("write", [1, 4])
def test_a_kill_while_a_checkpoint_is_written_costs_that_epoch_alone(tmp_path, whole, write, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setenv("DIE_AT", str(write))
    process = started(folder, DYING + PLAIN)
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.rglob("*.part"))) == 1
    monkeypatch.delenv("DIE_AT")
    said = finish_and_compare(folder, whole)
    # Each epoch writes the last checkpoint, and the best one where it is.
    assert said.startswith("epoch 1/" if write == 1 else ("epoch 2/", "epoch 3/", "epoch 4/"))


@pytest.mark.slow
def test_two_devices_are_one_with_batches_twice_as_large(tmp_path):
    # Seven pictures in steps of four; three validation pictures, so that one process has one batch more.
    def recipe(**training):
        return tiny_recipe(
            dataset=DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(7, 3, 2)),
            network=NetworkRecipe(width=4),
            optimizer=OptimizerRecipe("sgd", 0.5),
            training=TrainingRecipe(epochs=3, device="cpu", **training),
        )

    one = fit(recipe(batch_size=4), tmp_path / "one", progress=False, say=None)
    two = fit(recipe(batch_size=2, devices=2), tmp_path / "two", progress=False, say=None)
    a, b = (dict(result.network.named_parameters()) for result in (one, two))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert len(one.history) == len(two.history) == 3
    for row, other in zip(one.history, two.history, strict=True):
        for name in ("train_loss", "val_loss", "val_iou", "val_iou_error"):
            assert row[name] == pytest.approx(other[name], rel=1e-5)


def test_what_stops_a_process_of_several_is_told_as_if_it_were_alone():
    trace = '\n-- Process 1 terminated\nTraceback:\n  File "a.py"\n'
    told = _told(trace + "flowcut.train.task.TrainingDivergedError: training loss is nan: stopped\n")
    assert isinstance(told, TrainingDivergedError)
    assert str(told) == "training loss is nan: stopped"
    assert str(_told(trace + "KeyError: 'a'\n")) == "'a'"
