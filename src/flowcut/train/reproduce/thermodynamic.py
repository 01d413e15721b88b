r"""log Z of a law too large for exact methods, by thermodynamic integration.

With Z(b) the sum of exp(-b E) over all labelings, d log Z(b) / db = -<E>_b, the mean energy at inverse
temperature b. Z(0) = J^n counts the labelings, so

    log Z(1) = n log J - int_0^1 <E>_b db.

The integral is a Gauss-Legendre sum over means that Swendsen-Wang chains estimate.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowcut.joint.energy import PottsEnergy
from flowcut.joint.estimate import Estimate
from flowcut.joint.swendsen_wang import swendsen_wang

__all__ = ["thermodynamic_log_z"]


def thermodynamic_log_z(
    energy: PottsEnergy, nodes: int = 24, chains: int = 8, draws: int = 100, seed: int = 0
) -> Estimate:
    """Estimate log Z of one energy with ties >= 0.

    Parameters
    ----------
    energy
        One energy without tables.
    nodes
        Temperatures, >= 1.
    chains, draws
        At each temperature, >= 1 and >= 4; as many sweeps come before as there are draws.
    seed
        >= 0.

    Returns
    -------
    Estimate
        Its standard error is that of the means; what the sum over few temperatures misses is not in it.

    Examples
    --------
    Pixels without ties, where log Z is the sum of n log-sum-exps:

    >>> energy = PottsEnergy(torch.tensor([[[0.0] * 9, [1.0] * 9]]), torch.zeros(1, 1, 9))
    >>> found = thermodynamic_log_z(energy, nodes=4)
    >>> bool((found.value - 9 * math.log(1 + math.exp(-1))).abs() < 5 * found.standard_error)
    True
    """
    energy = energy.to(dtype=torch.float64)
    at, weights = np.polynomial.legendre.leggauss(nodes)
    states: Tensor | None = None
    total, variance = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for k, (x, weight) in enumerate(zip(at, weights, strict=True)):
        inverse = (float(x) + 1) / 2
        # Each temperature goes on where the hotter one before it ended.
        found = swendsen_wang(
            energy.at_temperature(1 / inverse), chains, draws, 1, draws, states, seed * nodes + k
        )
        mean, error = found.estimate(energy.energy)
        total, variance = total + weight / 2 * mean, variance + (weight / 2 * error) ** 2
        states = found.labels[-1]
    return Estimate(math.prod(energy.spatial) * math.log(energy.num_labels) - total, variance.sqrt())
