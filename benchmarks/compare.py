"""Ours and peers on one family: accuracy, turns, and a verdict against the best of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Contender, Effort, ratio, take_turns, tune
from benchmarks.peers.base import Peer
from benchmarks.problem import Problem, Truth, make_problem, solve_truth

Ours = Callable[[Problem, Truth, Effort], list[Contender | dict[str, Any]]]
Header = list[str]
Rows = list[list[str]]


def compare_family(
    name: str, shape: tuple[int, ...], peers: Sequence[Peer], ours: Ours, effort: Effort
) -> dict[str, Any]:
    """One row a contender; who missed the accuracy has a reason instead of seconds."""
    problem = make_problem(name, shape)
    truth = solve_truth(problem)
    everyone = ours(problem, truth, effort)
    everyone += [tune(peer, problem, truth, effort) for peer in peers]
    running = [contender for contender in everyone if isinstance(contender, Contender)]
    take_turns(running, effort)
    rows = [c.row() if isinstance(c, Contender) else c for c in everyone]
    return {"family": name, "truth_error_bound": truth.error_bound, "rows": rows}


@dataclass(frozen=True)
class Duel:
    """The fastest of ours against the fastest of theirs, and what is asked for."""

    ours: Callable[[str], bool]
    theirs: Callable[[str], bool]
    target: float

    def judge(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Ratios with spread, once with and once without the peers' assembly."""
        mine = _fastest(rows, self.ours)
        peer = _fastest(rows, self.theirs)
        verdict: dict[str, Any] = {
            "target": self.target,
            "ours": mine and mine["contender"],
            "peer": peer and peer["contender"],
        }
        if mine is None or peer is None:
            # Nobody of the others is accurate: there is nothing to be slower than.
            return {**verdict, "holds": None if mine is None and peer is None else mine is not None}
        own = mine["seconds"]["raw"]
        verdict["ratio"] = ratio(peer["seconds"]["raw"], own)
        verdict["ratio_without_assembly"] = ratio(peer["seconds_without_assembly"]["raw"], own)
        verdict["holds"] = verdict["ratio"]["median"] >= self.target
        return verdict


def _fastest(rows: Sequence[dict[str, Any]], among: Callable[[str], bool]) -> dict[str, Any] | None:
    measured = [row for row in rows if "seconds" in row and among(row["contender"])]
    return min(measured, key=lambda row: row["seconds"]["median"], default=None)


def spread(found: dict[str, float]) -> str:
    """Median and quartiles of a ratio."""
    return f"{found['median']:.1f} ({found['low']:.1f}–{found['high']:.1f})"


def duel_rows(families: Sequence[dict[str, Any]]) -> tuple[Header, Rows]:
    """Verdicts family by family."""
    header = ["weights", "fastest of ours", "best peer", "times faster", "without assembly", "asked", "holds"]
    rows = []
    for family in families:
        duel = family["duel"]
        ratios = [spread(duel[key]) if key in duel else "–" for key in ("ratio", "ratio_without_assembly")]
        holds = {True: "yes", False: "no", None: "–"}[duel["holds"]]
        names = [duel["ours"] or "none accurate", duel["peer"] or "none accurate"]
        rows.append([family["family"], *names, *ratios, f"{duel['target']:g}", holds])
    return header, rows


def seconds_rows(families: Sequence[dict[str, Any]], key: str = "seconds") -> tuple[Header, Rows]:
    """One column a contender; a dash where the accuracy was missed."""
    names = list(dict.fromkeys(row["contender"] for family in families for row in family["rows"]))
    table = []
    for family in families:
        by_name = {row["contender"]: row for row in family["rows"]}
        cells = [
            f"{by_name[name][key]['median']:.3g}" if key in by_name.get(name, {}) else "–" for name in names
        ]
        table.append([family["family"], *cells])
    return ["weights", *names], table
