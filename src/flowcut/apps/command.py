"""What one subcommand of `flowcut` is.

Each file in :mod:`flowcut.apps.commands` declares one `COMMAND`. Such a file imports nothing heavy: it
says how the subcommand is called and where its work is done, and the work is loaded only when it is run.
So `flowcut --help` and a mistyped option answer at once, without loading torch and Lightning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Command"]


def _no_base(options: Namespace) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Parameters
    ----------
    name : str
        The word after `flowcut`.
    help : str
        One line for `flowcut --help`.
    add_arguments : callable
        Adds the subcommand's arguments to its parser.
    work : str
        ``module:function`` of the work. The function takes the parsed options and returns what ``--json``
        prints: a mapping of plain values.
    base : callable
        Given the options of a first reading, returns values that stand below the ones of the command line
        (those of a recipe file); a second reading then lays the command line over them.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    work: str
    base: Callable[[Namespace], dict[str, Any]] = _no_base
