"""What `flowcut train` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from flowcut.apps.output import mean_and_error, show
from flowcut.train.datasets import FOLDERS
from flowcut.train.fit import fit
from flowcut.train.recipe import DataRecipe, Recipe

__all__ = ["run", "with_data_folder"]


def with_data_folder(data: DataRecipe, folder: str | None) -> DataRecipe:
    """Put the folder of ``--data`` into a recipe: the data set's own folder, or the one that holds it.

    Parameters
    ----------
    data : DataRecipe
    folder : str, optional
        What ``--data`` got.

    Returns
    -------
    DataRecipe
    """
    if folder is None:
        return data
    if data.kind not in FOLDERS:
        kinds = " or ".join(FOLDERS)
        raise ValueError(f"--data: expected only with dataset.kind {kinds}, got it with {data.kind}")
    inner = Path(folder) / FOLDERS[data.kind]
    return replace(data, root=str(inner if inner.is_dir() else folder))


def _recipe(options: Namespace) -> Recipe:
    data: DataRecipe = options.dataset
    folders = {name: options[name] for name in ("images", "masks") if options[name] is not None}
    if folders and data.kind != "paired_folder":
        raise ValueError(f"--{next(iter(folders))}: expected only with folders, got it with {data.kind}")
    data = with_data_folder(replace(data, **folders), options.data)
    return Recipe(data, options.network, options.loss, options.optimizer, options.training)


def run(options: Namespace) -> dict[str, Any]:
    """Train and tell where the result lies.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.train`.

    Returns
    -------
    dict
        ``run`` (the run folder), ``checkpoint``, and the content of ``metrics.json``.
    """
    recipe = _recipe(options)
    name = "train" if options.recipe is None else Path(options.recipe).stem
    output = Path("runs") / name if options.output is None else Path(options.output)
    result = fit(recipe, output, resume=options.resume, overwrite=options.overwrite)
    test = result.metrics["test"]
    show(
        f"test IoU {mean_and_error(test['iou'])} on {test['iou']['count']} pictures,"
        f" {result.metrics['seconds_per_epoch']:.1f} s an epoch; network: {result.run.weights},"
        f" pictures: {result.run.panel}",
        json=options.json,
    )
    return {"run": str(result.run.path), "checkpoint": str(result.run.weights)} | result.metrics
