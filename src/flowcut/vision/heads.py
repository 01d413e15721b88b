"""Heads of networks made from plain data, by a table of known names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args

from torch import nn

from flowcut.core.results import OnFailure
from flowcut.cut.soft_cut import SoftCut
from flowcut.cut.total_variation import Gradient, Method, Refinement, TotalVariation
from flowcut.flow.inputs import check_positive
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.flow.nonlinear import AssignmentFlow
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky
from flowcut.linear.thesis_cg import ThesisCG
from flowcut.vision.flow_head import FlowHead

# Tables, never imports by name: a configuration comes out of files that strangers wrote.
SOLVERS: dict[str, type[Any]] = {"Auto": Auto, "CG": CG, "Cholesky": Cholesky, "ThesisCG": ThesisCG}


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
        ``name``: "SoftCut", "TotalVariation", "LinearAssignmentFlow" or "AssignmentFlow"; ``on_failure``
        (optional) as in :class:`flowcut.cut.soft_cut.SoftCut`. SoftCut: ``solver`` (optional), what
        :func:`build_solver` takes. TotalVariation (optional): ``method``, ``refine`` and ``gradient``, see
        :class:`flowcut.cut.total_variation.TotalVariation`. The flows (optional): ``window``, ``rho`` and
        ``time``, and the linear one ``krylov_dim``, see :class:`flowcut.vision.flow_head.FlowHead` and
        :class:`flowcut.flow.linear.LinearAssignmentFlow`.

    Raises
    ------
    ValueError
        A key, a name or a value is not known.

    Examples
    --------
    >>> type(build_head({"name": "SoftCut", "solver": {"name": "Cholesky"}})).__name__
    'SoftCut'
    >>> build_head({"name": "LinearAssignmentFlow", "window": 5}).ties.channels
    25
    """
    name = config.get("name") if isinstance(config, Mapping) else None
    if not isinstance(name, str) or name not in HEADS:
        raise ValueError(f"head: expected a name out of {sorted(HEADS)}, got {config!r}")
    make, keys = HEADS[name]
    given = {key: value for key, value in config.items() if key != "name"}
    if not set(given) <= {*keys, "on_failure"}:
        raise ValueError(
            f"head: expected keys of {name} out of {sorted([*keys, 'on_failure'])}, "
            f"got {sorted(map(str, given))}"
        )
    on_failure = given.get("on_failure", "warn")
    if on_failure not in get_args(OnFailure):
        raise ValueError(f"on_failure: expected one of {get_args(OnFailure)}, got {on_failure!r}")
    return make(**given)


def _soft_cut(solver: Mapping[str, Any] | None = None, on_failure: OnFailure = "warn") -> nn.Module:
    return SoftCut(None if solver is None else build_solver(solver), on_failure=on_failure)


def _linear_assignment_flow(window: Any = 3, **arguments: Any) -> nn.Module:
    _check_numbers(window=window, **arguments)
    return FlowHead(LinearAssignmentFlow(**arguments), window)


def _assignment_flow(window: Any = 3, **arguments: Any) -> nn.Module:
    _check_numbers(window=window, **arguments)
    return FlowHead(AssignmentFlow(**arguments), window)


def _check_numbers(**values: Any) -> None:
    """Refuse other types here: files say anything, and flows check no more than the range."""
    for name, value in values.items():
        if name in ("window", "krylov_dim") and type(value) is not int:
            raise ValueError(f"{name}: expected an integer, got {value!r}")
        if name in ("rho", "time"):
            if type(value) not in (int, float):
                raise ValueError(f"{name}: expected a number > 0, got {value!r}")
            check_positive(name, value)


def _total_variation(on_failure: OnFailure = "warn", **arguments: Any) -> nn.Module:
    """Its answers carry a proof and cannot fail, so ``on_failure`` has nothing to say."""
    choices = (
        ("method", get_args(Method)),
        ("refine", (None, *get_args(Refinement))),
        ("gradient", get_args(Gradient)),
    )
    for name, known in choices:
        if name in arguments and arguments[name] not in known:
            raise ValueError(f"{name}: expected one of {known}, got {arguments[name]!r}")
    return TotalVariation(**arguments)


# What makes a head of each name, and the keys it takes beside on_failure.
HEADS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "SoftCut": (_soft_cut, ("solver",)),
    "TotalVariation": (_total_variation, ("method", "refine", "gradient")),
    "LinearAssignmentFlow": (_linear_assignment_flow, ("window", "rho", "time", "krylov_dim")),
    "AssignmentFlow": (_assignment_flow, ("window", "rho", "time")),
}
