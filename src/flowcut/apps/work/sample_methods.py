"""How `flowcut sample` draws: exactly, by Markov chains, or by a randomized assignment flow."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.warnings import FlowcutWarning
from flowcut.joint.chains import Chains
from flowcut.joint.diagnostics import effective_sample_size, split_r_hat
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.gibbs import gibbs
from flowcut.joint.importance import Importance
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.joint.swendsen_wang import swendsen_wang

__all__ = [
    "ChainPlan",
    "Drawn",
    "FlowPlan",
    "draw_by_chains",
    "draw_by_flow",
    "draw_exactly",
    "exact_if_possible",
    "weighted_entropy",
]

# Labels of all draws of chains that are kept: 64 MiB, and as many to look at for energies.
_MOST_KEPT = 1 << 26
# Annealing begins here, where strong ties do not hold yet.
_HOTTEST = 8.0
_PIECES = 20
# Sweeps where none are asked for: so many updates of a pixel in all (seconds), within bounds.
_UPDATES, _SWEEPS = 1 << 27, (500, 20_000)
# Chains whose halves differ by more than this have not met.
_MEET = 1.05
# All pairs of so many pixels are coupled; larger pictures by a convolution.
_MOST_PAIRED = 256
_CONVOLUTION = 5
# Weighted draws: at least, at most.
_WEIGHTED = (256, 8192)
_SAVE_EVERY = 100


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a method found.

    Attributes
    ----------
    labels
        (M, *spatial) int64.
    marginals
        (J, *spatial) float64.
    numbers
        For the report: log_z, entropy and mean_energy of the law drawn from, each with ``..._error`` (None
        where the number is exact), None where the method does not tell; and the method's own.
    """

    labels: Tensor
    marginals: Tensor
    numbers: dict[str, Any]


@dataclass(frozen=True)
class ChainPlan:
    """How to run Markov chains.

    Parameters
    ----------
    chains
        >= 1.
    sweeps
        >= 4, after the burn-in; None: 500 to 20 000, the more the smaller the grid.
    burn_in
        >= 0 sweeps before them.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    chains: int = 4
    sweeps: int | None = None
    burn_in: int = 500

    def __post_init__(self) -> None:
        for name, value, least in (
            ("chains", self.chains, 1),
            ("sweeps", 4 if self.sweeps is None else self.sweeps, 4),
            ("burn_in", self.burn_in, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: expected an integer >= {least}, got {value}")


@dataclass(frozen=True)
class FlowPlan:
    """Steps of a fit, flows in each, and the file it goes on from."""

    steps: int = 1500
    flows: int = 512
    checkpoint: str | None = None


def exact_if_possible(energy: PottsEnergy) -> ExactLaw | None:
    """The exact law; None where the energy is too large for it."""
    try:
        return exact_law(energy)
    except ValueError:
        return None


def draw_exactly(law: ExactLaw, samples: int, seed: int) -> Drawn:
    """Independent samples, and sums over all labelings."""
    numbers = {
        "method": "exact",
        "summed_by": law.method,
        "log_z": float(law.log_z.detach()),
        "log_z_error": None,
        "entropy": float(law.entropy),
        "entropy_error": None,
        "mean_energy": float(law.mean_energy),
        "mean_energy_error": None,
    }
    return Drawn(law.sample(samples, seed), law.marginals, numbers)


def draw_by_chains(
    energy: PottsEnergy, clusters: bool, plan: ChainPlan, samples: int, seed: int, progress: bool
) -> Drawn:
    """Draws of several chains, spread over them; a warning where the chains have not met."""
    draws, thin = _draws(energy, plan, samples)
    chains = _run(energy, clusters, plan, draws, thin, seed, progress)
    ess, r_hat = _judge(chains)
    if not r_hat < _MEET:
        warnings.warn(
            f"the chains have not met (R-hat {r_hat:.3g}, 1 when they have): marginals and mean energy are "
            "not those of the energy; more sweeps or a higher temperature may help",
            FlowcutWarning,
            stacklevel=2,
        )
    elif ess < samples:
        warnings.warn(
            f"{samples} samples are worth about {ess:.0f} independent ones: more sweeps help",
            FlowcutWarning,
            stacklevel=2,
        )
    mean, error = chains.estimate(energy.to(torch.float64).energy)
    numbers = {
        "method": "swendsen-wang" if clusters else "gibbs",
        "log_z": None,
        "log_z_error": None,
        "entropy": None,
        "entropy_error": None,
        "mean_energy": float(mean),
        "mean_energy_error": _number(error),
        "effective_sample_size": _number(ess),
        "r_hat": _number(r_hat),
        "chains": plan.chains,
        "draws": draws,
        "thin": thin,
        "burn_in": plan.burn_in,
    }
    return Drawn(_spread(chains, samples), chains.marginals(), numbers)


def draw_by_flow(energy: PottsEnergy, plan: FlowPlan, samples: int, seed: int, progress: bool) -> Drawn:
    """Fit a randomized flow, draw from it, and correct what it says by importance weights."""
    model = RandomizedAssignment(energy.shape, _couplings(energy), rank=min(8, _pixels(energy)), seed=seed)
    every = max(1, min(_SAVE_EVERY, plan.steps // 5))
    history = model.fit(
        energy, plan.steps, plan.flows,
        seed=seed, progress=progress, checkpoint=plan.checkpoint, checkpoint_every=every,
    )  # fmt: skip
    count = max(_WEIGHTED[0], min(_WEIGHTED[1], _MOST_KEPT // energy.unary.numel()))
    weighted = model.importance(energy, count, seed + 1)
    mean, error = weighted.expectation(energy.energy)
    entropy, entropy_error = weighted_entropy(weighted, energy)
    numbers = {
        "method": "flow",
        "log_z": float(weighted.log_z.value),
        "log_z_error": _number(weighted.log_z.standard_error),
        "entropy": entropy,
        "entropy_error": _number(entropy_error),
        "mean_energy": float(mean),
        "mean_energy_error": _number(error),
        "effective_sample_size": weighted.effective_sample_size,
        "weighted": len(weighted.weights),
        "pareto_k": _number(weighted.pareto_k),
        "kl": float(weighted.kl.value),
        "kl_error": _number(weighted.kl.standard_error),
        "steps": history.step,
        "fit_seconds": history.seconds,
    }
    return Drawn(model.sample(samples, seed=seed), weighted.marginals().value, numbers)


def weighted_entropy(weighted: Importance, energy: PottsEnergy) -> tuple[float, float]:
    r"""H(p) = <p, E> + log Z from importance weights, and its standard error.

    By the delta method (see :mod:`flowcut.joint.importance`): with relative weights r = w / E w the first
    term changes by r (E - <p, E>) and the second by r - 1.
    """
    costs = energy.energy(weighted.labels).double()
    mean = weighted.weights @ costs
    relative = len(costs) * weighted.weights
    change = relative * (1 + costs - mean) - 1
    return float(mean + weighted.log_z.value), float(change.std() / len(costs) ** 0.5)


def _couplings(energy: PottsEnergy) -> Neighborhood | Graph | int | None:
    if _pixels(energy) <= _MOST_PAIRED:
        return None
    return energy.neighborhood if isinstance(energy.neighborhood, Graph) else _CONVOLUTION


def _draws(energy: PottsEnergy, plan: ChainPlan, samples: int) -> tuple[int, int]:
    """Draws of each chain, and sweeps between two."""
    labels = max(1, plan.chains * _pixels(energy))
    sweeps = plan.sweeps or min(max(_UPDATES // labels, _SWEEPS[0]), _SWEEPS[1])
    draws = max(4, math.ceil(samples / plan.chains), min(sweeps, _MOST_KEPT // labels))
    return draws, max(1, sweeps // draws)


def _run(
    energy: PottsEnergy, clusters: bool, plan: ChainPlan, draws: int, thin: int, seed: int, progress: bool
) -> Chains:
    bar = tqdm(total=plan.burn_in + draws * thin, desc="sample", unit="sweep", disable=not progress)
    piece = max(1, draws // _PIECES)
    with bar:
        if clusters:
            chains = swendsen_wang(energy, plan.chains, piece, thin, plan.burn_in, seed=seed)
        else:
            heat = _HOTTEST if plan.burn_in else None
            chains = gibbs(energy, plan.chains, piece, thin, plan.burn_in, temperatures=heat, seed=seed)
        bar.update(plan.burn_in + piece * thin)
        while len(chains.states) < draws:
            more = min(piece, draws - len(chains.states))
            chains = chains.extend(more)
            bar.update(more * thin)
    return chains


def _judge(chains: Chains) -> tuple[float, float]:
    """The least effective sample size and the largest R-hat: of the energy, and of each label's share."""
    shares = [(chains.states == j).sum(dim=2) for j in range(chains.energy.num_labels)]
    values = torch.stack([chains.energies, *(share.double() for share in shares)], dim=2)
    moving = (values != values[0, 0]).flatten(0, 1).any(dim=0)
    if not bool(moving.any()):  # one labeling has all the probability, as far as the chains can tell
        return float(values.shape[0] * values.shape[1]), 1.0
    values = values[:, :, moving]
    return float(effective_sample_size(values).min()), float(split_r_hat(values).max())


def _spread(chains: Chains, samples: int) -> Tensor:
    """(M, *spatial): draws far apart, of every chain in turn, from the last one back."""
    draws, count = chains.states.shape[:2]
    each = math.ceil(samples / count)
    rows = (
        torch.linspace(draws - 1, 0, each).round().to(torch.int64) if each > 1 else torch.tensor([draws - 1])
    )
    chosen = chains.states[rows].flatten(0, 1)[:samples]
    return chosen.reshape(samples, *chains.energy.spatial).to(torch.int64)


def _pixels(energy: PottsEnergy) -> int:
    return math.prod(energy.spatial)


def _number(value: Tensor | float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(float(value)) else None
