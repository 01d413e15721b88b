"""flowcut as a contender: one call forward, one backward, nothing kept between calls but its caches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from benchmarks.harness import TOLERANCES, Contender, Effort, admit
from benchmarks.problem import Outcome, Problem, Truth, errors, is_accurate
from flowcut.cut.soft_cut import soft_cut
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky

SETTLE = 0.02


def forward_backward(problem: Problem, solver: Any) -> Outcome:
    """What a training step asks of the layer."""
    scores = problem.scores.detach().requires_grad_()
    edges = problem.edges.detach().requires_grad_()
    value = soft_cut(scores, edges, solver=solver)
    value.backward(problem.cotangent)
    assert scores.grad is not None
    assert edges.grad is not None
    return Outcome(value.detach()[0, 0].numpy(), scores.grad[0, 0].numpy(), edges.grad[0].numpy())


def runner(problem: Problem, solver: Any) -> Callable[[], Outcome]:
    """A run without arguments."""

    def run() -> Outcome:
        return forward_backward(problem, solver)

    return run


def loosest(solver: Any, problem: Problem, truth: Truth) -> Any:
    """The solver at the loosest power of ten that is accurate: the rule the peers have."""
    for tolerance in TOLERANCES:
        candidate = dataclasses.replace(solver, rtol=tolerance)
        if is_accurate(errors(forward_backward(problem, candidate), truth)):
            return candidate
    return solver


def solvers() -> dict[str, Any]:
    """Every solver that joins, by the name in the tables."""
    return {"flowcut (default)": Auto(), "flowcut CG": CG(), "flowcut Cholesky": Cholesky()}


def contenders(problem: Problem, truth: Truth, effort: Effort) -> list[Contender | dict[str, Any]]:
    """The default as shipped, and each solver that has a tolerance also at its loosest."""
    found = []
    for name, solver in solvers().items():
        tunable = any(field.name == "rtol" for field in dataclasses.fields(solver))
        settings = {name: solver}
        if tunable:
            settings[f"{name}, loosest"] = loosest(solver, problem, truth)
        for label, setting in settings.items():
            found.append(admit(label, repr(setting), runner(problem, setting), truth, SETTLE))
    return found
