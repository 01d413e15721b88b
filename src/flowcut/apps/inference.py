"""Arguments of the commands that apply a trained network."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser

__all__ = ["InferenceHead", "add_inference_arguments", "add_tile_arguments"]

InferenceHead = Literal[
    "soft_cut",
    "total_variation",
    "random_walker",
    "linear_assignment_flow",
    "perturbed",
    "max_flow",
    "alpha_expansion",
    "none",
]
"""Heads that ``--infer`` names, as :data:`flowcut.vision.infer.INFERENCE` makes them."""


def add_tile_arguments(parser: ArgumentParser) -> None:
    """Add ``--tile``, ``--overlap`` and ``--combine``.

    Parameters
    ----------
    parser : ArgumentParser
        Of a command.
    """
    parser.add_argument(
        "--tile", type=int | None, help="side in pixels of tiles that a picture is seen in; default: whole"
    )
    parser.add_argument("--overlap", type=int, default=32, help="pixels by which tiles overlap")
    parser.add_argument(
        "--combine",
        type=Literal["discard", "weighted", "joint"],
        default="discard",
        help="how tiles come together; joint: the head solves once on the whole picture",
    )


def add_inference_arguments(parser: ArgumentParser) -> None:
    """Add ``--infer`` and ``--edges``.

    Parameters
    ----------
    parser : ArgumentParser
        Of a command.
    """
    parser.add_argument(
        "--infer",
        type=InferenceHead | None,
        help="head in the place of the trained one, on the scores and ties it learned; max_flow and "
        "alpha_expansion give exact cuts, none the scores as they are; default: the trained head",
    )
    parser.add_argument(
        "--edges",
        type=Literal["learned", "contrast"],
        default="learned",
        help="ties for --infer: those the network learned, or from the contrast of the picture",
    )
