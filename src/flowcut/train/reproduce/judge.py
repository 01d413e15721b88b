"""How far laws over labelings are from an exact one, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from flowcut.joint.chains import Chains
from flowcut.joint.counts import count_labelings
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.entropy import entropy_from_counts
from flowcut.joint.exact import ExactLaw
from flowcut.joint.importance import Importance
from flowcut.joint.mean_field import MeanField
from flowcut.joint.randomized import RandomizedAssignment

__all__ = [
    "JUDGE", "Numbers", "chain_numbers", "difference", "draw_numbers", "finite", "flow_numbers",
    "limit_numbers", "mean_field_numbers", "spread", "weigh", "weighted_numbers",
]  # fmt: skip

Numbers = dict[str, float | None]

# Draws that judge a model are none of those that fitted it.
JUDGE = 1_000_003
# Labelings whose energies are summed at once.
_BLOCK = 1 << 15


def difference(marginals: Tensor, reference: Tensor) -> float:
    """Total variation between marginals, averaged over pixels.

    For two labels that is the paper's marginal difference, the mean of abs(q_i - p_i) of one label.

    Parameters
    ----------
    marginals, reference : Tensor
        (J, *spatial).

    Returns
    -------
    float

    Examples
    --------
    >>> round(difference(torch.tensor([[0.5, 1.0], [0.5, 0.0]]), torch.tensor([[0.5, 0.8], [0.5, 0.2]])), 6)
    0.1
    """
    apart = (marginals.double() - reference.double()).abs().sum(dim=0) / 2
    return float(apart.mean())


def mean_field_numbers(found: MeanField, law: ExactLaw) -> Numbers:
    """KL, energy, entropy and marginal difference of mean field.

    Parameters
    ----------
    found : MeanField
    law : ExactLaw

    Returns
    -------
    dict
    """
    return {
        "kl": float(found.kl(law)),
        "energy": float(found.energy),
        "entropy": float(found.entropy),
        "difference": difference(found.assignments, law.marginals),
    }


def flow_numbers(model: RandomizedAssignment, law: ExactLaw, draws: int, seed: int) -> Numbers:
    """KL from both sides, energy, entropy and marginal difference of labels drawn from S(t).

    Parameters
    ----------
    model : RandomizedAssignment
    law : ExactLaw
    draws : int
        Flows, >= 2.
    seed : int
        Of the fit.

    Returns
    -------
    dict
    """
    bounds = model.kl(law, count=draws, seed=JUDGE + seed)
    return {
        "kl_lower": float(bounds.lower.value),
        "kl": float(bounds.upper.value),
        "kl_error": float(bounds.upper.standard_error),
        "energy": float(bounds.energy.value),
        "entropy": float(bounds.entropy_lower.value),
        "difference": difference(model.marginals(draws, seed=JUDGE + seed).value, law.marginals),
    }


def limit_numbers(model: RandomizedAssignment, law: ExactLaw, labelings: int, seed: int) -> Numbers:
    """The same of labelings that flows end in, as in the paper: entropy by Miller-Madow.

    Parameters
    ----------
    model, law, seed
        As in :func:`flow_numbers`.
    labelings : int
        >= 2; 1 million in the paper.

    Returns
    -------
    dict
    """
    return draw_numbers(model.sample(labelings, limit=True, seed=JUDGE + seed), law)


def draw_numbers(labels: Tensor, law: ExactLaw) -> Numbers:
    """KL, energy, entropy and marginal difference of a law that has only been drawn from.

    Parameters
    ----------
    labels : Tensor
        (M, *spatial), M >= 2.
    law : ExactLaw

    Returns
    -------
    dict
        ``unseen``: the probability of labelings that were never drawn, by Good and Turing the share of draws
        that are the only one of their labeling. Where it is not small the entropy is too low and KL too high.
    """
    counts = count_labelings(labels).counts
    entropy = entropy_from_counts(counts, "miller-madow")
    energies = torch.cat([law.energy.energy(piece) for piece in torch.split(labels, _BLOCK)])
    energy = float(energies.mean())
    each = [(labels == j).double().mean(dim=0) for j in range(law.energy.num_labels)]
    return {
        "kl": energy - float(entropy.value) + float(law.log_z),
        "energy": energy,
        "entropy": float(entropy.value),
        "difference": difference(torch.stack(each), law.marginals),
        "unseen": int((counts == 1).sum()) / len(labels),
    }


def chain_numbers(chains: Chains, law: ExactLaw) -> Numbers:
    """The same of the draws of chains, and how far these can be trusted.

    Parameters
    ----------
    chains : Chains
        One energy.
    law : ExactLaw

    Returns
    -------
    dict
        ``r_hat`` and ``effective_sample_size``: the largest and the least over all pixels.
    """

    def pixels(labels: Tensor) -> Tensor:
        return labels.flatten(1).double()

    return {
        **draw_numbers(chains.labels.flatten(0, 1), law),
        "r_hat": finite(float(chains.r_hat(pixels).max())),
        "effective_sample_size": finite(float(chains.effective_sample_size(pixels).min())),
    }


def weigh(model: RandomizedAssignment, energy: PottsEnergy, draws: int, seed: int) -> Importance:
    """Weights of draws from S(t); weights that say little are no failure here, they are shown.

    Parameters
    ----------
    model, draws, seed
        As in :func:`flow_numbers`.
    energy : PottsEnergy
        One energy.

    Returns
    -------
    Importance
    """
    return model.importance(energy, draws, JUDGE + seed, on_failure="ignore")


def weighted_numbers(found: Importance, law: ExactLaw) -> Numbers:
    """log Z and marginals by importance weights, and how far these can be trusted.

    Parameters
    ----------
    found : Importance
    law : ExactLaw

    Returns
    -------
    dict
    """
    return {
        "log_z": float(found.log_z.value),
        "log_z_error": float(found.log_z.standard_error),
        "difference": difference(found.marginals().value, law.marginals),
        "share": found.effective_sample_size / len(found.weights),
        "pareto_k": finite(found.pareto_k),
    }


def finite(value: float) -> float | None:
    """None in place of what JSON has no word for.

    Parameters
    ----------
    value : float

    Returns
    -------
    float, optional

    Examples
    --------
    >>> finite(1.5), finite(math.nan)
    (1.5, None)
    """
    return value if math.isfinite(value) else None


def spread(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    """The median of what several seeds gave, and its range.

    Parameters
    ----------
    values : sequence of float
    write : callable
        A number as text.

    Returns
    -------
    str

    Examples
    --------
    >>> spread([0.3, 0.1, 0.2], "{:.1f}".format), spread([0.25], "{:.2f}".format)
    ('0.2 (0.1 to 0.3)', '0.25')
    """
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return write(known[0])
    return f"{write(median(known))} ({write(min(known))} to {write(max(known))})"
