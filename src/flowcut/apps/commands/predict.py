"""`flowcut predict`: masks and overlays for a folder of pictures."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command
from flowcut.apps.inference import add_inference_arguments, add_tile_arguments

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=str, help="best.pt of a run folder")
    parser.add_argument("images", type=str, help="a picture or a folder of pictures")
    parser.add_argument("--output", type=str, default="predictions", help="folder for masks and overlays")
    parser.add_argument(
        "--size",
        type=tuple[int, int] | None,
        help="[height,width] the network works at; default: the size it was trained at, with --tile the "
        "picture's own",
    )
    add_tile_arguments(parser)
    parser.add_argument(
        "--max-pixels", type=int, default=80_000_000, help="pictures of more pixels are skipped"
    )
    add_inference_arguments(parser)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda")


COMMAND = Command(
    name="predict",
    help="write masks and overlays for a folder of pictures",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.predict:run",
)
