"""Cluster samplers of Potts models (Swendsen, Wang 1987; Wolff 1989), with unary costs of any size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.seeds import read_seed
from flowcut.joint.chain_inputs import check_count, start_labels
from flowcut.joint.chains import Chains, run_chains
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import FlatEnergy, flatten_energy
from flowcut.kernels.clusters import swendsen_wang_sweeps, wolff_steps


def swendsen_wang(
    energy: PottsEnergy,
    chains: int = 1,
    draws: int = 1000,
    thin: int = 1,
    burn_in: int = 200,
    initial: Tensor | None = None,
    seed: int | torch.Generator = 0,
) -> Chains:
    """Draw labelings of a Potts model with ties >= 0, whole clusters at once.

    One sweep binds equal neighbours with probability 1 - exp(-w) and draws a label for every cluster, by the
    sum of its unary costs. Without unary costs this mixes fast where Gibbs sampling stands still, near and
    below the temperature of order. **Where unary costs are strong it mixes badly**: clusters are made without
    a look at them, a large one costs much more under any label but its own, and hardly ever changes. Then
    use :func:`gibbs`, with annealing; :meth:`Chains.r_hat` of a statistic that you want to know tells.

    Parameters
    ----------
    energy
        Without tables, all weights >= 0. One energy, or a batch of N for one chain each.
    chains
        M >= 1 chains of one energy, run on all threads. For a batch 1 or N.
    draws
        >= 1 labelings kept of each chain.
    thin
        >= 1 sweeps for each draw.
    burn_in
        >= 0 sweeps before the first, not kept.
    initial
        (M or 1, *spatial), integers 0 to J - 1: where the chains begin. Default: independent labels, all
        equally likely.
    seed
        An integer from 0 to 2^63 - 1, or a generator, which is advanced. The same seed gives the same
        labelings for any number of threads.

    Returns
    -------
    Chains
        The draws; :meth:`Chains.extend` goes on.

    Raises
    ------
    TypeError
        ``initial`` is no integer tensor.
    ValueError
        The energy has tables or a negative weight, or a number or ``initial`` is out of its range.

    Examples
    --------
    A chain of pixels with strong ties, all 0 or all 1 most of the time:

    >>> energy = PottsEnergy(torch.zeros(1, 2, 20), torch.full((1, 1, 20), 6.0))
    >>> chains = swendsen_wang(energy, draws=1000)
    >>> bool(chains.effective_sample_size(lambda labels: labels[:, 0]) > 500)
    True
    """
    return _run(energy, False, chains, draws, thin, burn_in, initial, seed)


def wolff(
    energy: PottsEnergy,
    chains: int = 1,
    draws: int = 1000,
    thin: int = 1,
    burn_in: int = 1000,
    initial: Tensor | None = None,
    seed: int | torch.Generator = 0,
) -> Chains:
    """Draw labelings of a Potts model with ties >= 0, one cluster a step.

    A step takes the cluster, as in :func:`swendsen_wang`, of one random pixel, proposes one of the other
    labels and accepts it by Metropolis' rule; without unary costs it always accepts. Large clusters are
    chosen more often than small ones. Strong unary costs slow it down as they do :func:`swendsen_wang`.

    Parameters
    ----------
    energy, chains, draws, initial, seed
        As in :func:`swendsen_wang`.
    thin
        >= 1 steps for each draw. A step may change a single pixel only.
    burn_in
        >= 0 steps before the first, not kept.

    Returns
    -------
    Chains
        The draws, counted in steps where elsewhere there are sweeps.

    Raises
    ------
    TypeError, ValueError
        As in :func:`swendsen_wang`.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 20), torch.full((1, 1, 20), 6.0))
    >>> chains = wolff(energy, chains=4, draws=1000)
    >>> bool((chains.marginals()[1] - 0.5).abs().max() < 0.1)
    True
    """
    return _run(energy, True, chains, draws, thin, burn_in, initial, seed)


@dataclass(frozen=True, eq=False)
class ClusterSampler:
    """A :class:`flowcut.joint.chains.Sampler`.

    Attributes
    ----------
    flat
        The energies.
    single
        One cluster a step (Wolff), or all.
    seed
        Of the counters.
    """

    flat: FlatEnergy
    single: bool
    seed: int

    def advance(self, labels: Tensor, draws: int, thin: int, sweep: int) -> Tensor:
        """See :class:`flowcut.joint.chains.Sampler`."""
        flat, run = self.flat, wolff_steps if self.single else swendsen_wang_sweeps
        out: Tensor = run(labels, flat.unary, flat.pairs, flat.weights, draws, thin, self.seed, sweep)
        return out


def _run(
    energy: PottsEnergy, single: bool, chains: int, draws: int, thin: int, burn_in: int,
    initial: Tensor | None, seed: int | torch.Generator,
) -> Chains:  # fmt: skip
    if energy.pairwise is not None:
        raise ValueError("energy: expected ties without tables for clusters, got tables; gibbs takes any")
    assert energy.edges is not None
    least = float(energy.edges.min()) if energy.edges.numel() else 0.0
    if least < 0:
        raise ValueError(
            f"energy: expected ties with weights >= 0 for clusters, got {least:.6g}; gibbs takes any"
        )
    check_count("burn_in", burn_in, 0)
    check_count("draws", draws, 1)
    check_count("thin", thin, 1)
    seed = read_seed(seed)
    labels = start_labels(energy, chains, initial, seed)
    with torch.no_grad():
        sampler = ClusterSampler(flatten_energy(energy), single, seed)
    if burn_in:
        labels = sampler.advance(labels, 1, burn_in, 0)[0]
    return run_chains(energy, sampler, labels, draws, thin, burn_in)
