"""How samples are drawn inside an experiment, and how long that takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flowcut.joint.chains import Chains
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.gibbs import gibbs
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.train.reproduce.experiment import check_least, check_positive

__all__ = ["Sampling", "labels_per_second"]

# Labelings drawn to find out how many can be drawn in a second.
_TIMED = 20_000


@dataclass(frozen=True)
class Sampling:
    """How Gibbs samples.

    Parameters
    ----------
    chains, draws, thin, burn_in : int
        >= 1; 4 or more draws.
    temperature : float
        That the burn-in begins with, > 0.
    """

    chains: int = 16
    draws: int = 5000
    thin: int = 20
    burn_in: int = 500
    temperature: float = 4.0

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("draws", 4), ("thin", 1), ("burn_in", 1)):
            check_least(f"gibbs.{name}", getattr(self, name), least)
        check_positive("gibbs.temperature", self.temperature)

    def run(self, energy: PottsEnergy, seed: int) -> tuple[Chains, float]:
        """Draw, after compilation; chains and seconds.

        Parameters
        ----------
        energy : PottsEnergy
            One energy.
        seed : int
            >= 0.

        Returns
        -------
        chains : Chains
        seconds : float
            Burn-in included.
        """
        gibbs(energy, chains=1, draws=1, burn_in=1)
        began = time.perf_counter()
        found = gibbs(
            energy, self.chains, self.draws, self.thin, self.burn_in, temperatures=self.temperature, seed=seed
        )
        return found, time.perf_counter() - began


def labels_per_second(model: RandomizedAssignment, limit: bool, count: int = _TIMED) -> float:
    """How many labelings are drawn in a second.

    Parameters
    ----------
    model : RandomizedAssignment
    limit : bool
        Where flows end, or from S(t).
    count : int
        Labelings drawn for it, >= 1.

    Returns
    -------
    float
    """
    model.sample(2, limit=limit)
    began = time.perf_counter()
    model.sample(count, limit=limit)
    return count / (time.perf_counter() - began)
