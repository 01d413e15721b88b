"""Recipes: values refused by name, YAML there and back, the nearest key named."""

from dataclasses import replace

import pytest

from flowcut.train.recipe import (
    DataRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    TrainingRecipe,
)
from flowcut.train.recipe_file import dump_recipe, read_recipe

OTHER = Recipe(
    dataset=DataRecipe(
        kind="texture_mosaic",
        size=(32, 48),
        num_classes=3,
        reveal=0.001,
        crop=(16, 24),
        crops=5,
        balance=0.5,
        balance_classes=(1, 2),
        flip=0.5,
        scale=(0.5, 2.0),
        hue=0.1,
        lengths=(4, 2, 3),
        noise=0.3,
        split_seed=7,
    ),
    network=NetworkRecipe(
        width=5,
        kernel_size=5,
        head="linear_assignment_flow",
        solver="cholesky",
        rtol=1e-6,
        samples=6,
        sigma=0.75,
        window=5,
        rho=0.5,
        flow_time=2.5,
        krylov_dim=7,
    ),
    loss=LossRecipe(kind="focal", gamma=1.5, class_weight=(1.0, 2.0, 3.0)),
    optimizer=OptimizerRecipe(kind="sgd", lr=0.25, clip=1.0, schedule="plateau", warmup=1),
    training=TrainingRecipe(
        epochs=3,
        patience=2,
        accumulate=2,
        devices=2,
        batch_size=2,
        seed=11,
        device="cpu",
        workers=1,
        picture_every=2,
    ),
)


@pytest.mark.parametrize("recipe", [Recipe(), OTHER], ids=["defaults", "other"])
def test_yaml_gives_back_an_equal_recipe(tmp_path, recipe):
    (tmp_path / "a.yaml").write_text(dump_recipe(recipe))
    assert read_recipe(tmp_path / "a.yaml") == recipe


def test_own_size_of_every_picture_survives_yaml(tmp_path):
    recipe = Recipe(dataset=DataRecipe(size=None), training=TrainingRecipe(batch_size=1))
    (tmp_path / "a.yaml").write_text(dump_recipe(recipe))
    assert read_recipe(tmp_path / "a.yaml").dataset.size is None


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    (tmp_path / "a.yaml").write_text("optimizer: {lr: 1e-2}\n")
    assert read_recipe(tmp_path / "a.yaml") == replace(Recipe(), optimizer=OptimizerRecipe(lr=0.01))


def test_an_empty_file_is_the_default_recipe(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert read_recipe(tmp_path / "a.yaml") == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer: {lrr: 1}", 'unknown key "optimizer.lrr"; did you mean "optimizer.lr"'),
        ("optimiser: {lr: 1}", 'unknown key "optimiser"; did you mean "optimizer"'),
        ("training: 3", 'expected keys and values under "training", got 3'),
        ("- 1", "expected keys and values, got a list"),
        ("a: [", "expected YAML, got"),
        ("training: {epochs: many}", "training.epochs: expected int, got 'many'"),
        ("network: {head: tv}", r"network.head: expected Literal\['soft_cut', .*'none'\], got 'tv'"),
        ("network: {samples: 5}", "network.samples: expected an even integer >= 2, got 5"),
        ("network: {sigma: 0}", "network.sigma: expected a finite number > 0, got 0"),
        ("dataset: {size: [64]}", "dataset.size"),
        ("training: {epochs: 0}", "training.epochs: expected an integer >= 1, got 0"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_recipe(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x81"], ids=["missing", "binary"])
def test_an_unreadable_file_is_refused(tmp_path, content):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="expected a readable recipe"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataRecipe(size=(0, 3)), "dataset.size"),
        (lambda: DataRecipe(crop=(4, 0)), "dataset.crop"),
        (lambda: DataRecipe(size=(32, 32), crop=(32, 33)), r"dataset.crop: expected at most .*\[32, 33\]"),
        (lambda: DataRecipe(crops=0), "dataset.crops"),
        (lambda: DataRecipe(num_classes=1), "dataset.num_classes"),
        (lambda: DataRecipe(reveal=0.0), "dataset.reveal"),
        (lambda: DataRecipe(reveal=1.5), "dataset.reveal"),
        (lambda: DataRecipe(val_share=1.0), "dataset.val_share"),
        (lambda: DataRecipe(val_share=0.5, test_share=0.5), "dataset.test_share"),
        (lambda: DataRecipe(lengths=(1, 0, 1)), "dataset.lengths"),
        (lambda: DataRecipe(noise=-0.1), "dataset.noise"),
        (lambda: NetworkRecipe(width=0), "network.width"),
        (lambda: NetworkRecipe(kernel_size=2), "network.kernel_size"),
        (lambda: NetworkRecipe(rtol=2.0), "network.rtol"),
        (lambda: NetworkRecipe(window=4), "network.window: expected an odd integer >= 1, got 4"),
        (lambda: NetworkRecipe(rho=0.0), "network.rho"),
        (lambda: NetworkRecipe(flow_time=float("inf")), "network.flow_time"),
        (lambda: NetworkRecipe(krylov_dim=0), "network.krylov_dim"),
        (lambda: OptimizerRecipe(lr=float("nan")), "optimizer.lr"),
        (lambda: DataRecipe(flip=1.5), r"dataset.flip: expected a finite number in \[0, 1\], got 1.5"),
        (lambda: DataRecipe(hue=0.6), "dataset.hue"),
        (lambda: DataRecipe(picture_noise=-1.0), "dataset.picture_noise"),
        (lambda: DataRecipe(scale=(2.0, 1.0)), "dataset.scale"),
        (lambda: DataRecipe(balance=0.5), "dataset.crop: expected a height and a width for balanced"),
        (lambda: DataRecipe(crop=(8, 8), balance_classes=(1,)), "dataset.balance"),
        (lambda: DataRecipe(classes=("Car",)), "dataset.classes: expected only with camvid or cityscapes"),
        (lambda: LossRecipe(gamma=-1.0), "loss.gamma"),
        (lambda: LossRecipe("focal_dice", gamma=0.0), "loss.gamma"),
        (lambda: LossRecipe(threshold=1.0), "loss.threshold"),
        (lambda: LossRecipe("dice", class_weight=(1.0, 2.0)), "loss.class_weight: expected null for dice"),
        (lambda: Recipe(loss=LossRecipe(class_weight=(1.0,))), "loss.class_weight: expected 2 numbers"),
        (lambda: OptimizerRecipe(momentum=1.0), "optimizer.momentum"),
        (lambda: OptimizerRecipe(clip=0.0), "optimizer.clip"),
        (lambda: OptimizerRecipe(factor=1.0), "optimizer.factor"),
        (lambda: Recipe(optimizer=OptimizerRecipe(warmup=21)), "optimizer.warmup: expected at most"),
        (lambda: TrainingRecipe(patience=0), "training.patience"),
        (lambda: TrainingRecipe(devices=0), "training.devices"),
        (lambda: TrainingRecipe(device="cpu", precision="fp16"), "expected 32 or bf16 on the CPU, got fp16"),
        (lambda: TrainingRecipe(batch_size=0), "training.batch_size"),
        (lambda: TrainingRecipe(seed=-1), "training.seed"),
        (lambda: Recipe(dataset=DataRecipe(size=None)), "training.batch_size"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
