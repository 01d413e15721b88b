"""The part of `flowcut demo` about distributions: samplers of a small Ising model beside its exact law."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flowcut.apps.work.sample_views import paint_labels
from flowcut.joint.divergence import draw_labels, mixture_log_prob
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.entropy import entropy_of_labels
from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.gibbs import gibbs
from flowcut.joint.importance import importance
from flowcut.joint.mean_field import mean_field
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.vision.panel import colour_values, encode_png

__all__ = ["sample_ising", "small_ising"]

_RESTARTS = 100
_CHAINS, _DRAWS, _THIN = 100, 500, 20
_FLOWS, _JUDGED = 256, 8192
_SHOWN = 4


def small_ising() -> PottsEnergy:
    """The Ising model of RAF's Table 1: label 0 wanted on the left, 1 on the right, all neighbours alike."""
    unary = torch.zeros(1, 2, 3, 8)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    return PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1))


def sample_ising(steps: int, seed: int) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    """Draw from the small Ising model in four ways.

    Parameters
    ----------
    steps : int
        Steps of fitting a randomized flow.
    seed : int
        Of everything that is drawn.

    Returns
    -------
    dict, dict
        For ``demo.json``: under ``methods`` what each found (``kl`` to the exact law, mean ``energy``,
        ``entropy``, ``marginal_difference``, ``seconds``), and the flow's ``log_z`` and corrected marginals.
        And PNG files by title: probabilities of label 1, then samples.
    """
    energy = small_ising()
    began = time.perf_counter()
    law = exact_law(energy)
    exact = _row(law, law.marginals, law.mean_energy, law.entropy, 0.0, began)
    pictures = {"exact law": _pictures(law.marginals, law.sample(_SHOWN, seed))}
    methods = {"exact": exact}
    for name, title, run in (
        ("mean_field", "mean field", _mean_field),
        ("gibbs", "Gibbs sampling", _gibbs),
    ):
        methods[name], pictures[title] = run(law, seed)
    flow, pictures["randomized flow"] = _flow(law, steps, seed)
    methods["flow"] = flow.pop("row")
    numbers = {
        "size": list(energy.spatial),
        "restarts": _RESTARTS,
        "draws": _CHAINS * _DRAWS,
        "steps": steps,
        "flows": _FLOWS,
        "exact_log_z": float(law.log_z),
        "methods": methods,
        **flow,
    }
    return numbers, pictures


def _mean_field(law: ExactLaw, seed: int) -> tuple[dict[str, float], list[bytes]]:
    began = time.perf_counter()
    found = mean_field(law.energy, _RESTARTS, seed=seed)
    row = _row(law, found.assignments, found.energy, found.entropy, float(found.kl(law)), began)
    return row, _pictures(found.assignments, found.sample(_SHOWN, seed))


def _gibbs(law: ExactLaw, seed: int) -> tuple[dict[str, float], list[bytes]]:
    began = time.perf_counter()
    chains = gibbs(law.energy, _CHAINS, _DRAWS, _THIN, seed=seed)
    labels, mean = chains.labels, chains.energies.mean()
    entropy = entropy_of_labels(labels.flatten(0, 1), "minimax")
    kl = mean + law.log_z - entropy.value
    row = _row(law, chains.marginals(), mean, entropy.value, float(kl), began)
    return row, _pictures(chains.marginals(), labels[-1, :_SHOWN])


def _flow(law: ExactLaw, steps: int, seed: int) -> tuple[dict[str, Any], list[bytes]]:
    began = time.perf_counter()
    model = RandomizedAssignment(law.energy.shape, seed=seed)
    with _one_thread():
        model.fit(law.energy, steps, _FLOWS, seed=seed)
    seconds = time.perf_counter() - began
    kl = model.kl(law, count=_JUDGED, seed=seed + 1)
    marginals = model.marginals(_JUDGED, seed=seed + 1).value.double()
    row = _row(law, marginals, kl.energy.value, kl.entropy_upper.value, float(kl.upper.value), began)
    row |= {"kl_lower": float(kl.lower.value), "seconds": seconds}
    log_s = model.log_assignments(_JUDGED, seed + 2)
    labels = draw_labels(log_s, seed + 3)
    # The exact law stands beside what the weights say, so their tail need not be judged.
    weighted = importance(law.energy, labels, mixture_log_prob(log_s, labels), on_failure="ignore")
    numbers = {
        "row": row,
        "log_z": float(weighted.log_z.value),
        "log_z_error": float(weighted.log_z.standard_error),
        "corrected_difference": _difference(weighted.marginals().value, law),
    }
    return numbers, _pictures(marginals, model.sample(_SHOWN, seed=seed))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors of 24 pixels gain nothing from threads, and wait long for them where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _row(
    law: ExactLaw, marginals: Tensor, energy: Tensor, entropy: Tensor, kl: float, began: float
) -> dict[str, float]:
    return {
        "kl": kl,
        "energy": float(energy),
        "entropy": float(entropy),
        "marginal_difference": _difference(marginals, law),
        "seconds": time.perf_counter() - began,
    }


def _difference(marginals: Tensor, law: ExactLaw) -> float:
    """The mean over pixels of |q_i - p_i| of one label (RAF Table 1)."""
    return float((marginals[1] - law.marginals[1]).abs().mean())


def _pictures(marginals: Tensor, samples: Tensor) -> list[bytes]:
    shown = [colour_values(marginals[1], 0.0, 1.0), *(paint_labels(one, 2) for one in samples)]
    return [encode_png(picture) for picture in shown]
