"""RAF section 6: is the advantage over mean field larger at lower temperature?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from flowcut.joint.belief import belief_propagation
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.mean_field import mean_field
from flowcut.train.reproduce.chart import Chart, Colour, Line, draw_charts
from flowcut.train.reproduce.energies import boundary_ising, check_boundary_ising
from flowcut.train.reproduce.experiment import Kind, Outcome, Row, Workspace, check_least, check_positive
from flowcut.train.reproduce.flow_fit import Flow, fit_flow, kept
from flowcut.train.reproduce.judge import (
    Numbers,
    difference,
    flow_numbers,
    limit_numbers,
    mean_field_numbers,
    weigh,
    weighted_numbers,
)

__all__ = ["KIND", "Settings"]

_RED: Colour = (200, 40, 40)
_ORANGE: Colour = (235, 150, 30)
_BLUE: Colour = (30, 110, 190)
_GREEN: Colour = (40, 140, 70)
_GREY: Colour = (150, 150, 150)
# Estimates scatter about numbers near 0, which a logarithmic axis has no room for.
_LEAST = 1e-4


@dataclass(frozen=True)
class Settings:
    """Settings of the sweep.

    Parameters
    ----------
    height, width : int
        Of the grid, at most 21 pixels along the shorter side; width >= 2.
    cost, boundary : float
        Of the Ising model at temperature 1, see the kind ``raf_ising``; > 0.
    temperatures : tuple of float
        Two or more, > 0, each once.
    seeds : tuple of int
        One or more, >= 0.
    restarts : int
        Of mean field, >= 1.
    draws, labelings : int
        That the flows are judged with, see ``raf_ising``; >= 2.
    flow : Flow
        Fitted at every temperature with every seed.
    """

    height: int = 3
    width: int = 8
    cost: float = 2.1
    boundary: float = 3.0
    temperatures: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    restarts: int = 1000
    draws: int = 8192
    labelings: int = 200_000
    flow: Flow = field(default_factory=Flow)

    def __post_init__(self) -> None:
        check_boundary_ising(self)
        check_least("temperatures, their number", len(self.temperatures), 2)
        check_positive("temperatures", min(self.temperatures))
        check_positive("temperatures", max(self.temperatures))
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(f"temperatures: expected each once, got {self.temperatures}")
        self.flow.check("flow", self.height * self.width)
        check_least("flow.steps", self.flow.steps, 1)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the sweep.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    cold = boundary_ising(settings.height, settings.width, settings.cost, settings.boundary)
    values, seconds = {}, {}
    for temperature in sorted(settings.temperatures):
        energy = cold.at_temperature(temperature)
        law = exact_law(energy)
        found: dict[str, Any] = {
            "exact": {"log_z": float(law.log_z), "entropy": float(law.entropy)},
            "coins": {"kl": _coins(energy, law)},
            "mean_field": mean_field_numbers(mean_field(energy, settings.restarts, on_failure="ignore"), law),
            "belief": _belief(energy, law),
            "flow": [],
            "limit": [],
            "weighted": [],
        }
        for seed in settings.seeds:
            name = f"{temperature:g}_{seed}"
            fit = fit_flow(settings.flow, energy, seed, workspace, f"flow_{name}")
            seconds[f"T = {temperature:g}, seed {seed}"] = fit.seconds
            for key, judge in _judges(settings).items():
                found[key].append(kept(workspace, f"{key}_{name}", _later(judge, fit.model, law, seed)))
        values[f"{temperature:g}"] = found
    return Outcome(_rows(values), {"seeds": settings.seeds, **values}, seconds, _picture(values))


def _judges(settings: Settings) -> dict[str, Callable[..., Numbers]]:
    return {
        "flow": lambda model, law, seed: flow_numbers(model, law, settings.draws, seed),
        "limit": lambda model, law, seed: limit_numbers(model, law, settings.labelings, seed),
        "weighted": lambda model, law, seed: weighted_numbers(
            weigh(model, law.energy, settings.draws, seed), law
        ),
    }


def _later(judge: Callable[..., Numbers], *arguments: object) -> Callable[[], dict[str, Any]]:
    return lambda: judge(*arguments)


def _coins(energy: PottsEnergy, law: ExactLaw) -> float:
    """KL of independent fair coins: how far there is to go."""
    fair = torch.full((1, *energy.shape), 1 / energy.num_labels, dtype=energy.dtype)
    entropy = fair[0, 0].numel() * math.log(energy.num_labels)
    return float(energy.mean_field_energy(fair)) - entropy + float(law.log_z)


def _belief(energy: PottsEnergy, law: ExactLaw) -> dict[str, float | bool]:
    found = belief_propagation(energy, on_failure="ignore")
    return {
        "log_z": float(found.log_z),
        "difference": difference(found.marginals, law.marginals),
        "converged": found.converged,
    }


def _middle(found: dict[str, Any], key: str, name: str = "kl") -> float:
    """The median of several seeds."""
    return float(median(one[name] for one in found[key]))


def _log_z_error(found: dict[str, Any], key: str) -> float:
    """Of a single estimate, or the median of several seeds."""
    exact: float = found["exact"]["log_z"]
    given = found[key] if isinstance(found[key], list) else [found[key]]
    return median(abs(one["log_z"] - exact) for one in given)


def _rows(values: dict[str, dict[str, Any]]) -> tuple[Row, ...]:
    """One quantity a row, medians of the seeds, in the order of the temperatures."""

    def row(what: str, read: Callable[[dict[str, Any]], float], digits: int = 3, paper: str = "") -> Row:
        return Row(what, paper, ", ".join(f"{read(found):.{digits}f}" for found in values.values()))

    def ahead(key: str) -> Callable[[dict[str, Any]], float]:
        return lambda found: found["mean_field"]["kl"] - _middle(found, key)

    grows = "grows as T falls"
    rows = (
        Row("temperature", "", ", ".join(values)),
        row("KL: mean field", lambda found: found["mean_field"]["kl"]),
        row("KL: ours, drawn", lambda found: _middle(found, "flow")),
        row("KL: ours, drawn, the worst seed", lambda found: max(one["kl"] for one in found["flow"])),
        row("KL: ours, limit", lambda found: _middle(found, "limit")),
        row("KL: mean field less ours, drawn", ahead("flow"), 2, grows),
        row("KL: mean field less ours, limit", ahead("limit"), 2, grows),
        row("error of log Z: belief propagation", lambda found: _log_z_error(found, "belief")),
        row("error of log Z: ours, weighted", lambda found: _log_z_error(found, "weighted")),
        row("marginal difference: mean field", lambda found: found["mean_field"]["difference"], 4),
        row("marginal difference: belief propagation", lambda found: found["belief"]["difference"], 4),
        row("marginal difference: ours, drawn", lambda found: _middle(found, "flow", "difference"), 4),
        row("marginal difference: ours, weighted", lambda found: _middle(found, "weighted", "difference"), 4),
    )
    unsettled = [name for name, found in values.items() if not found["belief"]["converged"]]
    if not unsettled:
        return rows
    return (
        *rows,
        Row("messages of belief propagation that did not settle", "", f"T = {', '.join(unsettled)}"),
    )


def _picture(values: dict[str, dict[str, Any]]) -> Tensor:
    temperatures = [float(name) for name in values]

    def line(
        label: str, colour: Colour, read: Callable[[dict[str, Any]], float], dashed: bool = False
    ) -> Line:
        y = [max(_LEAST, read(found)) for found in values.values()]
        return Line(label, temperatures, y, colour, dashed=dashed)

    coins = line("fair coins", _GREY, lambda found: found["coins"]["kl"])
    mean = line("mean field", _BLUE, lambda found: found["mean_field"]["kl"])
    kl = [
        coins,
        mean,
        line("ours, limit", _ORANGE, lambda found: _middle(found, "limit")),
        line("ours, drawn", _RED, lambda found: _middle(found, "flow")),
    ]
    # The best bound on log Z that a product of pixels gives is off by its KL.
    log_z = [
        coins,
        mean,
        line("belief propagation", _GREEN, lambda found: _log_z_error(found, "belief")),
        line("ours, weighted", _RED, lambda found: _log_z_error(found, "weighted"), dashed=True),
    ]
    return draw_charts(
        [Chart("KL to the law", "temperature", kl), Chart("Error of log Z", "temperature", log_z)]
    )


KIND = Kind("raf_temperature", Settings, run)
