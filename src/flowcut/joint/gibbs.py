"""Gibbs sampling of labelings (Geman, Geman 1984): one colour of pixels at a time, with annealing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.seeds import read_seed
from flowcut.joint.chain_inputs import check_count, start_labels
from flowcut.joint.chains import Chains, run_chains
from flowcut.joint.colouring import colouring
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import FlatEnergy, flatten_energy
from flowcut.kernels.gibbs import gibbs_sweeps


def gibbs(
    energy: PottsEnergy,
    chains: int = 1,
    draws: int = 1000,
    thin: int = 1,
    burn_in: int | None = None,
    initial: Tensor | None = None,
    temperatures: float | Sequence[float] | Tensor | None = None,
    seed: int | torch.Generator = 0,
) -> Chains:
    """Draw labelings from p = exp(-E) / Z by heat-bath Gibbs sampling.

    One sweep draws every pixel once from its law given the others, one colour after the other (on a grid with
    ties along the axes: first the black fields of a checkerboard, then the white ones). Right for any tables
    and ties of any sign, on grids and graphs. A single pixel changes at a time, so strong ties hold labels
    for long: look at :meth:`Chains.r_hat` of chains that began at different places.

    Parameters
    ----------
    energy
        One energy, or a batch of N for one chain each.
    chains
        M >= 1 chains of one energy, run on all threads. For a batch 1 or N.
    draws
        >= 1 labelings kept of each chain.
    thin
        >= 1 sweeps for each draw.
    burn_in
        >= 0 sweeps before the first, not kept. Default 500, or the number of ``temperatures``.
    initial
        (M or 1, *spatial), integers 0 to J - 1: where the chains begin. Default: independent labels, all
        equally likely.
    temperatures
        > 0, of the sweeps of the burn-in, which draws from E / T: a sequence, one a sweep, or the first one,
        from which they approach 1 geometrically. Default: all 1. Draws are at 1.
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
        A number, ``initial`` or the temperatures are out of their range.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 1, 3), torch.ones(1, 2, 1, 3))
    >>> chains = gibbs(energy, chains=50, draws=200, burn_in=20)
    >>> from flowcut.joint.exact import exact_law
    >>> bool((chains.energies.mean() - exact_law(energy).mean_energy).abs() < 0.03)
    True
    """
    seed = read_seed(seed)
    labels = start_labels(energy, chains, initial, seed)
    heat = annealing(temperatures, burn_in)
    check_count("draws", draws, 1)
    check_count("thin", thin, 1)
    assert energy.neighborhood is not None  # found when the energy was made
    colours = colouring(energy.neighborhood, energy.spatial).to(energy.device)
    with torch.no_grad():
        sampler = GibbsSampler(flatten_energy(energy), colours, seed)
    if len(heat):
        labels = sampler.sweeps(labels, heat, len(heat), 0)[0]
    return run_chains(energy, sampler, labels, draws, thin, len(heat))


@dataclass(frozen=True, eq=False)
class GibbsSampler:
    """A :class:`flowcut.joint.chains.Sampler`.

    Attributes
    ----------
    flat
        The energies.
    colours
        (n,) int64: ties join different ones.
    seed
        Of the counters.
    """

    flat: FlatEnergy
    colours: Tensor
    seed: int

    def advance(self, labels: Tensor, draws: int, thin: int, sweep: int) -> Tensor:
        """At temperature 1."""
        return self.sweeps(labels, torch.ones(draws * thin, dtype=torch.float64), thin, sweep)

    def sweeps(self, labels: Tensor, temperatures: Tensor, thin: int, sweep: int) -> Tensor:
        """One sweep at each temperature; the states after every ``thin`` of them."""
        flat = self.flat
        tables = flat.unary.new_zeros(1, 1, 0, 0) if flat.tables is None else flat.tables
        out: Tensor = gibbs_sweeps(
            labels, flat.unary, flat.pairs, flat.weights, tables, self.colours,
            temperatures.to(labels.device), thin, self.seed, sweep,
        )  # fmt: skip
        return out


def annealing(temperatures: float | Sequence[float] | Tensor | None, burn_in: int | None) -> Tensor:
    """The temperature of every sweep of the burn-in, (burn_in,) float64.

    Parameters
    ----------
    temperatures
        A sequence, one a sweep; the first one T_0, for T_0^(1 - s / burn_in) in sweep s; None for 1.
    burn_in
        Default: the length of the sequence, else 500.

    Raises
    ------
    ValueError
        A temperature is not > 0 and finite, there are not as many as sweeps, or no sweep to anneal in.

    Examples
    --------
    >>> annealing(16.0, 4)
    tensor([16.,  8.,  4.,  2.], dtype=torch.float64)
    """
    single = temperatures is None or isinstance(temperatures, int | float)
    heat = torch.as_tensor(1.0 if temperatures is None else temperatures, dtype=torch.float64).cpu()
    single = single or heat.ndim == 0
    if burn_in is not None:
        check_count("burn_in", burn_in, 0)
    if heat.ndim > 1 or not bool(((heat > 0) & (heat < math.inf)).all()):
        raise ValueError(f"temperatures: expected finite numbers > 0, got {temperatures}")
    if not single and burn_in not in (None, len(heat)):
        raise ValueError(
            f"temperatures: expected one for each of {burn_in} sweeps of burn_in, got {len(heat)}"
        )
    if not single:
        return heat
    sweeps = 500 if burn_in is None else burn_in
    if sweeps == 0 and temperatures is not None:
        raise ValueError("burn_in: expected sweeps to anneal in, got 0")
    return heat ** (1 - torch.arange(sweeps, dtype=torch.float64) / max(1, sweeps))
