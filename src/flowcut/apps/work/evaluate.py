"""What `flowcut evaluate` does."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import Namespace
from torch.utils.data import Dataset

from flowcut.apps.output import format_table, mean_and_error, show
from flowcut.apps.work.predict import load_network
from flowcut.apps.work.train import with_data_folder
from flowcut.train.datasets import build_datasets
from flowcut.train.fit import plain_scores
from flowcut.train.recipe_file import read_recipe
from flowcut.vision.data import PairedFolder
from flowcut.vision.predict import evaluate_dataset
from flowcut.vision.tiled import TiledNetwork

__all__ = ["run"]

_SPLITS = ("train", "val", "test")


def _dataset(options: Namespace, config: dict[str, Any]) -> Dataset[Any]:
    folders = (options.images, options.masks)
    if options.recipe is None:
        if None in folders:
            raise ValueError("evaluate: expected --images DIR and --masks DIR, or --recipe FILE, got neither")
        size = options.size
        if size is None and options.tile is None:
            size = config.get("size")
        classes = max(2, int(config.get("arguments", {}).get("num_classes", 1)))
        return PairedFolder(*folders, size=None if size is None else tuple(size), classes=classes)
    if folders != (None, None) or options.size is not None:
        raise ValueError("--recipe: expected without --images, --masks and --size, got both")
    if options.split not in _SPLITS:
        raise ValueError(f"--split: expected one of {', '.join(_SPLITS)}, got {options.split}")
    data = with_data_folder(read_recipe(options.recipe).dataset, options.data)
    dataset: Dataset[Any] = getattr(build_datasets(data), options.split)
    return dataset


def run(options: Namespace) -> dict[str, Any]:
    """Measure and print a table.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.evaluate`.

    Returns
    -------
    dict
        For each metric its mean, standard error and number of pictures.
    """
    network, config = load_network(options)
    dataset = _dataset(options, config)
    if options.tile is not None:
        network = TiledNetwork(network, options.tile, options.overlap, options.combine)
    scores = plain_scores(evaluate_dataset(network, dataset, progress=sys.stderr.isatty()))
    rows = [[name, mean_and_error(score), str(score["count"])] for name, score in scores.items()]
    show(format_table(["metric", "mean ± standard error", "pictures"], rows), json=options.json)
    return dict(scores)
