"""Heads of networks made from plain data, by a table of known names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from torch import nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.core.results import OnFailure
from flowcut.cut.perturbed import CUTS, PerturbedCut
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
from flowcut.vision.hard_heads import ExpansionHead, MaxFlowHead
from flowcut.vision.walker_head import PriorWalkerHead

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


def build_head(config: Mapping[str, Any], neighborhood: Neighborhood | None = None) -> nn.Module:
    """Make a head from plain data.

    Parameters
    ----------
    config
        ``name``: a name of :data:`HEADS`; ``on_failure`` (optional) as in
        :class:`flowcut.cut.soft_cut.SoftCut`. Every other key is optional and an argument of the head.
        SoftCut: ``solver``, what :func:`build_solver` takes. RandomWalker: that and ``confidence``, see
        :class:`flowcut.vision.walker_head.PriorWalkerHead`. TotalVariation: ``method``, ``refine`` and
        ``gradient``, see :class:`flowcut.cut.total_variation.TotalVariation`. Perturbed: ``fn`` (a name),
        ``samples``, ``sigma``, ``on`` and ``seed``, see :class:`flowcut.cut.perturbed.PerturbedCut`. The
        flows: ``window``, ``rho`` and ``time``, and the linear one ``krylov_dim``, see
        :class:`flowcut.vision.flow_head.FlowHead` and :class:`flowcut.flow.linear.LinearAssignmentFlow`. To
        infer and not to train: MaxFlow with ``edge_scale`` and AlphaExpansion with that and ``max_cycles``,
        see :mod:`flowcut.vision.hard_heads`.
    neighborhood
        Which pixels the edges of a cut tie. Default: inferred from their number. Flows have a window.

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
    kind = HEADS[name]
    given = {key: value for key, value in config.items() if key != "name"}
    if not set(given) <= {*kind.keys, "on_failure"}:
        raise ValueError(
            f"head: expected keys of {name} out of {sorted([*kind.keys, 'on_failure'])}, "
            f"got {sorted(map(str, given))}"
        )
    on_failure = given.get("on_failure", "warn")
    if on_failure not in get_args(OnFailure):
        raise ValueError(f"on_failure: expected one of {get_args(OnFailure)}, got {on_failure!r}")
    if not kind.may_fail:
        given.pop("on_failure", None)
    if kind.takes_edges:
        given["neighborhood"] = neighborhood
    return kind.make(**given)


def _soft_cut(solver: Mapping[str, Any] | None = None, **arguments: Any) -> nn.Module:
    return SoftCut(None if solver is None else build_solver(solver), **arguments)


def _random_walker(solver: Mapping[str, Any] | None = None, **arguments: Any) -> nn.Module:
    _check_numbers(**arguments)
    return PriorWalkerHead(solver=None if solver is None else build_solver(solver), **arguments)


def _total_variation(**arguments: Any) -> nn.Module:
    choices = (
        ("method", get_args(Method)),
        ("refine", (None, *get_args(Refinement))),
        ("gradient", get_args(Gradient)),
    )
    for name, known in choices:
        if name in arguments and arguments[name] not in known:
            raise ValueError(f"{name}: expected one of {known}, got {arguments[name]!r}")
    return TotalVariation(**arguments)


def _perturbed(fn: Any = "max_flow", **arguments: Any) -> nn.Module:
    if not isinstance(fn, str) or fn not in CUTS:
        raise ValueError(f"fn: expected a name out of {sorted(CUTS)}, got {fn!r}")
    _check_numbers(**arguments)
    return PerturbedCut(fn, **arguments)


def _linear_assignment_flow(window: Any = 3, **arguments: Any) -> nn.Module:
    _check_numbers(window=window, **arguments)
    return FlowHead(LinearAssignmentFlow(**arguments), window)


def _assignment_flow(window: Any = 3, **arguments: Any) -> nn.Module:
    _check_numbers(window=window, **arguments)
    return FlowHead(AssignmentFlow(**arguments), window)


def _max_flow(**arguments: Any) -> nn.Module:
    _check_numbers(**arguments)
    return MaxFlowHead(**arguments)


def _alpha_expansion(**arguments: Any) -> nn.Module:
    _check_numbers(**arguments)
    return ExpansionHead(**arguments)


def _check_numbers(**values: Any) -> None:
    """Refuse other types here: files say anything, and layers check no more than the range."""
    for name, value in values.items():
        if name in ("window", "krylov_dim", "samples", "seed") and type(value) is not int:
            raise ValueError(f"{name}: expected an integer, got {value!r}")
        if name == "max_cycles" and value is not None and type(value) is not int:
            raise ValueError(f"max_cycles: expected an integer or null, got {value!r}")
        if name == "edge_scale" and type(value) not in (int, float):
            raise ValueError(f"edge_scale: expected a finite number >= 0, got {value!r}")
        if name in ("rho", "time", "confidence", "sigma"):
            if type(value) not in (int, float):
                raise ValueError(f"{name}: expected a number > 0, got {value!r}")
            check_positive(name, value)


class Kind(NamedTuple):
    """What makes a head of one name.

    Attributes
    ----------
    make
        Called with the keys of the configuration.
    keys
        Those it may have beside ``name`` and ``on_failure``.
    takes_edges
        Whether it has an argument ``neighborhood``.
    may_fail
        Whether it has an argument ``on_failure``; the answers of the others are exact or no solutions of
        anything, so that there it has nothing to say.
    """

    make: Callable[..., nn.Module]
    keys: tuple[str, ...] = ()
    takes_edges: bool = True
    may_fail: bool = False


HEADS: dict[str, Kind] = {
    "SoftCut": Kind(_soft_cut, ("solver",), may_fail=True),
    "RandomWalker": Kind(_random_walker, ("confidence", "solver"), may_fail=True),
    "TotalVariation": Kind(_total_variation, ("method", "refine", "gradient")),
    "Perturbed": Kind(_perturbed, ("fn", "samples", "sigma", "on", "seed")),
    "LinearAssignmentFlow": Kind(
        _linear_assignment_flow, ("window", "rho", "time", "krylov_dim"), takes_edges=False, may_fail=True
    ),
    "AssignmentFlow": Kind(_assignment_flow, ("window", "rho", "time"), takes_edges=False, may_fail=True),
    "MaxFlow": Kind(_max_flow, ("edge_scale",)),
    "AlphaExpansion": Kind(_alpha_expansion, ("edge_scale", "max_cycles")),
}
