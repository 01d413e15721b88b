"""`flowcut train`: a network from pictures and masks."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace

from flowcut.apps.command import Command
from flowcut.train.recipe import Recipe
from flowcut.train.recipe_file import read_mapping

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "recipe", type=str | None, nargs="?", help="YAML file; what it leaves out keeps its default"
    )
    parser.add_argument("--output", type=str | None, help="run folder; default: runs/NAME of the recipe")
    parser.add_argument("--images", type=str | None, help="folder of pictures (same as --dataset.images)")
    parser.add_argument("--masks", type=str | None, help="folder of masks (same as --dataset.masks)")
    parser.add_argument(
        "--data",
        type=str | None,
        help="folder of a data set of that kind, or the one above it (default: $FLOWCUT_DATA)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the training of the run folder")
    parser.add_argument("--overwrite", action="store_true", help="replace a training in the run folder")
    parser.add_class_arguments(Recipe, None)


def _base(options: Namespace) -> dict[str, Any]:
    return {} if options.recipe is None else read_mapping(options.recipe)


COMMAND = Command(
    name="train",
    help="train a network from pictures and masks, by a recipe or with sensible defaults",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.train:run",
    base=_base,
)
