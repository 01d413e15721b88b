"""Recipes as YAML files: reading with errors that name the key, writing, comparing.

Light like :mod:`flowcut.train.recipe`: the command line reads a recipe before it loads torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from flowcut.train.recipe import Recipe

__all__ = ["check_keys", "dump_recipe", "nearest", "one_line", "plain_error", "read_mapping", "read_recipe"]


def one_line(message: object) -> str:
    r"""Join a message of several lines into one.

    Examples
    --------
    >>> one_line("a key:\n  expected a number")
    'a key: expected a number'
    """
    return " ".join(str(message).split())


def plain_error(error: object) -> str:
    r"""Say in plain words what the parser says about a wrong value.

    Examples
    --------
    >>> plain_error("Parser key \"a.b\":\n  Expected a <class 'int'>. Got value: x")
    "a.b: expected int, got 'x'"
    """
    text = one_line(error)
    wrong = re.match(r'Parser key "(.+?)": Expected an? (.+)\. Got value: (.*)', text)
    if wrong is None:
        return text
    kind = re.sub(r"<class '(.+?)'>", r"\1", wrong.group(2)).replace("typing.", "")
    return f"{wrong.group(1)}: expected {kind}, got {wrong.group(3)!r}"


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Ask ``; did you mean ...?`` for the known name nearest to `name`, or list the known names.

    Examples
    --------
    >>> nearest("optimizer.lrr", ["optimizer.lr", "optimizer.kind"])
    '; did you mean "optimizer.lr"?'
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(names)}"


def _known_keys(recipe: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(recipe)
    keys = []
    for item in dataclasses.fields(recipe):
        keys.append(prefix + item.name)
        if dataclasses.is_dataclass(hints[item.name]):
            keys += _known_keys(typing.cast(type, hints[item.name]), f"{prefix}{item.name}.")
    return keys


def check_keys(mapping: Mapping[str, Any], source: str, recipe: type = Recipe) -> None:
    """Refuse keys that `recipe` does not have, naming the nearest one it has.

    Parameters
    ----------
    mapping : mapping
        What a YAML file holds.
    source : str
        Name of the file, for the message.
    recipe : type
        A dataclass, possibly of dataclasses.

    Raises
    ------
    ValueError
        If a key is unknown, or a group of keys is no mapping.

    Examples
    --------
    >>> check_keys({"optimizer": {"lrr": 0.1}}, "a.yaml")
    Traceback (most recent call last):
        ...
    ValueError: a.yaml: unknown key "optimizer.lrr"; did you mean "optimizer.lr"?
    """
    known = _known_keys(recipe)
    groups = {key.split(".")[0] for key in known if "." in key}
    for key, value in mapping.items():
        if key in groups and not isinstance(value, Mapping):
            raise ValueError(f'{source}: expected keys and values under "{key}", got {value!r}')
        leaves = [f"{key}.{leaf}" for leaf in value] if key in groups else [str(key)]
        for leaf in leaves:
            if leaf not in known:
                raise ValueError(f'{source}: unknown key "{leaf}"{nearest(leaf, known)}')


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read the keys and values of a recipe file, unknown keys refused, values not yet checked.

    Parameters
    ----------
    path : path
        A YAML file.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the file is missing, is no YAML, or holds unknown keys.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text file"
        raise ValueError(f"{path}: expected a readable recipe, got: {reason}") from None
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got: {one_line(error)}") from None
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise ValueError(f"{path}: expected keys and values, got a {type(mapping).__name__}")
    check_keys(mapping, str(path))
    return mapping


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a YAML file; what the file leaves out keeps its default.

    Parameters
    ----------
    path : path
        A YAML file.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If the file is missing, is no YAML, holds unknown keys, or a value is refused.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, "recipe")
    mapping = read_mapping(path)
    try:
        values = parser.instantiate(parser.parse_object({"recipe": mapping}))
    except ArgumentError as error:
        raise ValueError(f"{path}: {plain_error(error).replace('recipe.', '')}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return typing.cast(Recipe, values.recipe)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML text that :func:`read_recipe` reads back to an equal recipe.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    str

    Examples
    --------
    >>> print(dump_recipe(Recipe()).splitlines()[0])
    dataset:
    """
    return yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False)
