"""Run folders: never two trainings in one, never another recipe resumed, nothing foreign removed."""

from dataclasses import replace

import pytest

from flowcut.train.recipe import OptimizerRecipe, Recipe, TrainingRecipe
from flowcut.train.run_folder import prepare_run


def test_a_second_training_needs_a_word(tmp_path):
    prepare_run(tmp_path, Recipe())
    with pytest.raises(ValueError, match="already holds a training"):
        prepare_run(tmp_path, Recipe())


def test_overwriting_removes_the_training_and_nothing_else(tmp_path):
    run = prepare_run(tmp_path, Recipe())
    run.checkpoints.mkdir()
    for path in (run.last, run.weights, run.metrics, tmp_path / "notes.txt"):
        path.write_text("x")
    prepare_run(tmp_path, Recipe(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "recipe.yaml"]


def test_resuming_needs_a_training(tmp_path):
    with pytest.raises(ValueError, match="--resume: expected a training in"):
        prepare_run(tmp_path, Recipe(), resume=True)
    with pytest.raises(ValueError, match="expected without --overwrite"):
        prepare_run(tmp_path, Recipe(), resume=True, overwrite=True)


def test_resuming_needs_the_same_recipe_but_for_length_and_machine(tmp_path):
    run = prepare_run(tmp_path, Recipe())
    run.checkpoints.mkdir()
    run.last.write_text("x")
    with pytest.raises(ValueError, match=r"optimizer.lr: expected 0.001 as in the run to resume, got 0.5"):
        prepare_run(tmp_path, replace(Recipe(), optimizer=OptimizerRecipe(lr=0.5)), resume=True)
    longer = replace(Recipe(), training=TrainingRecipe(epochs=99, device="cpu", workers=2))
    assert prepare_run(tmp_path, longer, resume=True).last.exists()


def test_what_was_never_whole_is_removed_and_a_training_without_an_epoch_starts_again(tmp_path):
    run = prepare_run(tmp_path, Recipe())
    run.checkpoints.mkdir()
    halves = [run.checkpoints / ".last.ckpt.0f.part", tmp_path / ".history.csv.0f.part"]
    for half in halves:
        half.write_text("x")
    assert not prepare_run(tmp_path, Recipe(), resume=True).last.exists()
    assert not any(half.exists() for half in halves)
