"""Splits: disjoint, complete, the same every time; folders and shares as the recipe says."""

import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowcut.train.datasets import build_datasets, split_names
from flowcut.train.reading import read_all
from flowcut.train.recipe import DataRecipe
from flowcut.vision.data import RandomCrops
from tests.train.helpers import write_drive, write_isbi, write_pairs
from tests.vision.data.cityscapes_made import write_cityscapes


@given(count=st.integers(3, 60), a=st.floats(0.01, 0.4), b=st.floats(0.01, 0.4), seed=st.integers(0, 1000))
def test_a_split_is_a_partition_that_ignores_the_order_of_names(count, a, b, seed):
    names = [f"n{i}" for i in range(count)]
    parts = split_names(names, (a, b), seed)
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(parts)
    assert parts == split_names(names[::-1], (a, b), seed)
    for part, share in zip(parts[1:], (a, b), strict=True):
        assert len(part) == 1 or share * count - 1 < len(part) <= share * count + 1e-9


def test_too_few_names_are_refused():
    with pytest.raises(ValueError, match="at least 3 pictures to split into 3 parts, got 2"):
        split_names(["a", "b"], (0.2, 0.2), 0)


def ids(dataset):
    return {dataset[i]["id"] for i in range(len(dataset))}


def test_one_folder_is_split_at_random_by_the_seed(tmp_path):
    images, masks = write_pairs(tmp_path, 20)
    recipe = DataRecipe(images=str(images), masks=str(masks), size=(16, 24), val_share=0.2, test_share=0.3)
    splits = build_datasets(recipe)
    assert [len(split) for split in splits] == [10, 4, 6]
    assert set.union(*map(ids, splits)) == {path.stem for path in images.iterdir()}
    assert splits.train[0]["image"].shape == (3, 16, 24)
    assert ids(build_datasets(recipe).val) == ids(splits.val)
    other = DataRecipe(images=str(images), masks=str(masks), val_share=0.2, test_share=0.3, split_seed=1)
    assert ids(build_datasets(other).val) != ids(splits.val)


def test_given_folders_are_taken_whole(tmp_path):
    images, masks = write_pairs(tmp_path / "train", 6)
    val_images, val_masks = write_pairs(tmp_path / "val", 3, split="val")
    splits = build_datasets(
        DataRecipe(images=str(images), masks=str(masks), val_images=str(val_images), val_masks=str(val_masks))
    )
    assert [len(split) for split in splits] == [5, 3, 1]
    assert ids(splits.val) == {path.stem for path in val_images.iterdir()}


def test_only_training_targets_are_hidden(tmp_path):
    recipe = DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(3, 3, 3), reveal=0.01)
    splits = build_datasets(recipe)
    for item in splits.train:
        assert int((item["target"] != 255).sum()) == round(0.01 * 32 * 32)
    for split in (splits.val, splits.test):
        assert all(bool((item["target"] != 255).all()) for item in split)
    shown = build_datasets(DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(3, 3, 3))).train
    for few, full in zip(splits.train, shown, strict=True):
        kept = few["target"] != 255
        assert torch.equal(few["target"][kept], full["target"][kept])


@pytest.fixture
def horses(tmp_path):
    images, _ = write_pairs(tmp_path / "horses", 6)
    names = sorted(path.stem for path in images.iterdir())
    for image in images.iterdir():
        shutil.move(image, image.with_suffix(".jpg"))  # read by content, as all pictures are
    for split, part in (("train", names[:3]), ("val", names[3:4]), ("test", names[4:])):
        (tmp_path / "horses" / f"{split}.txt").write_text("\n".join(part) + "\n")
    return tmp_path / "horses"


def test_horses_are_found_by_root_or_by_environment(horses, monkeypatch):
    by_root = build_datasets(DataRecipe(kind="weizmann_horses", root=str(horses), size=(16, 16)))
    assert [len(split) for split in by_root] == [3, 1, 2]
    monkeypatch.setenv("FLOWCUT_DATA", str(horses.parent))
    by_name = build_datasets(DataRecipe(kind="weizmann_horses", size=(16, 16)))
    assert ids(by_name.train) == ids(by_root.train)


@pytest.mark.parametrize(("kind", "folder"), [("drive", "vessels"), ("isbi2012", "isbi2012")])
def test_named_data_sets_are_found_by_environment(kind, folder, tmp_path, monkeypatch):
    make = {"drive": write_drive, "isbi2012": write_isbi}[kind]
    make(tmp_path / folder)
    monkeypatch.setenv("FLOWCUT_DATA", str(tmp_path))
    recipe = DataRecipe(kind=kind, size=None)
    splits = build_datasets(recipe)
    read_all(splits, recipe)
    assert [len(split) for split in splits] == [3, 1, 2]
    assert splits.train[0]["image"].shape == (3, 24, 32)


def test_cityscapes_as_the_thesis_uses_it(tmp_path, monkeypatch):
    write_cityscapes(tmp_path / "cityscapes")
    monkeypatch.setenv("FLOWCUT_DATA", str(tmp_path))
    common = {"kind": "cityscapes", "size": None, "crop": (16, 16), "crops": 4, "balance": 0.9}
    binary = DataRecipe(**common, classes=("traffic sign",), balance_classes=(1,), crop_tests=2)
    splits = build_datasets(binary)
    assert [len(split) for split in splits] == [12, 2, 4]
    assert splits.train[3, 5]["image"].shape == (3, 16, 16)
    full = DataRecipe(
        kind="cityscapes", size=None, crop=(16, 16), classes=("traffic sign", "car", "person"), num_classes=4
    )
    splits = build_datasets(full)
    assert splits.train[3, 2]["image"].shape == (3, 16, 16)
    assert splits.test[1]["image"].shape == (3, 24, 48)
    assert build_datasets(DataRecipe(kind="cityscapes", num_classes=19)).test[0]["target"].max() == 255


def test_a_click_in_cityscapes_means_an_instance(tmp_path):
    write_cityscapes(tmp_path)
    recipe = DataRecipe(
        kind="cityscapes", root=str(tmp_path), size=None, click=True, classes=("traffic sign", "car"),
        num_classes=3,
    )  # fmt: skip
    splits = build_datasets(recipe)
    # A sign and two cars that touch, in each of two pictures.
    assert [int((item["target"] == 1).sum()) for item in splits.test] == [16, 36, 48] * 2
    assert splits.train[2, 1]["image"].shape == (4, 24, 48)


def test_classes_that_never_occur_are_named(tmp_path):
    write_cityscapes(tmp_path)
    recipe = DataRecipe(kind="cityscapes", root=str(tmp_path), classes=("car", "train"), num_classes=3)
    with pytest.raises(ValueError, match=r"^classes: expected each in a picture .* 'train' in none of 3"):
        build_datasets(recipe)


def test_only_training_pictures_are_cropped(tmp_path):
    write_drive(tmp_path)
    recipe = DataRecipe(kind="drive", root=str(tmp_path), size=None, crop=(8, 12), crops=5, reveal=0.5)
    splits = build_datasets(recipe)
    read_all(splits, recipe)
    assert isinstance(splits.train, RandomCrops)
    assert [len(split) for split in splits] == [15, 1, 2]
    assert splits.train[3, 14]["target"].shape == (8, 12)
    assert splits.val[0]["target"].shape == splits.test[0]["target"].shape == (24, 32)


def test_tests_may_be_cropped_too_and_then_stay_the_same(tmp_path):
    write_drive(tmp_path)
    recipe = DataRecipe(
        kind="drive", root=str(tmp_path), size=None, crop=(8, 12), crops=5, balance=1.0, crop_tests=3
    )
    splits = build_datasets(recipe)
    assert [len(split) for split in splits] == [15, 3, 6]
    for split in (splits.val, splits.test):
        assert all(torch.equal(split[i]["image"], split[0, i]["image"]) for i in range(len(split)))
        assert split[0]["target"].shape == (8, 12)
    with pytest.raises(
        ValueError, match=r"^dataset\.crop: expected a height and a width for dataset\.crop_tests"
    ):
        DataRecipe(crop_tests=2)


def test_a_picture_smaller_than_the_crops_is_named_before_training(tmp_path):
    write_drive(tmp_path)
    recipe = DataRecipe(kind="drive", root=str(tmp_path), size=None, crop=(24, 33), crops=2)
    with pytest.raises(
        ValueError, match=r"^crop: expected at most the size \(24, 32\) of 00, got \(24, 33\)"
    ):
        read_all(build_datasets(recipe), recipe)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (DataRecipe(), r"dataset.images: expected a folder \(--dataset.images DIR\), got nothing"),
        (DataRecipe(images="x"), "dataset.masks"),
        (DataRecipe(images="x", masks="y", val_images="z"), "dataset.val_masks"),
        (DataRecipe(images="x", masks="y"), "images: expected a folder, got x"),
        (DataRecipe(kind="weizmann_horses"), "FLOWCUT_DATA"),
        (DataRecipe(kind="drive"), "dataset.root: expected the folder of drive"),
        (DataRecipe(kind="isbi2012", root="x"), "root: expected images/, labels/ and train.txt"),
        (DataRecipe(kind="drive", root="x", num_classes=3), "dataset.num_classes: expected 2 for drive"),
        (DataRecipe(kind="weizmann_horses", root="x"), "root"),
        (DataRecipe(kind="weizmann_horses", root="x", num_classes=3), "dataset.num_classes"),
        (DataRecipe(kind="texture_mosaic", size=None), "dataset.size"),
    ],
)
def test_what_is_missing_is_named(recipe, message, monkeypatch):
    monkeypatch.delenv("FLOWCUT_DATA", raising=False)
    with pytest.raises(ValueError, match=message):
        build_datasets(recipe)
