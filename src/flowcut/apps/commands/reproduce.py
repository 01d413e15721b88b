"""`flowcut reproduce`: tables and figures of the papers."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "experiments", type=str, nargs="*", help="names, patterns like 'laf_*', or YAML files (--list)"
    )
    parser.add_argument("--list", action="store_true", help="list the experiments and do nothing")
    parser.add_argument(
        "--scale", type=Literal["paper", "small"], default="paper", help="small: what one core finishes"
    )
    parser.add_argument(
        "--output", type=str | None, help="run folder (of several runs: its parent); default: runs/NAME"
    )
    parser.add_argument("--data", type=str | None, help="folder of data sets (default: $FLOWCUT_DATA)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the run folder")
    parser.add_argument(
        "--publish", action="store_true", help="copy result and picture to results/ beside the YAML file"
    )


COMMAND = Command(
    name="reproduce",
    help="run experiments of the papers and set their numbers beside ours",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.reproduce:run",
)
