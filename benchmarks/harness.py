"""Accuracy first, then time: contenders of one problem take turns in one process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.peers.base import Peer, Setting, TooSlowError
from benchmarks.problem import Outcome, Problem, Truth, errors, is_accurate

TOLERANCES = tuple(10.0**-k for k in range(2, 13))
# So many tightenings without halving the error: the precision is exhausted.
STALLED = 3


@dataclass(frozen=True)
class Effort:
    """How much time a measurement may take.

    Parameters
    ----------
    repeats
        Least and most repetitions of one contender.
    seconds
        Repetitions above the least stop when a contender has used so much time.
    patience
        Even the least are cut short for a contender that has used so much: it is far from
        being the best, and its spread does not matter.
    deadline
        A single run of an iterative peer longer than this counts as a failure.
    """

    repeats: tuple[int, int] = (3, 15)
    seconds: float = 1.0
    patience: float = 3.0
    deadline: float = 4.0


@dataclass
class Contender:
    """A setting that passed the accuracy check, and its measured seconds."""

    name: str
    setting: str
    run: Callable[[], Outcome]
    errors: dict[str, float]
    settle: float = 0.0
    seconds: list[float] = field(default_factory=list)
    assembly: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Raw repetitions and their quartiles, with and without assembly."""
        net = [total - part for total, part in zip(self.seconds, self.assembly, strict=True)]
        return {
            "contender": self.name,
            "setting": self.setting,
            "errors": self.errors,
            "seconds": summary(self.seconds),
            "seconds_without_assembly": summary(net),
            "assembly_seconds": summary(self.assembly),
        }


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and the raw values."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": middle, "q1": low, "q3": high, "raw": list(values)}


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times faster ``fast`` is: ratio of medians, and of the quartiles at their worst and best."""
    a, b = np.quantile(slow, [0.25, 0.5, 0.75]), np.quantile(fast, [0.25, 0.5, 0.75])
    return {"median": float(a[1] / b[1]), "low": float(a[0] / b[2]), "high": float(a[2] / b[0])}


def tune(peer: Peer, problem: Problem, truth: Truth, effort: Effort) -> Contender | dict[str, Any]:
    """The fastest setting of a peer that meets the accuracy, or why there is none.

    Iterative peers get the loosest power of ten that suffices. The runs also serve as warm-up.
    """
    best: tuple[float, Setting, dict[str, float]] | None = None
    reasons = []
    for base in peer.settings:
        # Who is at half the speed of another setting before it is accurate has lost already.
        limit = effort.deadline if best is None else min(effort.deadline, 2 * best[0])
        result = _loosest(peer, problem, truth, base, limit)
        if isinstance(result, str):
            reasons.append(result)
        elif best is None or result[0] < best[0]:
            best = result
    if best is None:
        return {"contender": peer.name, "refused": "; ".join(reasons)}
    _, setting, found = best

    def run() -> Outcome:
        return peer.forward_backward(problem, setting)

    return Contender(peer.name, setting.describe(), run, found, peer.settle)


def _loosest(
    peer: Peer, problem: Problem, truth: Truth, base: Setting, limit: float
) -> tuple[float, Setting, dict[str, float]] | str:
    """Seconds, setting and errors of the loosest tolerance that is accurate; else the reason."""
    worst: list[float] = []
    for tolerance in TOLERANCES if peer.iterative else (None,):
        setting = replace(base, tolerance=tolerance)
        start = time.perf_counter()
        try:
            outcome = peer.forward_backward(problem, setting, start + limit)
        except TooSlowError:
            return f"{setting.describe()}: not accurate within {limit:.1f} s"
        seconds = time.perf_counter() - start
        found = errors(outcome, truth)
        if is_accurate(found):
            return seconds, setting, found
        worst.append(max(found.values()))
        if len(worst) > STALLED and worst[-1] > worst[-1 - STALLED] / 2:
            return f"{setting.describe()}: error stays at {worst[-1]:.0e}"
    return f"{setting.describe()}: error {worst[-1]:.0e}"


def admit(
    name: str, setting: str, run: Callable[[], Outcome], truth: Truth, settle: float = 0.0
) -> Contender | dict[str, Any]:
    """Run twice (the first call compiles and analyses), check, and refuse what is not accurate."""
    run()
    found = errors(run(), truth)
    if not is_accurate(found):
        return {"contender": name, "setting": setting, "errors": found, "refused": "not accurate"}
    return Contender(name, setting, run, found, settle)


def take_turns(contenders: Sequence[Contender], effort: Effort) -> None:
    """Measure everyone once a round, so that a busy moment hits all alike."""
    least, most = effort.repeats
    for turn in range(most):
        # Another order every round: nobody always runs in the cache of the same neighbour.
        shift = turn % max(len(contenders), 1)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            spent = sum(contender.seconds)
            if spent > effort.patience or (turn >= least and spent > effort.seconds):
                continue
            gc.collect()
            start = time.perf_counter()
            outcome = contender.run()
            contender.seconds.append(time.perf_counter() - start)
            contender.assembly.append(outcome.assembly_seconds)
            time.sleep(contender.settle)
