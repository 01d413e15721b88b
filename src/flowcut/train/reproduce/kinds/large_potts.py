"""Potts models of pictures, too large for exact sums: randomized flows beside long Gibbs chains."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowcut.core.records import read_record, write_record
from flowcut.joint.belief import BeliefPropagation, belief_propagation
from flowcut.joint.chains import Chains
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.mean_field import MeanField, mean_field
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.train.reproduce.energies import Scene, noisy_potts
from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Workspace,
    check_least,
    check_positive,
    percent,
)
from flowcut.train.reproduce.flow_fit import Flow, fit_flow, kept
from flowcut.train.reproduce.judge import JUDGE, difference, finite, weigh
from flowcut.train.reproduce.sampling import Sampling, labels_per_second
from flowcut.vision.panel import draw_panel

__all__ = ["KIND", "Settings"]

_COLOURS = torch.tensor(
    [[0.10, 0.20, 0.55], [0.95, 0.75, 0.20], [0.70, 0.15, 0.20], [0.20, 0.60, 0.35], [0.85, 0.85, 0.85]]
)
# Chains are judged by the share of each label in so many blocks along each axis.
_BLOCKS = 8
_SHOWN = 2
_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Parameters
    ----------
    size : tuple of int
        (height, width), >= 8.
    labels : int
        J, 2 to 5.
    weight, noise, smooth : float
        Of ties, of the noise (the labels' values are 0, 1, 2, ...), and the radius of regions; > 0.
    seed : int
        Of scene and samplers, >= 0.
    gibbs : Sampling
        The reference; an even number of chains.
    restarts : int
        Of mean field, >= 1.
    sweeps : int
        Of belief propagation, at most; >= 1.
    draws, labelings : int
        Flows whose S(t), and flows whose limit is judged; >= 2.
    flow : Flow
        At least one step.
    """

    size: tuple[int, int] = (64, 64)
    labels: int = 3
    weight: float = 1.0
    noise: float = 1.0
    smooth: float = 4.0
    seed: int = 0
    gibbs: Sampling = field(default_factory=lambda: Sampling(chains=8, draws=500, thin=10))
    restarts: int = 4
    sweeps: int = 1000
    draws: int = 256
    labelings: int = 256
    flow: Flow = field(default_factory=lambda: Flow(couplings="window", window=3))

    def __post_init__(self) -> None:
        check_least("size", min(self.size), 8)
        least = {"labels": 2, "seed": 0, "restarts": 1, "sweeps": 1, "draws": 2, "labelings": 2}
        for name, value in least.items():
            check_least(name, getattr(self, name), value)
        for name in ("weight", "noise", "smooth"):
            check_positive(name, getattr(self, name))
        if self.labels > len(_COLOURS):
            raise ValueError(f"labels: expected 2 to {len(_COLOURS)}, got {self.labels}")
        if self.gibbs.chains % 2:
            raise ValueError(f"gibbs.chains: expected an even number, got {self.gibbs.chains}")
        self.flow.check("flow", math.prod(self.size))
        check_least("flow.steps", self.flow.steps, 1)


class _Law(NamedTuple):
    """What a method says: marginals, samples where it has any, and a bound or estimate of -log Z."""

    marginals: Tensor
    samples: Tensor | None
    free_energy: float | None


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the comparison.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    scene = noisy_potts(
        settings.size, settings.labels, settings.weight, settings.noise, settings.smooth, settings.seed
    )
    reference = _reference(settings, scene.energy, workspace)
    mean, belief, timed = _approximations(settings, scene.energy)
    fit = fit_flow(settings.flow, scene.energy, settings.seed, workspace, "flow")
    workspace.say("judging: flow")
    numbers = kept(workspace, "judged", lambda: _judge(settings, scene.energy, fit.model))
    timed |= {"Gibbs": reference["seconds"], "fitting ours": fit.seconds}
    timed |= kept(workspace, "timed", lambda: _timed(settings, fit.model))
    laws = {
        "each pixel by itself": _Law(scene.energy.unary[0].neg().softmax(dim=0), None, None),
        "Gibbs": _Law(reference["marginals"], reference["samples"], None),
        "mean field": _Law(mean.assignments, mean.sample(_SHOWN, JUDGE), float(mean.free_energy)),
        "belief propagation": _Law(belief.marginals, None, float(belief.free_energy)),
        **_of_flow(settings, fit.model, numbers["free_energy"]),
    }
    free = {name: law.free_energy for name, law in laws.items() if law.free_energy is not None}
    values = {
        "difference": {name: difference(law.marginals, reference["marginals"]) for name, law in laws.items()},
        "free_energy_per_pixel": {name: value / scene.truth.numel() for name, value in free.items()},
        "wrong": {name: _wrong(law.marginals, scene.truth) for name, law in laws.items()},
        "gibbs": reference["numbers"],
        "flow": numbers,
        "belief": {"converged": belief.converged, "sweeps": belief.sweeps},
    }
    return Outcome(_rows(settings, values, timed), values, timed, _picture(scene, laws))


def _approximations(
    settings: Settings, energy: PottsEnergy
) -> tuple[MeanField, BeliefPropagation, dict[str, float]]:
    """What others do without sampling, and seconds."""
    began = time.perf_counter()
    mean = mean_field(energy, settings.restarts, seed=settings.seed, on_failure="ignore")
    between = time.perf_counter()
    belief = belief_propagation(energy, max_sweeps=settings.sweeps, tolerance=1e-6, on_failure="ignore")
    ended = time.perf_counter()
    return mean, belief, {"mean field": between - began, "belief propagation": ended - between}


def _reference(settings: Settings, energy: PottsEnergy, workspace: Workspace) -> dict[str, Any]:
    """Gibbs, or what an earlier run of the same experiment has kept of it."""
    path = workspace.folder / "gibbs.pt"
    if not path.exists():
        workspace.say("sampling: Gibbs")
        chains, seconds = settings.gibbs.run(energy, settings.seed)
        found = {
            "marginals": chains.marginals(),
            "samples": chains.labels[-1, :_SHOWN],
            "numbers": _trust(settings, chains),
            "seconds": seconds,
        }
        write_record(path, "gibbs_reference", _VERSION, found)
    return read_record(path, "gibbs_reference", _VERSION)


def _trust(settings: Settings, chains: Chains) -> dict[str, float | None]:
    """How far the chains can be trusted."""
    halves = torch.tensor_split(chains.states, 2, dim=1)
    one, other = (replace(chains, states=part).marginals() for part in halves)

    def shares(labels: Tensor) -> Tensor:
        hot = torch.nn.functional.one_hot(labels, settings.labels).movedim(-1, 1).float()
        return torch.nn.functional.adaptive_avg_pool2d(hot, _BLOCKS).flatten(1)

    return {
        "halves": difference(one, other),
        "r_hat": finite(float(chains.r_hat(shares).max())),
        "effective_sample_size": finite(float(chains.effective_sample_size(shares).min())),
        "draws": chains.states.shape[0] * chains.states.shape[1],
        "energy_per_pixel": float(chains.energies.mean()) / math.prod(settings.size),
    }


def _judge(settings: Settings, energy: PottsEnergy, model: RandomizedAssignment) -> dict[str, Any]:
    pixels = math.prod(settings.size)
    bounds = model.free_energy(energy, settings.draws, seed=JUDGE)
    weights = weigh(model, energy, settings.draws, settings.seed)
    return {
        "free_energy": float(bounds.upper.value),
        "free_energy_error": float(bounds.upper.standard_error),
        "energy_per_pixel": float(bounds.energy.value) / pixels,
        "effective_sample_size": weights.effective_sample_size,
    }


def _timed(settings: Settings, model: RandomizedAssignment) -> dict[str, float]:
    return {
        "a labeling, drawn": 1 / labels_per_second(model, limit=False, count=settings.draws),
        "a labeling, limit": 1 / labels_per_second(model, limit=True, count=settings.labelings),
    }


def _of_flow(settings: Settings, model: RandomizedAssignment, free_energy: float) -> dict[str, _Law]:
    drawn, ended = model.sample(_SHOWN, seed=JUDGE), model.sample(settings.labelings, limit=True, seed=JUDGE)
    shares = torch.stack([(ended == j).double().mean(dim=0) for j in range(settings.labels)])
    return {
        "ours, drawn": _Law(model.marginals(settings.draws, seed=JUDGE).value, drawn, free_energy),
        "ours, limit": _Law(shares, ended[:_SHOWN], None),
    }


def _wrong(marginals: Tensor, truth: Tensor) -> float:
    return float((marginals.argmax(dim=0) != truth).double().mean())


def _rows(settings: Settings, values: dict[str, Any], timed: dict[str, float]) -> tuple[Row, ...]:
    gibbs = values["gibbs"]
    rows = [
        Row(f"marginal difference to Gibbs: {name}", "", f"{value:.4f}")
        for name, value in values["difference"].items()
        if name != "Gibbs"
    ]
    rows.append(Row("marginal difference between halves of Gibbs' chains", "", f"{gibbs['halves']:.4f}"))
    for name, value in values["free_energy_per_pixel"].items():
        what = "estimate of" if name == "belief propagation" else "bound above"
        rows.append(Row(f"{what} -log Z, each pixel's share: {name}", "", f"{value:.4f}"))
    rows += [
        Row(f"wrong pixels, labels with the largest marginals: {name}", "", percent(value))
        for name, value in values["wrong"].items()
    ]
    size, r_hat = gibbs["effective_sample_size"], gibbs["r_hat"]
    trust = "-" if size is None or r_hat is None else f"{r_hat:.4f}, {size:,.0f} of {gibbs['draws']:,}"
    weights = f"{values['flow']['effective_sample_size']:.1f} of {settings.draws}"
    rows += [
        Row("Gibbs: R-hat, effective sample size, worst block", "", trust),
        Row("effective sample size of weights for ours", "", weights),
    ]
    if not values["belief"]["converged"]:
        rows.append(Row("messages of belief propagation", "", f"not settled in {settings.sweeps} sweeps"))
    times = [Row(f"seconds: {name}", "", f"{value:.1f}", timed=True) for name, value in timed.items()
             if not name.startswith("a labeling")]  # fmt: skip
    rates = {"ours, drawn": 1 / timed["a labeling, drawn"], "ours, limit": 1 / timed["a labeling, limit"]}
    rates |= {} if size is None else {"Gibbs, independent": size / timed["Gibbs"]}
    times += [Row(f"labelings a second: {n}", "", f"{r:,.1f}", timed=True) for n, r in rates.items()]
    return (*rows, *times)


def _picture(scene: Scene, laws: dict[str, _Law]) -> Tensor:
    """Marginals above, mixed from the labels' colours; samples below."""
    alone = _mix(laws["each pixel by itself"].marginals)
    low, high = float(scene.picture.min()), float(scene.picture.max())
    noisy = ((scene.picture - low) / (high - low)).float().expand(3, -1, -1)
    columns = {"noisy; truth; pixels alone": [noisy, _paint(scene.truth), alone]}
    for name, law in laws.items():
        if law.samples is not None:
            columns[f"{name}: marginals, samples"] = [_mix(law.marginals), *map(_paint, law.samples)]
    height = scene.truth.shape[0]
    return draw_panel(columns, height=height * max(1, round(192 / height)))


def _mix(marginals: Tensor) -> Tensor:
    return torch.einsum("jhw,jc->chw", marginals.float(), _COLOURS[: len(marginals)])


def _paint(labels: Tensor) -> Tensor:
    return _COLOURS[labels].movedim(-1, 0)


KIND = Kind("raf_potts", Settings, run)
