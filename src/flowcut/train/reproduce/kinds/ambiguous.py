"""RAF Fig. 1: a photograph of one of two subjects, by the joint law and by independent pixels."""

from __future__ import annotations

import math
import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowcut.flow.simplex import entropy
from flowcut.joint.chains import Chains
from flowcut.joint.colouring import colouring
from flowcut.joint.divergence import draw_labels
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.estimate import Estimate
from flowcut.joint.gibbs import gibbs
from flowcut.joint.mean_field import mean_field
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.joint.swendsen_wang import swendsen_wang
from flowcut.train.reproduce.ambiguity import SUBJECTS, Ambiguity, ambiguity, shares
from flowcut.train.reproduce.ambiguous_flow import SubjectFlow, randomized_flow
from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Workspace,
    check_least,
    check_positive,
    percent,
)
from flowcut.train.reproduce.thermodynamic import thermodynamic_log_z
from flowcut.vision.panel import colour_edges, colour_labels, colour_values, draw_panel

__all__ = ["KIND", "Settings", "cat_alone"]

# A subject is whole where more than this share of the subjects' pixels show it.
_WHOLE = 0.95
# Least height of a picture in the panel.
_TALL = 120
# Steps between two checkpoints.
_EVERY = 20
_INDEPENDENT, _BESIDE = (
    "independent pixels",
    ("mean field", "mean field at the cat", "Gibbs, annealed", "Swendsen-Wang"),
)
# Of mean field.
_SWEEPS, _TOLERANCE = 500, 1e-5
# What the paper's caption says of its two rows.
_PAPER = ("cat or lion with equal probability", "fails to represent spatial context")


@dataclass(frozen=True)
class Settings:
    """Settings of the figure.

    Parameters
    ----------
    height : int
        In pixels, >= 8; the width is 1.2 times as much.
    strength, tie, contrast : float
        Of the energy, see :func:`flowcut.train.reproduce.ambiguity.ambiguity`; > 0, > 0, >= 0.
    window : int
        Odd side of the convolution.
    rank : int
        Factors of its covariance, >= 1.
    flows : mapping
        By name; the first one's pixels are also drawn independently.
    draws : int
        Labelings of each law that are judged, >= 8; and so many at each temperature of each chain.
    components : int
        Flows in the estimate of log P, >= 2.
    chains, sweeps : int
        Of the samplers beside: how many, >= 2, and how long they anneal, >= 4.
    restarts : int
        Of mean field, >= 1.
    temperatures : int
        For log Z, >= 1.
    seed : int
        >= 0.
    """

    height: int = 60
    strength: float = 0.6
    tie: float = 1.0
    contrast: float = 0.8
    window: int = 5
    rank: int = 8
    flows: dict[str, SubjectFlow] = field(default_factory=lambda: {"convolution": SubjectFlow()})
    draws: int = 400
    components: int = 512
    chains: int = 16
    sweeps: int = 600
    restarts: int = 64
    temperatures: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strength", "tie"):
            check_positive(name, getattr(self, name))
        if not 0 <= self.contrast < float("inf"):
            raise ValueError(f"contrast: expected a finite number >= 0, got {self.contrast}")
        for name, least in (
            ("height", 8), ("rank", 1), ("draws", 8), ("components", 2), ("chains", 2), ("sweeps", 4),
            ("restarts", 1), ("temperatures", 1), ("seed", 0),
        ):  # fmt: skip
            check_least(name, getattr(self, name), least)
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window: expected an odd integer >= 1, got {self.window}")
        if not self.flows:
            raise ValueError("flows: expected one or more, got none")
        if taken := {_INDEPENDENT, *_BESIDE} & set(self.flows):
            raise ValueError(f"flows: expected other names than those of the laws beside, got {min(taken)}")


class _Law(NamedTuple):
    """Labelings drawn from a law, and what is known of its free energy."""

    labels: Tensor
    free_energy: tuple[Estimate, Estimate] | None = None
    r_hat: float | None = None


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the figure.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    scene = ambiguity(settings.height, settings.strength, settings.tie, settings.contrast)
    laws: dict[str, _Law] = {}
    seconds: dict[str, float] = {}
    for index, (name, flow) in enumerate(settings.flows.items()):
        workspace.say(f"fitting: {name}")
        model = randomized_flow(flow, scene.energy, settings.window, settings.rank, settings.seed)
        path = workspace.folder / f"flow_{index}.pt"
        seconds[name] = _fit(model, flow, scene, settings.seed, path)
        bounds = model.free_energy(scene.energy, settings.components, settings.seed)
        laws[name] = _Law(model.sample(settings.draws, seed=settings.seed), (bounds.lower, bounds.upper))
        if index == 0:
            marginals = model.marginals(settings.components, seed=settings.seed).value
            laws[_INDEPENDENT] = _product(marginals[None], settings, scene)
    workspace.say("mean field and samplers")
    laws |= _beside(settings, scene, seconds)
    began = clock.perf_counter()
    log_z = thermodynamic_log_z(scene.energy, settings.temperatures, 8, settings.draws, settings.seed)
    seconds["log Z"] = clock.perf_counter() - began
    rows, values = _compare(laws, scene, log_z)
    rows += [Row(f"seconds: {name}", "", f"{spent:.1f} s", timed=True) for name, spent in seconds.items()]
    return Outcome(tuple(rows), values, seconds, _picture(laws, scene))


def _fit(model: RandomizedAssignment, flow: SubjectFlow, scene: Ambiguity, seed: int, path: Path) -> float:
    """Fit, or go on; returns the seconds of all runs."""
    history = model.fit(
        scene.energy, flow.steps, flow.samples, lr=flow.lr, beta=flow.beta, seed=seed,
        checkpoint=path, checkpoint_every=_EVERY,
    )  # fmt: skip
    return history.seconds


def _product(assignments: Tensor, settings: Settings, scene: Ambiguity) -> _Law:
    """Pixels drawn independently by assignments (1, J, H, W)."""
    labels = draw_labels(assignments.log().expand(settings.draws, -1, -1, -1), settings.seed)
    value = scene.energy.mean_field_energy(assignments)[0].double() - entropy(assignments).sum()
    exactly = Estimate(value, torch.zeros_like(value))
    return _Law(labels, (exactly, exactly))


def cat_alone(energy: PottsEnergy) -> Tensor:
    """Mean field (RAF (14)-(16)) that begins at the cat, where random starts end between the subjects.

    Parameters
    ----------
    energy : PottsEnergy
        Of :func:`flowcut.train.reproduce.ambiguity.ambiguity`.

    Returns
    -------
    Tensor
        (1, 3, H, W) float64: M with M_i = softmax(-g_i) for the local costs g.
    """
    energy = energy.to(dtype=torch.float64)
    assert energy.neighborhood is not None  # found when the energy was made
    colours = colouring(energy.neighborhood, energy.spatial).reshape(energy.spatial)
    found = (-energy.unary - torch.tensor([0.0, 0.0, 4.0]).reshape(3, 1, 1)).softmax(dim=1)
    for _ in range(_SWEEPS):
        old = found
        for colour in range(int(colours.max()) + 1):
            found = torch.where(colours == colour, (-energy.local_costs(found)).softmax(dim=1), found)
        if float((found - old).abs().max()) < _TOLERANCE:
            break
    return found


def _beside(settings: Settings, scene: Ambiguity, seconds: dict[str, float]) -> dict[str, _Law]:
    """What one would use otherwise."""
    energy, seed, chains = scene.energy, settings.seed, settings.chains
    each = max(4, -(-settings.draws // chains))
    marks = [clock.perf_counter()]
    found = mean_field(energy, settings.restarts, _SWEEPS, _TOLERANCE, seed, on_failure="ignore")
    marks.append(clock.perf_counter())
    at_the_cat = _product(cat_alone(energy), settings, scene)
    marks.append(clock.perf_counter())
    heat_bath = gibbs(energy, chains, each, 2, settings.sweeps, temperatures=3.0, seed=seed)
    marks.append(clock.perf_counter())
    clusters = swendsen_wang(energy, chains, each, 4, settings.sweeps // 2, seed=seed)
    marks.append(clock.perf_counter())
    for name, first, last in zip(_BESIDE, marks[:-1], marks[1:], strict=True):
        seconds[name] = last - first
    free = Estimate(found.free_energy, torch.zeros_like(found.free_energy))
    laws = (
        _Law(found.sample(settings.draws, seed), (free, free)),
        at_the_cat,
        _drawn(heat_bath, settings.draws, scene.region),
        _drawn(clusters, settings.draws, scene.region),
    )
    return dict(zip(_BESIDE, laws, strict=True))


def _drawn(chains: Chains, draws: int, region: Tensor) -> _Law:
    """The last draws of all chains, the very last first; these are shown."""
    labels = chains.labels.flip(0).flatten(0, 1)[:draws]
    return _Law(labels, r_hat=float(chains.r_hat(lambda found: shares(found, region)[:, 0])))


def _compare(laws: dict[str, _Law], scene: Ambiguity, log_z: Estimate) -> tuple[list[Row], dict[str, Any]]:
    pixels, inside = scene.region.numel(), int(scene.region.sum())
    value, error = float(log_z.value), float(log_z.standard_error)
    rows = [
        Row("pixels; of the subject", "", f"{pixels}; {inside}"),
        Row("log Z by thermodynamic integration", "", f"{value:.1f} ± {error:.1f}"),
    ]
    values: dict[str, Any] = {"pixels": pixels, "inside": inside, "log_z": value, "log_z_error": error}
    said = dict(zip(laws, _PAPER, strict=False))
    for name, law in laws.items():
        found = _measure(law, scene)
        values[name] = found
        parts = [f"{percent(found[key])} {key}" for key in (*SUBJECTS, "neither")]
        text = f"{', '.join(parts)}; energy {found['energy']:.0f}"
        if law.r_hat is not None:
            text += f"; R-hat of the cat's share {law.r_hat:.2f}"
        rows.append(Row(f"{name}: whole subjects", said.get(name, ""), text))
        if law.free_energy is not None:
            low, high = (float(bound.value) + value for bound in law.free_energy)
            # Of a mixture log P is bracketed only; of independent pixels it is known.
            what = "KL" if low == high else "KL, between bounds"
            text = f"{high:.1f} nats" if low == high else f"{low:.1f} to {high:.1f} nats"
            rows.append(Row(f"{name}: {what}", "", f"{text}, {high / pixels:.4f} a pixel"))
    return rows, values


def _measure(law: _Law, scene: Ambiguity) -> dict[str, Any]:
    """Shares of labelings with one whole subject, and energies."""
    whole = shares(law.labels, scene.region) > _WHOLE
    energies = scene.energy.energy(law.labels).double()
    found: dict[str, Any] = dict(zip(SUBJECTS, whole.double().mean(dim=0).tolist(), strict=True))
    found["neither"] = float((~whole.any(dim=1)).double().mean())
    found |= {"energy": float(energies.mean()), "energy_deviation": float(energies.std())}
    if law.free_energy is not None:
        found["free_energy"] = [float(bound.value) for bound in law.free_energy]
        found["free_energy_error"] = [float(bound.standard_error) for bound in law.free_energy]
    if law.r_hat is not None:
        # JSON has no infinity, which chains that stand still and disagree have.
        found["r_hat"] = law.r_hat if math.isfinite(law.r_hat) else None
    return found


def _picture(laws: dict[str, _Law], scene: Ambiguity) -> Tensor:
    """What it is about in the first column, then labelings of each law."""
    edges = scene.energy.edges
    assert edges is not None  # without tables there are weights
    about = [
        *scene.photographs,
        scene.image,
        colour_labels(scene.image, scene.seeds),
        colour_values(scene.inside, 0.0, 1.0),
        colour_edges(edges[0]),
    ]
    columns = {"the photograph": about}
    for name, law in laws.items():
        columns[name] = [colour_labels(scene.image, labels, 0.6) for labels in law.labels[: len(about)]]
    height = scene.image.shape[1]
    # Whole pixels, wide enough for the titles.
    return draw_panel(columns, height=height * max(1, -(-_TALL // height)))


KIND = Kind("raf_fig_1", Settings, run)
