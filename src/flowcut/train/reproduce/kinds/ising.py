"""RAF Table 1, Figs. 2, 3: randomized flows beside the exact law of an Ising model, mean field and Gibbs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.mean_field import MeanField, mean_field
from flowcut.train.reproduce.energies import boundary_ising, check_boundary_ising
from flowcut.train.reproduce.experiment import Kind, Outcome, Workspace, check_least
from flowcut.train.reproduce.flow_fit import Fit, Flow, fit_flow, kept
from flowcut.train.reproduce.ising_table import PRINTED, Table, table_rows
from flowcut.train.reproduce.judge import (
    JUDGE,
    Numbers,
    chain_numbers,
    flow_numbers,
    limit_numbers,
    mean_field_numbers,
    weigh,
    weighted_numbers,
)
from flowcut.train.reproduce.sampling import Sampling, labels_per_second
from flowcut.vision.panel import colour_values, draw_panel

__all__ = ["KIND", "Settings"]

_TABLE_1 = (3, 8, 2.1, 3.0)
# Samples in the picture, and about how high each of them is.
_SHOWN, _HEIGHT = 5, 96


@dataclass(frozen=True)
class Settings:
    """Settings of the table.

    Parameters
    ----------
    height, width : int
        Of the grid, at most 21 pixels along the shorter side; width >= 2.
    cost : float
        Of an unequal edge, > 0.
    boundary : float
        Label 0 costs so much less in the leftmost, and so much more in the rightmost column; > 0.
    seeds : tuple of int
        One or more, >= 0: every fit is done with each.
    restarts : int
        Of mean field, >= 1.
    draws : int
        Flows that bounds and weights are estimated with, >= 2.
    labelings : int
        That the entropy in the limit is estimated with, >= 2.
    flow : Flow
        Labels are drawn at its last time; its limit is shown too. At least one step.
    limit : Flow
        To be judged by its limit; with 0 steps it is left out.
    paper : Flow
        The paper's family and objective; with 0 steps it is left out.
    gibbs : Sampling
        Chosen so that it takes about as long as the flow.
    """

    height: int = 3
    width: int = 8
    cost: float = 2.1
    boundary: float = 3.0
    seeds: tuple[int, ...] = (0, 1, 2)
    restarts: int = 1000
    draws: int = 8192
    labelings: int = 1_000_000
    flow: Flow = field(default_factory=Flow)
    limit: Flow = field(default_factory=lambda: Flow(steps=0))
    paper: Flow = field(default_factory=lambda: Flow(steps=0))
    gibbs: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        check_boundary_ising(self)
        for name in ("flow", "limit", "paper"):
            getattr(self, name).check(name, self.height * self.width)
        check_least("flow.steps", self.flow.steps, 1)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the table.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    energy = boundary_ising(settings.height, settings.width, settings.cost, settings.boundary)
    law = exact_law(energy)
    mean = mean_field(energy, settings.restarts, on_failure="ignore")
    fits = {
        name: [fit_flow(flow, energy, seed, workspace, f"{name}_{seed}") for seed in settings.seeds]
        for name in ("paper", "flow", "limit")
        if (flow := getattr(settings, name)).steps
    }
    gibbs = kept(workspace, "gibbs", lambda: _gibbs(settings.gibbs, law))
    timed = kept(workspace, "timed", lambda: _timed(settings, law, fits["flow"][0]))
    table = Table(
        exact={name: float(getattr(law, f"mean_{name}" if name == "energy" else name))
               for name in ("log_z", "energy", "entropy")},
        numbers={"mean_field": [mean_field_numbers(mean, law)],
                 **_numbers(settings, law, fits, workspace), "gibbs": [gibbs["numbers"]]},
        labels=_labels(settings),
        printed=PRINTED if _is_table_1(settings) else {},
        fits={name: [fit.seconds for fit in each] for name, each in fits.items()},
        timed={"Gibbs": gibbs["seconds"], **timed},
    )  # fmt: skip
    values = {"seeds": settings.seeds, "exact": table.exact, **table.numbers}
    seconds = {
        f"{name}, seed {seed}": spent
        for name, each in table.fits.items()
        for seed, spent in zip(settings.seeds, each, strict=True)
    }
    picture = _picture(settings, law, mean, fits, table)
    return Outcome(table_rows(table), values, {**seconds, **table.timed}, picture)


def _is_table_1(settings: Settings) -> bool:
    return (settings.height, settings.width, settings.cost, settings.boundary) == _TABLE_1


def _numbers(
    settings: Settings, law: ExactLaw, fits: dict[str, list[Fit]], workspace: Workspace
) -> dict[str, list[Numbers]]:
    """By what is judged; of each seed."""

    def drawn(fit: Fit, seed: int) -> Numbers:
        return flow_numbers(fit.model, law, settings.draws, seed)

    def ended(fit: Fit, seed: int) -> Numbers:
        return limit_numbers(fit.model, law, settings.labelings, seed)

    def weighted(fit: Fit, seed: int) -> Numbers:
        return weighted_numbers(weigh(fit.model, law.energy, settings.draws, seed), law)

    judges: dict[str, tuple[str, Callable[[Fit, int], Numbers]]] = {
        "paper": ("paper", ended),
        "paper_drawn": ("paper", drawn),
        "flow": ("flow", drawn),
        "flow_limit": ("flow", ended),
        "limit": ("limit", ended),
        "weighted": ("flow", weighted),
    }
    found: dict[str, list[Numbers]] = {}
    for name, (fit, judge) in judges.items():
        pairs = zip(fits.get(fit, []), settings.seeds, strict=False)
        each = [kept(workspace, f"judged_{name}_{seed}", _later(judge, one, seed)) for one, seed in pairs]
        found |= {name: each} if each else {}
    return found


def _later(judge: Callable[[Fit, int], Numbers], fit: Fit, seed: int) -> Callable[[], dict[str, Any]]:
    return lambda: judge(fit, seed)


def _gibbs(sampling: Sampling, law: ExactLaw) -> dict[str, Any]:
    chains, seconds = sampling.run(law.energy, seed=0)
    return {"numbers": chain_numbers(chains, law), "seconds": seconds}


def _timed(settings: Settings, law: ExactLaw, fit: Fit) -> dict[str, float]:
    """Seconds that mean field and a labeling take."""
    began = time.perf_counter()
    mean_field(law.energy, settings.restarts, on_failure="ignore")
    return {
        "mean field": time.perf_counter() - began,
        "a labeling, drawn": 1 / labels_per_second(fit.model, limit=False),
        "a labeling, limit": 1 / labels_per_second(fit.model, limit=True),
    }


def _labels(settings: Settings) -> dict[str, str]:
    drawn = f"drawn at t = {settings.flow.last_time or settings.flow.time:g}"
    paper = f"drawn at t = {settings.paper.last_time or settings.paper.time:g}"
    return {
        "mean_field": f"mean field, best of {settings.restarts}",
        "paper": "the paper's flow and objective, limit",
        "paper_drawn": f"the paper's flow and objective, {paper}",
        "flow": f"ours, {drawn}",
        "flow_limit": "ours, limit of the same flows",
        "limit": "ours, limit of flows fitted for it",
        "weighted": f"ours, {drawn}, weighted",
        "gibbs": "Gibbs",
    }


def _picture(
    settings: Settings, law: ExactLaw, mean: MeanField, fits: dict[str, list[Fit]], table: Table
) -> Tensor:
    """Marginals of label 1 above, samples below, of the first seed: label 0 in violet, 1 in yellow."""
    seed = JUDGE + settings.seeds[0]
    columns: dict[str, list[Tensor]] = {}

    def add(title: str, marginals: Tensor, samples: Tensor) -> None:
        columns[title] = [colour_values(one, 0.0, 1.0) for one in (marginals[1], *samples.double())]

    def kl(name: str) -> str:
        return f"KL {table.numbers[name][0]['kl']:.2f}"

    add("exact: marginals, samples", law.marginals, law.sample(_SHOWN, seed))
    add(f"mean field: {kl('mean_field')}", mean.assignments, mean.sample(_SHOWN, seed))
    drawn = f"ours at t = {settings.flow.last_time or settings.flow.time:g}"
    for name, title in (("paper", "the paper's, limit"), ("flow", drawn), ("limit", "ours, limit")):
        if name in fits:
            model, limit = fits[name][0].model, name != "flow"
            marginals = model.marginals(limit=limit, seed=seed).value
            add(f"{title}: {kl(name)}", marginals, model.sample(_SHOWN, limit=limit, seed=seed))
    return draw_panel(columns, height=settings.height * max(1, round(_HEIGHT / settings.height)))


KIND = Kind("raf_ising", Settings, run)
