"""Experiments as YAML files: found by name, read, checked."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
import typing
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser

from flowcut.train.recipe_file import check_keys, nearest, one_line, plain_error
from flowcut.train.reproduce import kinds
from flowcut.train.reproduce.experiment import Kind

__all__ = ["Experiment", "all_kinds", "available", "find", "read_experiment"]

Scale = typing.Literal["paper", "small"]


@dataclass(frozen=True)
class _File:
    """The keys of a YAML file.

    Parameters
    ----------
    kind : str
        Name of a kind.
    title : str
        One line for `--list` and for the documentation.
    paper : str
        What the paper shows there.
    settings : mapping
        Of the kind; what is left out keeps its default.
    small : mapping
        Laid over `settings` with ``--scale small``.
    published : str
        The scale whose results are shown: ``small`` where nobody here has run the other.
    """

    kind: str
    title: str
    paper: str
    settings: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=dict)
    published: Scale = "paper"


@dataclass(frozen=True)
class Experiment:
    """One experiment, ready to be run.

    Parameters
    ----------
    name : str
        Stem of its file.
    title, paper : str
        As in the file.
    kind : Kind
    scale, published : str
        ``paper`` or ``small``: as it is run, and as its results are shown.
    settings : object
        An instance of ``kind.settings``.
    """

    name: str
    title: str
    paper: str
    kind: Kind
    scale: Scale
    settings: Any
    published: Scale = "paper"


def all_kinds() -> dict[str, Kind]:
    """Find the kinds: one `KIND` in each file of :mod:`flowcut.train.reproduce.kinds`.

    Returns
    -------
    dict of str to Kind

    Examples
    --------
    >>> "laf_fig_5_1" in all_kinds()
    True
    """
    modules = pkgutil.iter_modules(kinds.__path__, f"{kinds.__name__}.")
    found = [cast(Kind, importlib.import_module(module.name).KIND) for module in modules]
    return {kind.name: kind for kind in found}


def folders() -> list[Path]:
    """Where experiments are looked for: here, and in the checkout this package runs from.

    Returns
    -------
    list of Path
        Those that exist.
    """
    checkout = Path(__file__).resolve().parents[4]
    places = [Path("experiments"), checkout / "experiments"]
    return [place for place in places if place.is_dir()]


def available() -> dict[str, Path]:
    """The experiments there are, by name: YAML files that name a `kind`.

    Returns
    -------
    dict of str to Path
    """
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found and "kind" in _mapping(path):
                found[path.stem] = path
    return found


def find(names: Sequence[str]) -> dict[str, Path]:
    """The files that are meant by names, patterns like ``laf_*``, or paths.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    dict of str to Path

    Raises
    ------
    ValueError
        Nothing has that name.
    """
    known, found = available(), {}
    for name in names:
        if name.endswith((".yaml", ".yml")) or "/" in name:
            found[Path(name).stem] = Path(name)
            continue
        matches = fnmatch.filter(known, name)
        if not matches and not known:
            raise ValueError(f"experiment: expected a YAML file, or a checkout with experiments/, got {name}")
        if not matches:
            raise ValueError(f'unknown experiment "{name}"{nearest(name, known)}')
        found |= {match: known[match] for match in matches}
    return found


def read_experiment(path: str | Path, scale: Scale = "paper") -> Experiment:
    """Read an experiment; what its file leaves out keeps its default.

    Parameters
    ----------
    path : path
        A YAML file.
    scale : str
        ``paper``, or ``small`` for a quick look.

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        The file is missing, is no YAML or no experiment, holds unknown keys, or a value is refused.
    """
    path = Path(path)
    mapping = _mapping(path)
    if "kind" not in mapping:
        raise ValueError(f"{path}: expected an experiment (a key kind), got a recipe for flowcut train?")
    check_keys(mapping, str(path), _File)
    missing = [name for name in ("title", "paper") if not isinstance(mapping.get(name), str)]
    if missing:
        raise ValueError(f"{path}: expected text under {missing[0]}, got {mapping.get(missing[0])!r}")
    published = mapping.get("published", "paper")
    if published not in typing.get_args(Scale):
        raise ValueError(f"{path}: published: expected one of {typing.get_args(Scale)}, got {published!r}")
    known = all_kinds()
    if mapping["kind"] not in known:
        raise ValueError(f'{path}: unknown kind "{mapping["kind"]}"{nearest(str(mapping["kind"]), known)}')
    kind = known[mapping["kind"]]
    values: dict[str, Any] = {}
    for group in ("settings", *(["small"] if scale == "small" else [])):
        values = _laid_over(values, _checked(mapping.get(group) or {}, f"{path}: {group}", kind.settings))
    settings = _typed(values, path, kind.settings)
    return Experiment(path.stem, mapping["title"], mapping["paper"], kind, scale, settings, published)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text file"
        raise ValueError(f"{path}: expected a readable experiment, got: {reason}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected keys and values, got a {type(found).__name__}")
    return found


def _checked(group: Any, source: str, settings: type) -> Mapping[str, Any]:
    if not isinstance(group, Mapping):
        raise ValueError(f"{source}: expected keys and values, got {group!r}")
    check_keys(group, source, settings)
    return group


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Groups are merged, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = (
            _laid_over(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def _typed(values: Mapping[str, Any], path: Path, settings: type) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(settings, "settings")
    try:
        return parser.instantiate(parser.parse_object({"settings": values})).settings
    except ArgumentError as error:
        raise ValueError(f"{path}: {plain_error(error).replace('settings.', '')}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
