"""Heads of networks made from plain data, by a table of known names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from torch import nn

from flowcut.core.results import OnFailure
from flowcut.cut.soft_cut import SoftCut
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky

# Tables, never imports by name: a configuration comes out of files that strangers wrote.
SOLVERS: dict[str, type[Any]] = {"Auto": Auto, "CG": CG, "Cholesky": Cholesky}


def build_solver(config: Mapping[str, Any]) -> Any:
    """Make a solver from plain data.

    Parameters
    ----------
    config
        ``name``: a name of :data:`SOLVERS`; every other key a field of that solver.

    Raises
    ------
    ValueError
        The solver or one of the fields is not known.

    Examples
    --------
    >>> build_solver({"name": "CG", "rtol": 0.001}).rtol
    0.001
    """
    name = config.get("name") if isinstance(config, Mapping) else None
    if not isinstance(name, str) or name not in SOLVERS:
        raise ValueError(f"solver: expected a name out of {sorted(SOLVERS)}, got {config!r}")
    fields = {key: value for key, value in config.items() if key != "name"}
    known = sorted(field.name for field in dataclasses.fields(SOLVERS[name]) if field.init)
    if not set(fields) <= set(known):
        raise ValueError(f"solver: expected fields of {name} out of {known}, got {sorted(map(str, fields))}")
    try:
        return SOLVERS[name](**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"solver: {name} does not take {fields!r} ({error})") from None


def build_head(config: Mapping[str, Any]) -> nn.Module:
    """Make a head from plain data.

    Parameters
    ----------
    config
        ``name``: "SoftCut"; ``solver`` (optional): what :func:`build_solver` takes;
        ``on_failure`` (optional): as in :class:`flowcut.cut.soft_cut.SoftCut`.

    Raises
    ------
    ValueError
        A key or a name is not known.

    Examples
    --------
    >>> type(build_head({"name": "SoftCut", "solver": {"name": "Cholesky"}})).__name__
    'SoftCut'
    """
    if not isinstance(config, Mapping) or config.get("name") != "SoftCut":
        raise ValueError(f"head: expected the name 'SoftCut', got {config!r}")
    unknown = set(config) - {"name", "solver", "on_failure"}
    if unknown:
        raise ValueError(f"head: expected keys name, solver and on_failure, got {sorted(map(str, config))}")
    solver, on_failure = config.get("solver"), config.get("on_failure", "warn")
    if on_failure not in get_args(OnFailure):
        raise ValueError(f"on_failure: expected one of {get_args(OnFailure)}, got {on_failure!r}")
    return SoftCut(None if solver is None else build_solver(solver), on_failure=on_failure)
