"""`flowcut sample`: labelings drawn from the law of an energy."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "energy",
        # Not `str | None`: that would be read as YAML.
        type=str,
        nargs="?",
        help="an .npz archive or a UAI MARKOV file, also .gz or .xz",
    )
    parser.add_argument("--image", type=str, help="a picture, instead of an energy in a file")
    parser.add_argument(
        "--scribbles",
        type=str,
        help="a picture of the same size with a grey value or colour a label, unmarked pixels black or white",
    )
    parser.add_argument("--ties", type=float | None, help="strength of a picture's ties; default 4")
    parser.add_argument("--beta", type=float | None, help="contrast that cuts a picture's ties; default 130")
    parser.add_argument("--output", "--out", type=str, default="samples", help="folder for what is written")
    parser.add_argument("--samples", type=int, default=100, help="labelings to write")
    parser.add_argument(
        "--method",
        type=Literal["auto", "exact", "gibbs", "swendsen-wang", "flow"],
        default="auto",
        help="auto: exact where the energy is small or narrow enough, else gibbs",
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="T of p = exp(-E / T) / Z")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same labelings")
    parser.add_argument("--chains", type=int | None, help="Markov chains; default 4")
    parser.add_argument(
        "--sweeps",
        type=int | None,
        help="sweeps of each chain that count; default 500, up to 20000 on small grids",
    )
    parser.add_argument("--burn-in", type=int | None, help="sweeps before them; default 500")
    parser.add_argument("--steps", type=int | None, help="steps of fitting a flow; default 1500")
    parser.add_argument("--flows", type=int | None, help="flows drawn in each step; default 512")
    parser.add_argument("--checkpoint", type=str, help="file from which fitting a flow goes on")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")


COMMAND = Command(
    name="sample",
    help="draw labelings from an energy in a file, or from a picture and scribbles",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.sample:run",
)
