"""Independent labelings of the 3 x 8 Ising model per second: randomized flow, exact law, Gibbs.

A draw from a flow or from the exact law depends on no other. Draws of a chain do: they count by their
effective sample size, judged by the statistic that is slowest, and the burn-in is not timed. The model has a
short fit; how far it is from the exact law stands beside. A longer one makes it more accurate, and draws at
time 1 neither faster nor slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import flowcut as fc
from benchmarks.harness import Contender, ratio, take_turns
from benchmarks.joint_problem import deviations, keeps_the_law, small_model
from benchmarks.options import Options
from benchmarks.problem import Outcome

TITLE = "Independent labelings, 3×8: a randomized flow draws 100 000 a second"
TARGET = 100_000
CHAINS, BURN_IN, THIN = 1000, 500, 10


class Effort(NamedTuple):
    """How much is fitted, judged and drawn.

    Attributes
    ----------
    steps, samples
        Of the fit.
    judged
        Labelings for marginals, and in the limit for the entropy.
    drawn
        Labelings of one timed run.
    sweeps
        Of each chain, to find out how long it remembers; and in one timed run.
    """

    steps: int
    samples: int
    judged: int
    drawn: int
    sweeps: tuple[int, int]


FULL = Effort(500, 256, 200_000, 65_536, (4000, 400))
QUICK = Effort(200, 64, 20_000, 4096, (400, 40))


class Judged(NamedTuple):
    """What is said about a way to draw.

    Attributes
    ----------
    contender
        With its runs.
    labelings
        Independent ones in a run.
    setup_seconds
        Before the first draw.
    marginal_difference
        Mean over pixels of |q_i - p_i|, as in the RAF paper's Table 1.
    kl
        KL(P || p), lower and upper bound, of an approximate law; None where it should be the law itself.
    sweeps
        For one independent labeling, by the energy and by the position of the interface.
    """

    contender: Contender
    labelings: float
    setup_seconds: float
    marginal_difference: float
    kl: tuple[float, float] | None = None
    sweeps: tuple[float, float] | None = None

    def row(self) -> dict[str, Any]:
        """For the JSON file, without seconds."""
        own = self.contender
        names = {"contender": own.name, "setting": own.setting, "errors": own.errors}
        return {**self._asdict(), **names}

    def timed_row(self) -> dict[str, Any]:
        """With them."""
        return {**self.row(), **self.contender.row()}


def run(options: Options) -> dict[str, Any]:
    """The model has one size; any that is asked for makes fit, judgement and runs short."""
    effort = FULL if options.size is None else QUICK
    energy, law = small_model("Table 1", 2)
    independent = float(fc.mean_field(energy, restarts=100).kl(law))
    judged = [*_flows(energy, law, effort), _exact(effort), _gibbs(effort)]
    faults = [_fault(one, independent) for one in judged]
    accurate = [one.contender for one, fault in zip(judged, faults, strict=True) if not fault]
    take_turns(accurate, options.effort)
    rows = [
        {**one.row(), "refused": fault} if fault else one.timed_row()
        for one, fault in zip(judged, faults, strict=True)
    ]
    return {"target": TARGET, "mean_field_kl": independent, "rows": rows, "verdicts": _verdicts(rows)}


def _fault(one: Judged, independent: float) -> str:
    """Why it is not worth timing: no better than the best independent pixels, or not what it should be."""
    if one.kl is not None and not one.kl[1] < independent:
        return "no better than independent pixels"
    return "" if keeps_the_law(one.contender.errors) else "not the exact law"


def _flows(energy: fc.PottsEnergy, law: fc.ExactLaw, effort: Effort) -> list[Judged]:
    """Draws from T(S(1)), and where the flows end."""
    model = fc.RandomizedAssignment(energy.shape)
    history = model.fit(energy, steps=effort.steps, samples=effort.samples)
    setting = f"{effort.steps} steps of {effort.samples} flows"
    found = []
    for name, limit in (("randomized flow, t = 1", False), ("randomized flow, limit", True)):
        bounds = model.kl(law, limit=limit, count=effort.judged if limit else None)
        marginals = model.marginals(effort.judged, limit=limit).value
        draw = _counting(partial(model.sample, effort.drawn, limit))
        found.append(
            Judged(
                Contender(name, setting, draw, {}), effort.drawn, history.seconds,
                difference(marginals, law), (float(bounds.lower.value), float(bounds.upper.value)),
            )
        )  # fmt: skip
    return found


def _exact(effort: Effort) -> Judged:
    check = small_model("Table 1", 2)
    start = time.perf_counter()
    law = fc.exact_law(check.energy)
    law.sample(1, seed=0)
    setup = time.perf_counter() - start
    labels = law.sample(effort.judged, seed=0)
    found = deviations(check, [labels.flatten(1).to(torch.int8).numpy()])
    marginals = torch.stack([(labels == j).double().mean(dim=0) for j in range(check.energy.num_labels)])
    contender = Contender("exact law", law.method, _counting(partial(law.sample, effort.drawn)), found)
    return Judged(contender, effort.drawn, setup, difference(marginals, check.law))


def _gibbs(effort: Effort) -> Judged:
    check = small_model("Table 1", 2)
    judged, timed = effort.sweeps
    start = time.perf_counter()
    # A seed that no run has: the same numbers after the burn-in would not be independent of its result.
    states = fc.gibbs(check.energy, CHAINS, draws=1, burn_in=BURN_IN, seed=1 << 32).labels[0]
    setup = time.perf_counter() - start

    def draw(seed: int, sweeps: int = timed) -> fc.Chains:
        return fc.gibbs(
            check.energy, CHAINS, draws=sweeps // THIN, thin=THIN, burn_in=0, initial=states, seed=seed
        )

    chains = draw(0, judged)
    sweeps = (
        CHAINS * judged / float(chains.effective_sample_size()),
        CHAINS * judged / float(chains.effective_sample_size(position)),
    )
    found = deviations(check, list(chains.states.to(torch.int8).numpy()))
    contender = Contender("Gibbs", f"{CHAINS} chains", _counting(draw), found)
    away = difference(chains.marginals(), check.law)
    return Judged(contender, CHAINS * timed / max(sweeps), setup, away, None, sweeps)


def position(labels: Tensor) -> Tensor:
    """The column where label 1 begins, mean over rows, (M, H, W) -> (M,); it moves slowly, by kinks."""
    return (labels == 0).sum(dim=2).double().mean(dim=1)


def difference(marginals: Tensor, law: fc.ExactLaw) -> float:
    """Mean over pixels of |q_i - p_i| of label 1."""
    return float((marginals[1].double() - law.marginals[1]).abs().mean())


def _counting(draw: Callable[[int], object]) -> Callable[[], Outcome]:
    """Runs of ``draw`` with seeds 1, 2, ... so that none is drawn twice; the first compiles."""
    draw(0)
    seed = 0

    def run() -> Outcome:
        nonlocal seed
        seed += 1
        draw(seed)
        return Outcome(np.empty(0), np.empty(0), np.empty(0))

    return run


def _verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both ways to draw from the flow: labelings per second, and how many times those of Gibbs and exact."""
    others = {row["contender"]: row for row in rows if "seconds" in row}
    found = []
    for row in rows[:2]:
        verdict: dict[str, Any] = {"contender": row["contender"], "holds": None}
        if "seconds" in row:
            rate = row["labelings"] / row["seconds"]["median"]
            verdict |= {"rate": rate, "holds": rate >= TARGET}
            verdict["times"] = {
                name: _times(others[name], row) for name in ("Gibbs", "exact law") if name in others
            }
        found.append(verdict)
    return found


def _times(slow: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    """Ratio of the labelings per second, with spread."""
    each = [[s / row["labelings"] for s in row["seconds"]["raw"]] for row in (slow, fast)]
    return ratio(each[0], each[1])


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Verdicts, then everybody with what the draws are worth."""
    header = ["draws from", "labelings / s", "times Gibbs", "times the exact law", "asked", "holds"]
    verdicts = [_verdict(one, result["target"]) for one in result["verdicts"]]
    columns = [
        "draws from", "setting", "labelings / s, median (quartiles)", "KL, bounds", "marginal difference",
        "sweeps a labeling: energy, interface", "s before the first",
    ]  # fmt: skip
    return [
        ("Independent labelings of the 3×8 Ising model per second", header, verdicts),
        (
            "How they are drawn; KL is that of an approximate law, of the best independent pixels "
            f"{result['mean_field_kl']:.3g}",
            columns,
            [_line(row) for row in result["rows"]],
        ),
    ]


def _verdict(found: dict[str, Any], target: float) -> list[str]:
    holds = {True: "yes", False: "no", None: "–"}[found["holds"]]
    if "rate" not in found:
        return [found["contender"], "not accurate", "–", "–", f"{target:,}", holds]
    times = [_spread(found["times"].get(name)) for name in ("Gibbs", "exact law")]
    return [found["contender"], f"{found['rate']:,.0f}", *times, f"{target:,}", holds]


def _spread(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['median']:.2g} ({found['low']:.2g}–{found['high']:.2g})"


def _line(row: dict[str, Any]) -> list[str]:
    kl = "–" if row["kl"] is None else f"{row['kl'][0]:.3f}–{row['kl'][1]:.3f}"
    if "seconds" not in row:
        return [row["contender"], row["setting"], row["refused"], kl, "–", "–", "–"]
    low, middle, high = (row["labelings"] / row["seconds"][key] for key in ("q3", "median", "q1"))
    return [
        row["contender"], row["setting"], f"{middle:,.0f} ({low:,.0f}–{high:,.0f})", kl,
        f"{row['marginal_difference']:.4f}",
        "–" if row["sweeps"] is None else "{:.0f}, {:.0f}".format(*row["sweeps"]),
        f"{row['setup_seconds']:.2g}",
    ]  # fmt: skip
