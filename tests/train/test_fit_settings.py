"""Settings of a training: steps made of parts, learning rates, early stops, what is refused or told first."""

import errno
import os
import resource
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowcut.core.warnings import FlowcutWarning
from flowcut.train import build
from flowcut.train.build import build_loss, network_config, start_network
from flowcut.train.datasets import build_datasets
from flowcut.train.fit import fit
from flowcut.train.pictures import example_columns, look_inside
from flowcut.train.reading import read_all
from flowcut.train.recipe import DataRecipe, LossRecipe, NetworkRecipe, OptimizerRecipe, TrainingRecipe
from flowcut.train.saving import WholeFiles
from flowcut.train.schedule import build_optimizer, build_schedules, rate
from flowcut.train.task import TrainingDivergedError
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.losses import CrossEntropyLoss, DiceLoss, FocalDiceLoss, FocalLoss
from flowcut.vision.networks import BasicCnn
from tests.train.helpers import tiny_recipe

SEVEN = DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(7, 3, 2))


def quiet_fit(recipe, output, **options):
    return fit(recipe, output, progress=False, say=None, **options)


def weights_of(result):
    return torch.cat([p.detach().flatten() for p in result.network.parameters()])


def recipe_of(batch_size, optimizer=None, data=SEVEN, **training):
    optimizer = OptimizerRecipe("sgd", 0.5, clip=1.0) if optimizer is None else optimizer
    training = {"epochs": 2, "device": "cpu"} | training
    return tiny_recipe(
        dataset=data, optimizer=optimizer, training=TrainingRecipe(batch_size=batch_size, **training)
    )


def test_accumulated_batches_are_one_batch_also_where_the_last_is_smaller(tmp_path):
    # Seven pictures: 4 + 3, and 2 + 2, 2 + 1.
    whole, parts = (
        quiet_fit(recipe_of(*sizes[:1], accumulate=sizes[1]), tmp_path / str(sizes))
        for sizes in ((4, 1), (2, 2))
    )
    assert torch.allclose(weights_of(whole), weights_of(parts), atol=1e-6)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_last_checkpoint_is_of_the_last_epoch_also_where_it_is_not_the_best(tmp_path):
    result = quiet_fit(recipe_of(4, OptimizerRecipe("sgd", 30.0, momentum=0.0), epochs=4), tmp_path)
    losses = [row["val_loss"] for row in result.history]
    assert losses[-1] > min(losses)
    assert torch.load(result.run.last, weights_only=True)["epoch"] == 3
    assert torch.load(result.run.best, weights_only=True)["epoch"] == losses.index(min(losses))


class Interrupted(Exception):
    pass


def test_an_early_stop_comes_at_the_same_epoch_after_resuming_and_stays(tmp_path):
    # A rate so small that the loss falls by less than its last digit.
    recipe = recipe_of(4, OptimizerRecipe("sgd", 1e-12), epochs=9, patience=3)
    whole = quiet_fit(recipe, tmp_path / "whole")
    assert len(whole.history) == 4

    def interrupt(line):
        if line.startswith("epoch 3/"):
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "parts", progress=False, say=interrupt)
    for _ in range(2):
        parts = quiet_fit(recipe, tmp_path / "parts", resume=True)
        assert [row["epoch"] for row in parts.history] == [1, 2, 3, 4]
    assert torch.equal(weights_of(whole), weights_of(parts))


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_schedules_resume_bit_for_bit_in_a_folder_that_was_moved(tmp_path, schedule):
    optimizer = OptimizerRecipe("adamw", 1e-2, schedule=schedule, warmup=1, step_epochs=1, weight_decay=0.1)
    recipe = recipe_of(2, optimizer, epochs=4, accumulate=2, precision="bf16")
    whole = quiet_fit(recipe, tmp_path / "whole")

    def interrupt(line):
        if line.startswith("epoch 3/"):
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "parts", progress=False, say=interrupt)
    (tmp_path / "parts").rename(tmp_path / "moved")
    moved = quiet_fit(recipe, tmp_path / "moved", resume=True)
    states = [torch.load(r.run.last, weights_only=True)["state_dict"] for r in (whole, moved)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.metrics["best_epoch"] == moved.metrics["best_epoch"]
    assert torch.equal(weights_of(whole), weights_of(moved))


def test_rates_follow_their_formulas():
    step = OptimizerRecipe(schedule="step", step_epochs=2, factor=0.5, warmup=1)
    # Three steps an epoch, five epochs.
    rates = [rate(step, k, steps=15, epochs=5) for k in range(15)]
    assert rates[:3] == [1 / 3, 2 / 3, 1.0]
    assert rates[3:] == [1.0] * 3 + [0.5] * 6 + [0.25] * 3
    assert rate(OptimizerRecipe(schedule="cosine"), 5, 10, 2) == pytest.approx(0.5)


def test_a_plateau_lowers_what_warming_up_has_reached():
    recipe = OptimizerRecipe("sgd", 1.0, schedule="plateau", warmup=1, step_epochs=1, factor=0.1)
    optimizer = build_optimizer(recipe, [torch.nn.Parameter(torch.zeros(1))])
    plateau, growing = (s["scheduler"] for s in build_schedules(recipe, optimizer, steps=12, epochs=3))
    seen = []
    for _ in range(3):
        for _ in range(4):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            growing.step()
        plateau.step(1.0)
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1.0] * 4 + [1.0] * 4)
    # The first number is the lowest; two more without a lower one are one too many.
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_divergence_in_mixed_precision_and_accumulation_keeps_the_last_good_checkpoints(tmp_path):
    recipe = recipe_of(2, accumulate=2, precision="bf16")
    run = quiet_fit(recipe, tmp_path).run
    state = torch.load(run.last, weights_only=True)
    for tensor in state["state_dict"].values():
        tensor.mul_(1e30)
    torch.save(state, run.last)
    before = {path: path.read_bytes() for path in (run.last, run.best)}
    longer = replace(recipe, training=replace(recipe.training, epochs=5))
    with pytest.raises(TrainingDivergedError, match=r"training loss in step 1 of epoch 3 is (nan|inf)"):
        quiet_fit(longer, tmp_path, resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_pictures_and_certificate_and_rates_reach_tensorboard(tmp_path):
    recipe = replace(recipe_of(4), network=NetworkRecipe(width=4))
    result = quiet_fit(recipe, tmp_path)
    events = EventAccumulator(str(result.run.path / "tensorboard"))
    events.Reload()
    assert len(events.Images("validation")) == 1
    assert 0 < events.Scalars("certificate")[0].value < 0.1
    assert [e.value for e in events.Scalars("lr")] == pytest.approx([0.5] * 4)
    titles = list(example_columns(result.network, [result.splits.val[0]]))
    assert titles[:5] == ["image", "truth", "prediction", "scores", "edges"]
    assert titles[5].startswith("potentials +-")


def test_the_certificate_bounds_the_error_of_the_potentials_shown():
    network = start_network(network_config(NetworkRecipe(width=4, rtol=0.1), SEVEN))
    inside = look_inside(network, build_datasets(SEVEN).val[0]["image"])
    exact = start_network(network_config(NetworkRecipe(width=4, solver="cholesky"), SEVEN)).head
    potentials = exact(inside["scores"][None].double(), inside["edges"][None].double())[0]
    error = (inside["logits"] - potentials).abs().amax(dim=(1, 2))
    assert bool((error <= inside["certificate"]).all())
    assert inside["certificate"].shape == (1,)


@pytest.mark.parametrize(
    ("recipe", "kind", "settings"),
    [
        (LossRecipe(class_weight=(1.0, 2.0)), CrossEntropyLoss, {"class_weight": (1.0, 2.0)}),
        (LossRecipe("focal", gamma=3.0), FocalLoss, {"gamma": 3.0}),
        (LossRecipe("dice", per_image=False, smooth=1.0), DiceLoss, {"per_image": False, "smooth": 1.0}),
        (
            LossRecipe("focal_dice", gamma=3.0, threshold=0.3, form="logits", class_reduction="mean"),
            FocalDiceLoss,
            {"gamma": 3.0, "threshold": 0.3, "form": "logits", "class_reduction": "mean"},
        ),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_losses_of_recipes_are_those_of_the_library(recipe, kind, settings):
    logits, target = torch.randn(2, 1, 6, 6), torch.randint(0, 2, (2, 6, 6))
    loss = build_loss(recipe, 2)
    assert type(loss) is kind
    assert torch.equal(loss(logits, target), kind("binary", **settings)(logits, target))


def test_changed_balanced_pieces_with_clicks_train_and_resume(tmp_path):
    data = replace(
        SEVEN, num_classes=3, click=True, crop=(16, 24), balance=0.5, flip=0.5, quarter_turns=True,
        scale=(0.8, 1.2), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, picture_noise=0.1,
    )  # fmt: skip
    recipe = replace(recipe_of(3, data=data, epochs=3), network=NetworkRecipe(width=4))
    whole = quiet_fit(recipe, tmp_path / "whole")

    def interrupt(line):
        if line.startswith("epoch 2/"):
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(recipe, tmp_path / "parts", progress=False, say=interrupt)
    parts = quiet_fit(recipe, tmp_path / "parts", resume=True)
    assert torch.equal(weights_of(whole), weights_of(parts))
    network, _ = load_checkpoint(whole.run.weights)
    assert (network.in_channels, network.num_classes) == (4, 1)


def test_pretrained_weights_are_asked_for_by_training_and_not_by_loading(tmp_path, monkeypatch):
    recipe = NetworkRecipe("two_head_unet", encoder_weights="imagenet", decoder_channels=(8, 8, 8, 8, 8))
    config = network_config(recipe, SEVEN)
    assert "imagenet" not in repr(config)
    asked = []
    monkeypatch.setattr(
        build, "build_network", lambda config: asked.append(config["arguments"]) or BasicCnn()
    )
    start_network(config, recipe.encoder_weights)
    assert asked == [config["arguments"] | {"encoder_weights": "imagenet"}]
    with pytest.raises(ValueError, match=r"network.encoder_weights: expected null for BasicCnn"):
        start_network(network_config(NetworkRecipe(), SEVEN), "imagenet")

    def unreachable(config):
        raise OSError("no\nroute")

    monkeypatch.setattr(build, "build_network", unreachable)
    with pytest.raises(ValueError, match=r"can be loaded for resnet18, got imagenet \(no route\)"):
        start_network(config, "imagenet")


def test_half_precision_and_too_many_devices_are_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for change, message in (
        ({"precision": "fp16", "device": "auto"}, "expected 32 or bf16 on the CPU, got fp16"),
        ({"devices": 4}, "training.devices: expected at most the 3 pictures of the val split, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            quiet_fit(recipe_of(2, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_that_never_occur_are_named():
    recipe = replace(SEVEN, num_classes=4)
    splits = build_datasets(SEVEN)
    with pytest.warns(FlowcutWarning, match="no training pixel has label 2, 3; the network cannot learn it"):
        read_all(splits, recipe)


@pytest.mark.parametrize("split", ["train", "val"])
def test_void_pixels_alone_are_refused_before_training(split):
    splits = build_datasets(SEVEN)
    items = getattr(splits, split)
    void = [item | {"target": torch.full_like(item["target"], 255)} for item in items]
    with pytest.raises(
        ValueError, match=f"expected labelled pixels in the {split} split, got {len(items)} pictures"
    ):
        read_all(splits._replace(**{split: void}), SEVEN)


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.ckpt"
    files = WholeFiles()
    files.save_checkpoint({"state": torch.zeros(10)}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError) as refused:
            files.save_checkpoint({"state": torch.zeros(10_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG
    assert torch.equal(files.load_checkpoint(path, weights_only=True)["state"], torch.zeros(10))
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("victim", ["last.ckpt", "history.csv"])
def test_a_full_disk_is_told_in_one_line_and_the_last_good_checkpoint_resumes(tmp_path, monkeypatch, victim):
    recipe = recipe_of(4, epochs=3)
    whole = quiet_fit(recipe, tmp_path / "whole")
    replaced = os.replace
    count = 0

    def full(source, target):
        nonlocal count
        count += str(target).endswith(victim)
        if count == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replaced(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"no more can be written \(No space left on device\).*--resume"
    ) as told:
        quiet_fit(recipe, tmp_path / "run")
    monkeypatch.undo()
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "run").rglob("*.part"))
    parts = quiet_fit(recipe, tmp_path / "run", resume=True)
    assert torch.equal(weights_of(whole), weights_of(parts))
