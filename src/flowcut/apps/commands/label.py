"""`flowcut label`: photographs labelled by an assignment flow."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", type=str, help="a picture or a folder of pictures")
    parser.add_argument("--output", type=str, default="labels", help="folder for what is written")
    parser.add_argument(
        "--prototypes",
        # Not `str | None`: that would be read as YAML, where # begins a comment.
        type=str,
        help="the labels' colours: '#rrggbb,...', or a JSON or text file of them; default: by k-means",
    )
    parser.add_argument("--k", type=int | None, help="number of labels chosen by k-means; default 6")
    parser.add_argument("--seed", type=int, default=0, help="seed of k-means")
    parser.add_argument("--grayscale", action="store_true", help="look at the brightness alone")
    parser.add_argument("--flow", type=Literal["linear", "nonlinear"], default="linear")
    parser.add_argument(
        "--rho",
        type=float | None,
        help="unit of the distances (squared, colours in [0, 1]); default: a tenth of the mean distance",
    )
    parser.add_argument(
        "--time", type=float | None, help="default: 5; with --flow nonlinear until the pixels have decided"
    )
    parser.add_argument("--window", type=int, default=5, help="odd side of the window in pixels")
    parser.add_argument("--weights", type=Literal["uniform", "gaussian"], default="uniform")
    parser.add_argument("--sigma", type=float | None, help="of Gaussian weights; default: a quarter window")
    parser.add_argument("--krylov-dim", type=int | None, help="of the linear flow; default 5")
    parser.add_argument(
        "--relinearizations", type=int | None, help="how often the linear flow is linearised anew; default 0"
    )


COMMAND = Command(
    name="label",
    help="label photographs by an assignment flow with colours as labels",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.label:run",
)
