"""The command line: `flowcut train | predict | evaluate | demo`.

Subcommands are discovered, one file each, in :mod:`flowcut.apps.commands`. The work of a subcommand is
named there as ``module:function`` and resolved by :mod:`importlib` in :func:`_load_work`, the one place
where the program decides to pay for torch and Lightning (seconds) because work will really be done.

Whatever goes wrong becomes one line on standard error and exit code 2; the environment variable
``FLOWCUT_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import pkgutil
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, cast

from jsonargparse import ArgumentParser, Namespace

from flowcut.apps import commands
from flowcut.apps.command import Command
from flowcut.core.warnings import FlowcutWarning
from flowcut.train.recipe_file import nearest, one_line, plain_error

__all__ = ["discover", "main"]

# Packages that belong to an extra, with the extra that installs them.
_EXTRAS = {
    "lightning": "train",
    "tensorboard": "train",
    "rich": "train",
    "torchmetrics": "vision",
    "segmentation_models_pytorch": "vision",
    "PIL": "vision",
    "skimage": "vision",
    "pypardiso": "exact",
}


def discover() -> dict[str, Command]:
    """Find the subcommands: one `COMMAND` in each file of :mod:`flowcut.apps.commands`.

    Returns
    -------
    dict of str to Command

    Examples
    --------
    >>> "train" in discover()
    True
    """
    found = {}
    for module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
        command = cast(Command, importlib.import_module(module.name).COMMAND)
        found[command.name] = command
    return found


def _load_work(command: Command) -> Callable[[Namespace], dict[str, Any]]:
    module, function = command.work.split(":")
    return cast(Callable[[Namespace], dict[str, Any]], getattr(importlib.import_module(module), function))


def _top_parser(found: dict[str, Command]) -> ArgumentParser:
    width = max(map(len, found))
    listing = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in found.items())
    parser = ArgumentParser(
        prog="flowcut",
        usage="flowcut COMMAND [OPTIONS]",
        description="Coherent masks from pictures: train, predict and evaluate labeling layers.",
        epilog=f"commands:\n{listing}\n\nflowcut COMMAND --help says more.",
        exit_on_error=False,
    )
    parser.formatter_class = _Raw
    parser.add_argument("--version", action="version", version=f"flowcut {version('flowcut')}")
    return parser


class _Raw(ArgumentParser().formatter_class):  # type: ignore[misc]
    """Keep the line breaks of the list of commands."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text


def _parser(command: Command) -> ArgumentParser:
    parser = ArgumentParser(prog=f"flowcut {command.name}", description=command.help, exit_on_error=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    command.add_arguments(parser)
    return parser


def _read(command: Command, arguments: Sequence[str]) -> Namespace:
    """Read the options: the recipe's values first, the command line over them."""
    parser = _parser(command)
    try:
        options = parser.parse_args(arguments)
        base = command.base(options)
        if base:
            below = parser.parse_object(base, defaults=False)
            options = parser.parse_args(arguments, namespace=below)
        return cast(Namespace, parser.instantiate(options))
    except ArgumentError as error:
        raise ValueError(_explain(error, parser)) from None


def _explain(error: ArgumentError, parser: ArgumentParser) -> str:
    text = one_line(error)
    unknown = re.match(r"unrecognized arguments: (\S+)", text)
    if unknown:
        option = unknown.group(1).split("=")[0]
        if not option.startswith("-"):
            return f"unexpected argument: {option}"
        known = [name for action in parser._actions for name in action.option_strings]
        return f"unknown option {option}{nearest(option, known)}"
    return plain_error(text)


def _missing_extra(error: ImportError) -> str | None:
    extra = _EXTRAS.get((error.name or "").split(".")[0])
    if extra is None:
        return None
    return f"{error.name} is not installed: pip install 'flowcut[{extra}]'"


def _sentence(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return _missing_extra(error) or one_line(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (ValueError, OSError, RuntimeError)) and str(error):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (FLOWCUT_DEBUG=1 shows where)"


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    print(f"flowcut: warning: {one_line(message)}", file=sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    found = discover()
    if not arguments or arguments[0].startswith("-"):
        top = _top_parser(found)
        try:
            top.parse_args(arguments)
        except ArgumentError as error:
            raise ValueError(_explain(error, top)) from None
        top.print_help()
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in found:
        raise ValueError(f'unknown command "{name}"{nearest(name, found)}')
    options = _read(found[name], rest)
    result = _load_work(found[name])(options)
    if options.json:
        print(json.dumps(result, indent=2, sort_keys=True))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows `flowcut`; by default the arguments of this process.

    Returns
    -------
    int
        0 if all went well, 2 after an error, 130 after Ctrl-C.

    Examples
    --------
    >>> main(["trian"])
    2
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", FlowcutWarning)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        try:
            return _run(given)
        except SystemExit as stop:  # the parser after --help
            return stop.code if isinstance(stop.code, int) else 2
        except KeyboardInterrupt:
            print("flowcut: interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if os.environ.get("FLOWCUT_DEBUG") == "1":
                raise
            print(f"flowcut: error: {_sentence(error)}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
