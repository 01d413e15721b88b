"""Gibbs sampling: pixel updates per second against other libraries and checkerboards by hand.

Left out: thrml, whose JAX takes more than 300 MB; see :mod:`benchmarks.joint_peers` for who takes part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import flowcut as fc
from benchmarks.compare import Duel, duel_rows
from benchmarks.harness import Contender, take_turns
from benchmarks.joint_peers import FLOWCUT, OURS, Peer, Sampler, installed
from benchmarks.joint_problem import (
    ALLOWED,
    BETWEEN,
    CHECK_CHAINS,
    FORGET,
    SNAPSHOTS,
    Check,
    Kind,
    deviations,
    keeps_the_law,
    make_energy,
    small_model,
)
from benchmarks.options import Options
from benchmarks.problem import Outcome

TITLE = "Gibbs sampling: as many pixel updates per second as the best of libraries and checkerboards by hand"
TARGET = 1.0
# Per cent of a run's sweeps that decide between settings.
TUNING = 25
# Chains of the accuracy check where a size is asked for.
FEW = 128


class Case(NamedTuple):
    """A model and how often it is drawn at once; about ten million pixel updates a run."""

    kind: Kind
    labels: int
    shape: tuple[int, ...]
    chains: int
    sweeps: int

    def describe(self) -> str:
        """One short text for tables."""
        return f"{self.kind}, {self.labels} labels, {'×'.join(map(str, self.shape))} × {self.chains}"


CASES = (
    Case("Table 1", 2, (3, 8), 1000, 400),
    Case("fields", 2, (64, 64), 64, 40),
    Case("fields", 2, (256, 256), 1, 160),
    Case("no field", 2, (64, 64), 64, 40),
    Case("no field", 2, (256, 256), 1, 160),
    Case("fields", 4, (3, 8), 1000, 400),
    Case("fields", 4, (64, 64), 64, 40),
    Case("fields", 4, (256, 256), 1, 160),
)


class Checks:
    """Deviations of every contender from the exact law of the small model of a kind, found once each."""

    def __init__(self, chains: int) -> None:
        self.chains = chains
        self.found: dict[tuple[str, str, Kind, int], dict[str, float]] = {}

    def deviations(self, peer: Peer, setting: str, kind: Kind, labels: int) -> dict[str, float]:
        """See :func:`benchmarks.joint_problem.deviations`."""
        key = peer.name, setting, kind, labels
        if key not in self.found:
            check = small_model(kind, labels)
            self.found[key] = accuracy(peer.make(check.energy, self.chains, setting), check)
        return self.found[key]


def accuracy(sampler: Sampler, check: Check) -> dict[str, float]:
    """Deviations of a sampler that begins, see :func:`benchmarks.joint_problem.deviations`."""
    sampler.advance(FORGET)
    return deviations(check, [sampler.advance(BETWEEN).labels for _ in range(SNAPSHOTS)])


def run(options: Options) -> dict[str, Any]:
    """A size asked for can only make pictures smaller and chains fewer."""
    peers, missing = installed(options.peers)
    checks = Checks(CHECK_CHAINS if options.size is None else FEW)
    cases = [_measure(_within(case, options), peers, options, checks) for case in CASES]
    return {"missing_peers": missing, "allowed": ALLOWED, "target": TARGET, "cases": cases}


def _within(case: Case, options: Options) -> Case:
    if options.size is None:
        return case
    shape = tuple(min(side, options.size) for side in case.shape)
    return case._replace(shape=shape, chains=min(case.chains, options.size))


def _measure(case: Case, peers: Sequence[Peer], options: Options, checks: Checks) -> dict[str, Any]:
    energy = make_energy(case.kind, case.shape, case.labels)
    everyone = [_admit(peer, energy, case, checks) for peer in (FLOWCUT, *peers)]
    take_turns([found for found in everyone if isinstance(found, Contender)], options.effort)
    rows = [found.row() if isinstance(found, Contender) else found for found in everyone]
    duel = Duel(OURS.__eq__, OURS.__ne__, TARGET).judge(rows)
    updates = case.chains * math.prod(case.shape) * case.sweeps
    return {**case._asdict(), "family": case.describe(), "updates": updates, "rows": rows, "duel": duel}


def _admit(peer: Peer, energy: fc.PottsEnergy, case: Case, checks: Checks) -> Contender | dict[str, Any]:
    """The fastest setting of a peer, if what it draws has the exact law."""
    reason = peer.refuses(energy)
    if reason:
        return {"contender": peer.name, "refused": reason}
    setting, sampler = _fastest(peer, energy, case)
    found = checks.deviations(peer, setting, case.kind, case.labels)
    if not keeps_the_law(found):
        return {"contender": peer.name, "setting": setting, "errors": found, "refused": "not the exact law"}
    return Contender(peer.name, setting, _runner(sampler, case.sweeps), found)


def _fastest(peer: Peer, energy: fc.PottsEnergy, case: Case) -> tuple[str, Sampler]:
    best: tuple[float, str, Sampler] | None = None
    for setting in peer.settings:
        sampler = peer.make(energy, case.chains, setting)
        # Compiles; and chains forget their start, of which the time of some depends.
        sampler.advance(TUNING * case.sweeps // 100)
        start = time.perf_counter()
        sampler.advance(TUNING * case.sweeps // 100)
        seconds = time.perf_counter() - start
        if best is None or seconds < best[0]:
            best = seconds, setting, sampler
    assert best is not None
    return best[1:]


def _runner(sampler: Sampler, sweeps: int) -> Callable[[], Outcome]:
    def run() -> Outcome:
        # The labels are with the sampler; nobody reads them here.
        found = sampler.advance(sweeps)
        return Outcome(np.empty(0), np.empty(0), np.empty(0), found.assembly_seconds)

    return run


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Ratios, then updates per second, then how exact everyone is."""
    header, rows = duel_rows(result["cases"])
    names = list(dict.fromkeys(row["contender"] for case in result["cases"] for row in case["rows"]))
    return [
        ("Gibbs sampling against the best peer (size × chains)", ["model", *header[1:]], rows),
        (
            "Million pixel updates per second, median (quartiles)",
            ["model", *names],
            [[case["family"], *(_rate(case, name) for name in names)] for case in result["cases"]],
        ),
        (
            "Largest deviation of a marginal / of the mean energy from the exact law of a small model of the "
            f"kind, in standard errors (at most {result['allowed']:g})",
            ["model", *names],
            [[case["family"], *(_deviation(case, name) for name in names)] for case in result["cases"]],
        ),
    ]


def _row(case: dict[str, Any], name: str) -> dict[str, Any]:
    return next((row for row in case["rows"] if row["contender"] == name), {})


def _rate(case: dict[str, Any], name: str) -> str:
    row = _row(case, name)
    if "seconds" not in row:
        return str(row.get("refused", "–"))
    # The slowest quartile of seconds is the lowest of the rate.
    low, middle, high = (1e-6 * case["updates"] / row["seconds"][key] for key in ("q3", "median", "q1"))
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def _deviation(case: dict[str, Any], name: str) -> str:
    errors = _row(case, name).get("errors")
    if errors is None:
        return "–"
    return " / ".join("not finite" if isinstance(value, str) else f"{value:.1f}" for value in errors.values())
