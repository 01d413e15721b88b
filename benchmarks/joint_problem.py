"""Models that samplers are measured on, and whether what they draw has the exact law."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import flowcut as fc

Kind = Literal["Table 1", "fields", "no field"]
Labels = NDArray[np.int8]

FIELD, TIE = 3.0, 2.1
TIES = (0.2, 1.2)
# In spins a coupling of 0.4: near the critical 0.44, yet chains forget their start within tens of sweeps.
EQUAL_TIE = 0.8
SMALL = {"Table 1": (3, 8), "fields": (8, 8), "no field": (8, 8)}
CHECK_CHAINS, FORGET, SNAPSHOTS, BETWEEN = 1024, 100, 8, 25
# Largest deviation of any marginal or the mean energy, in standard errors. Of 257 numbers without a fault
# the largest is above 5 once in 7000 times.
ALLOWED = 5.0


def make_energy(kind: Kind, shape: tuple[int, ...], labels: int = 2) -> fc.PottsEnergy:
    """A Potts model on a grid of 4 neighbours; the same numbers whenever it is asked for.

    Parameters
    ----------
    kind
        "Table 1": the Ising model of the RAF paper's Table 1, drawn to label 0 on the left and to 1 on the
        right. "fields": costs N(0, 1), ties uniform in [0.2, 1.2], as of a noisy picture. "no field": no
        costs, equal ties; the model of physics.
    shape
        (H, W).
    labels
        J; 2 for Table 1.
    """
    ties = (1, 2, *shape)
    if kind == "Table 1":
        unary = torch.zeros(1, 2, *shape)
        unary[:, 0, :, 0], unary[:, 0, :, -1] = -FIELD, FIELD
        return fc.PottsEnergy(unary, torch.full(ties, TIE))
    if kind == "no field":
        return fc.PottsEnergy(torch.zeros(1, labels, *shape), torch.full(ties, EQUAL_TIE))
    generator = torch.Generator().manual_seed(0)
    unary = torch.empty(1, labels, *shape).normal_(generator=generator)
    return fc.PottsEnergy(unary, torch.empty(ties).uniform_(*TIES, generator=generator))


class Arrays(NamedTuple):
    """A grid energy as plain arrays, the way a user of another library holds it.

    Attributes
    ----------
    unary
        (J, H, W) float32.
    down, right
        (H, W) float32: the tie to the pixel below and to the right; 0 where there is none.
    """

    unary: NDArray[np.float32]
    down: NDArray[np.float32]
    right: NDArray[np.float32]


def arrays(energy: fc.PottsEnergy) -> Arrays:
    """Costs and ties of one energy on a grid of 4 neighbours."""
    assert energy.edges is not None
    down, right = energy.edges.reshape(2, *energy.spatial).float().numpy().copy()
    down[-1], right[:, -1] = 0, 0
    return Arrays(energy.unary[0].float().numpy(), down, right)


class Check(NamedTuple):
    """A model small enough for its exact law.

    Attributes
    ----------
    energy, law
        The model.
    """

    energy: fc.PottsEnergy
    law: fc.ExactLaw


@cache
def small_model(kind: Kind, labels: int) -> Check:
    """The model of this kind that every contender is checked on: 3 x 8 for Table 1, else 8 x 8."""
    energy = make_energy(kind, SMALL[kind], labels)
    return Check(energy, fc.exact_law(energy))


def deviations(check: Check, snapshots: list[Labels]) -> dict[str, float]:
    """How far marginals and mean energy are from the exact ones, in standard errors; the worst of each.

    Parameters
    ----------
    check
        The model.
    snapshots
        States (M, n) of the same M independent chains at several times. They depend on each other, chains do
        not: the error is that of a mean over M chains of means over time.
    """
    marginals = check.law.marginals.flatten(1).numpy()
    states = np.stack(snapshots)
    shares = np.stack([(states == j).mean(axis=0) for j in range(len(marginals))], axis=1)
    labels = torch.from_numpy(states).long().reshape(-1, *check.energy.spatial)
    energies = check.energy.energy(labels).double().reshape(states.shape[:2]).mean(dim=0).numpy()
    # Of pixels that never changed nobody knows the error: then that of independent draws.
    least = np.sqrt(marginals * (1 - marginals) / len(snapshots))
    return {
        "marginals": _worst(shares, marginals, least),
        "energy": _worst(energies, check.law.mean_energy.numpy(), np.zeros(())),
    }


def _worst(values: NDArray[np.float64], mean: NDArray[np.float64], least: NDArray[np.float64]) -> float:
    error = np.maximum(values.std(axis=0, ddof=1), least) / np.sqrt(len(values))
    # Energies that never changed have no error: infinitely far away, or NaN.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((np.abs(values.mean(axis=0) - mean) / error).max())


def keeps_the_law(found: dict[str, float]) -> bool:
    """Whether nothing is further away than chance takes it; NaN is."""
    return all(value <= ALLOWED for value in found.values())
