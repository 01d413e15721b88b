"""Exact total variation, forward and backward, against methods that approach it.

scikit-image's denoise_tv_* minimise another functional (isotropic, without weights) and cannot take part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.compare import Duel, duel_rows, seconds_rows
from benchmarks.harness import Contender, take_turns
from benchmarks.options import Options
from benchmarks.problem import Outcome, Problem, make_problem
from benchmarks.tv_peers import HAVE_PROX_TV, run_fista, run_prox_tv
from flowcut.cut.total_variation import solve_total_variation, total_variation

TITLE = "Total variation with gradients: 5 times faster than what is as accurate"
TARGET = 5.0
# Of the largest score; gradients (in the Euclidean norm) are right or wrong by whole blocks.
ACCURACY = {"value": 1e-4, "grad_scores": 1e-2, "grad_edges": 1e-2}
# The truth is ours, and has to be certified.
TRUSTED = 1e-6
OURS = "flowcut, exact"
ROUNDS = tuple(35 * 2**k for k in range(8))

Attempt = Callable[[int, float], Outcome | None]


def run(options: Options) -> dict[str, Any]:
    """Family by family: a certified truth, then everybody's accuracy, then turns."""
    side = options.side(256)
    return {"families": [_family(name, side, options) for name in options.families]}


def _family(name: str, side: int, options: Options) -> dict[str, Any]:
    problem = make_problem(name, (side, side))
    exact = solve_total_variation(problem.scores.double(), problem.edges.double())
    bound = exact.error_bound.item()
    if not bound <= TRUSTED * problem.scores.abs().max().item():
        return {"family": name, "refused": f"error bound {bound:.1e}", "rows": []}
    truth = _ours(problem, "exact", None)(0, 0.0)
    assert truth is not None
    rows = [_tune(OURS, _ours(problem, "exact", None), truth, options, (0,))]
    rows.append(
        _tune("flowcut, alternating, refined", _ours(problem, "alternating", "isotonic"), truth, options)
    )
    rows.append(_tune("FISTA in NumPy, refined", lambda *a: run_fista(problem, *a), truth, options))
    if HAVE_PROX_TV:
        rows.append(_tune("prox_tv, refined", lambda *a: run_prox_tv(problem, *a), truth, options))
    take_turns([row for row in rows if isinstance(row, Contender)], options.effort)
    done = [row.row() if isinstance(row, Contender) else row for row in rows]
    duel = Duel(OURS.__eq__, lambda other: other != OURS, TARGET).judge(done)
    blocks = int(exact.blocks.max()) + 1
    return {"family": name, "blocks": blocks, "truth_error_bound": bound, "rows": done, "duel": duel}


def _ours(problem: Problem, method: Any, refine: Any) -> Attempt:
    """Forward and backward through the public function, in double precision as the others."""

    def attempt(steps: int, deadline: float) -> Outcome | None:
        scores = problem.scores.double().requires_grad_()
        edges = problem.edges.double().requires_grad_()
        z = total_variation(scores, edges, method=method, refine=refine, max_steps=steps or None)
        grads = torch.autograd.grad(z, (scores, edges), problem.cotangent.double())
        if deadline and time.perf_counter() > deadline:
            return None
        shape = z.shape[2:]
        return Outcome(
            z.detach().numpy().reshape(shape),
            grads[0].numpy().reshape(shape),
            grads[1].numpy().reshape(2, *shape),
        )

    return attempt


def _tune(
    name: str, attempt: Attempt, truth: Outcome, options: Options, rounds: tuple[int, ...] = ROUNDS
) -> Contender | dict[str, Any]:
    """The fewest steps (doubling) that are accurate, within the deadline of a run."""
    errors: dict[str, float] = {}
    for steps in rounds:
        found = attempt(steps, time.perf_counter() + options.effort.deadline)
        if found is None:
            reason = f"not accurate within {options.effort.deadline:.1f} s"
            return {"contender": name, "errors": errors, "refused": reason}
        errors = _errors(found, truth)
        if all(errors[key] <= limit for key, limit in ACCURACY.items()):
            return Contender(name, f"{steps} steps" if steps else "", _again(attempt, steps), errors)
    return {"contender": name, "errors": errors, "refused": f"not accurate after {rounds[-1]} steps"}


def _again(attempt: Attempt, steps: int) -> Callable[[], Outcome]:
    def run_once() -> Outcome:
        found = attempt(steps, float("inf"))
        assert found is not None
        return found

    return run_once


def _errors(found: Outcome, truth: Outcome) -> dict[str, float]:
    norm = np.linalg.norm
    return {
        "value": float(np.abs(found.value - truth.value).max() / np.abs(truth.value).max()),
        "grad_scores": float(norm(found.grad_scores - truth.grad_scores) / norm(truth.grad_scores)),
        "grad_edges": float(
            norm(found.grad_edges - truth.grad_edges) / max(norm(truth.grad_edges), 1e-12 * norm(truth.value))
        ),
    }


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Verdicts, and seconds; a dash where the accuracy was missed."""
    families = [family for family in result["families"] if "duel" in family]
    return [
        (f"{TITLE} (one picture, forward and backward)", *duel_rows(families)),
        ("Seconds (median)", *seconds_rows(families)),
    ]
