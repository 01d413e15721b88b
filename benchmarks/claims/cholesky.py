"""Cholesky at a shape it has seen before against direct solvers that start from nothing."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from benchmarks import ours
from benchmarks.compare import Duel, compare_family, duel_rows, seconds_rows
from benchmarks.families import FAMILIES
from benchmarks.harness import Contender, Effort, admit
from benchmarks.options import Options
from benchmarks.peers import all_peers
from benchmarks.problem import Problem, Truth

TITLE = "Cholesky once a shape has been seen: 15 times faster than KLU, 3 times than one-shot PARDISO"
# The time of a direct solver hardly depends on the weights: one family of each kind.
FEW = ("const10", "logn2", "cam1000")
RIVALS = {
    "KLU, factored twice": 15.0,
    "torch_sparse_solve": 15.0,
    "KLU": 15.0,
    "PARDISO one-shot": 3.0,
}
NAME = "flowcut Cholesky"


def run(options: Options) -> dict[str, Any]:
    """The first call analyses the shape and is not timed."""
    side = options.side(512)
    peers, missing = all_peers(options.peers, only=tuple(RIVALS))
    # Here the slow ones are the point.
    effort = replace(options.effort, patience=inf)
    families = []
    for name in FEW if options.families == FAMILIES else options.families:
        family = compare_family(name, (side, side), peers, _cholesky, effort)
        for rival in [peer.name for peer in peers]:
            duel = Duel(NAME.__eq__, rival.__eq__, RIVALS[rival]).judge(family["rows"])
            families.append({**family, "family": f"{name} / {rival}", "duel": duel})
    return {"size": [side, side], "missing_peers": missing, "families": families}


def _cholesky(problem: Problem, truth: Truth, effort: Effort) -> list[Contender | dict[str, Any]]:
    solver = ours.solvers()[NAME]
    return [admit(NAME, repr(solver), ours.runner(problem, solver), truth, ours.SETTLE)]


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One row a family and rival."""
    size = "×".join(map(str, result["size"]))
    firsts = {family["family"].split(" / ")[0]: family for family in reversed(result["families"])}
    once = [{**family, "family": name} for name, family in reversed(firsts.items())]
    return [
        (
            f"Cholesky against other direct solvers, forward + backward, {size}",
            *duel_rows(result["families"]),
        ),
        (f"Seconds of direct solvers, forward + backward, {size} (median)", *seconds_rows(once)),
    ]
