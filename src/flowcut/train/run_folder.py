"""The folder of a run: what lies where in it, and writing without leaving halves behind."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from flowcut.core.atomic import atomic_write, prepare_folder
from flowcut.train.recipe import Recipe
from flowcut.train.recipe_file import dump_recipe, read_recipe

__all__ = ["RunFolder", "prepare_run", "write_text"]


@dataclass(frozen=True)
class RunFolder:
    """The names in a run folder.

    Parameters
    ----------
    path : Path
        The folder.

    Examples
    --------
    >>> RunFolder(Path("runs/a")).weights.as_posix()
    'runs/a/best.pt'
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe with every default written out."""
        return self.path / "recipe.yaml"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.path / "history.csv"

    @property
    def metrics(self) -> Path:
        """The test split's numbers, versions and times."""
        return self.path / "metrics.json"

    @property
    def weights(self) -> Path:
        """The best network, for `flowcut predict` and `flowcut evaluate`."""
        return self.path / "best.pt"

    @property
    def panel(self) -> Path:
        """Test pictures beside their masks."""
        return self.path / "panel.png"

    @property
    def checkpoints(self) -> Path:
        """Lightning's own checkpoints, for resuming."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """Where resuming continues."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The epoch of lowest validation loss."""
        return self.checkpoints / "best.ckpt"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Parameters
    ----------
    path : Path
        The file; its folder exists.
    text : str
        Its content, written as UTF-8.
    """
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def _refuse_another_recipe(run: RunFolder, recipe: Recipe) -> None:
    before, now = read_recipe(run.recipe), recipe
    for group in ("dataset", "network", "loss", "optimizer", "training"):
        old, new = getattr(before, group), getattr(now, group)
        for key in old.__dataclass_fields__:
            # More epochs, another machine: the only things a continuation may change.
            if f"{group}.{key}" in ("training.epochs", "training.device", "training.workers"):
                continue
            then, asked = getattr(old, key), getattr(new, key)
            if then != asked:
                raise ValueError(f"{group}.{key}: expected {then!r} as in the run to resume, got {asked!r}")


def prepare_run(
    path: str | Path, recipe: Recipe, *, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    """Make a run folder ready, or say before any training why it cannot be.

    Parameters
    ----------
    path : path
        The run folder.
    recipe : Recipe
        Written into it.
    resume : bool
        Continue the training that lies there.
    overwrite : bool
        Remove the training that lies there.

    Returns
    -------
    RunFolder

    Raises
    ------
    OSError
        If the folder cannot be written to.
    ValueError
        If it holds a training and neither `resume` nor `overwrite` is given, holds none and `resume` is
        given, or holds one of another recipe. A training without a whole epoch can be resumed too: it
        starts again.
    """
    if resume and overwrite:
        raise ValueError("--resume: expected without --overwrite, got both")
    run = RunFolder(prepare_folder(path, "--output"))
    if resume:
        if not run.recipe.is_file():
            raise ValueError(f"--resume: expected a training in {path}, got no {run.recipe}")
        _refuse_another_recipe(run, recipe)
        _remove_halves(run)
    elif run.recipe.exists() and not overwrite:
        raise ValueError(
            f"--output: {path} already holds a training; give --resume, --overwrite or another folder"
        )
    elif run.recipe.exists():
        _remove(run)
    write_text(run.recipe, dump_recipe(recipe))
    return run


def _remove_halves(run: RunFolder) -> None:
    """Remove what was being written when the process was killed."""
    for folder in (run.path, run.checkpoints):
        for file in folder.glob(".*.part"):
            file.unlink(missing_ok=True)


def _remove(run: RunFolder) -> None:
    """Remove what a training wrote, and nothing else that may lie in the folder."""
    _remove_halves(run)
    for file in (run.history, run.metrics, run.weights, run.panel):
        file.unlink(missing_ok=True)
    for folder in (run.checkpoints, run.path / "tensorboard"):
        shutil.rmtree(folder, ignore_errors=True)
