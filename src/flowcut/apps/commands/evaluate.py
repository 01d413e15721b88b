"""`flowcut evaluate`: how well a checkpoint's masks match given ones."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command
from flowcut.apps.inference import add_inference_arguments, add_tile_arguments

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=str, help="best.pt of a run folder")
    parser.add_argument("--images", type=str | None, help="folder of pictures")
    parser.add_argument("--masks", type=str | None, help="folder of masks, paired by name with the pictures")
    parser.add_argument(
        "--size",
        type=tuple[int, int] | None,
        help="[height,width] pictures and masks are resized to; default: the size it was trained at, with "
        "--tile their own",
    )
    parser.add_argument(
        "--recipe", type=str | None, help="evaluate on this recipe's split instead of folders"
    )
    parser.add_argument(
        "--data", type=str | None, help="folder of the recipe's data set (default: $FLOWCUT_DATA)"
    )
    parser.add_argument("--split", type=str, default="test", help="train, val or test split of the recipe")
    add_tile_arguments(parser)
    add_inference_arguments(parser)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda")


COMMAND = Command(
    name="evaluate",
    help="measure a checkpoint's masks against given ones",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.evaluate:run",
)
