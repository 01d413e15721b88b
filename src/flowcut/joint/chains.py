"""Draws of Markov chains over labelings, what follows from them, and how to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from flowcut.joint.chain_inputs import check_count
from flowcut.joint.diagnostics import effective_sample_size, split_r_hat
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.estimate import Estimate

# Labels that are looked at at once.
_BLOCK = 1 << 22
Statistic = Callable[[Tensor], Tensor]


class Sampler(Protocol):
    """What makes the next states of chains out of the last ones."""

    def advance(self, labels: Tensor, draws: int, thin: int, sweep: int) -> Tensor:
        """(draws, M, n): the states after every ``thin`` sweeps, the first of which has number ``sweep``.

        ``labels`` are (M, n). Nothing else may matter: a run that goes on has to end as an uninterrupted one.
        """


@dataclass(frozen=True, eq=False)
class Chains:
    """Labelings drawn one after the other, by one or several chains.

    Of one energy there are M chains with the same law, whose draws count together; of a batch of N energies
    there is one chain each, M = N, and everything below is for each energy. It can be pickled.

    Attributes
    ----------
    energy
        What is drawn from.
    states
        (draws, M, n) int8, or int16 for more than 128 labels: all draws, compact. See :attr:`labels`.
    thin
        Sweeps between two draws.
    sweep
        Sweeps done so far, burn-in included.
    sampler
        How they were made.

    Examples
    --------
    >>> from flowcut.joint.gibbs import gibbs
    >>> chains = gibbs(PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)), chains=4, draws=500)
    >>> chains.labels.shape, chains.energies.shape, chains.marginals().shape
    (torch.Size([500, 4, 3]), torch.Size([500, 4]), torch.Size([2, 3]))
    >>> bool(chains.r_hat() < 1.02), chains.extend(100).labels.shape
    (True, torch.Size([600, 4, 3]))
    """

    energy: PottsEnergy
    states: Tensor
    thin: int
    sweep: int
    sampler: Sampler

    @property
    def labels(self) -> Tensor:
        """(draws, M, *spatial) int64, made when asked for: eight times the memory of :attr:`states`."""
        return self.states.reshape(*self.states.shape[:2], *self.energy.spatial).long()

    @cached_property
    def energies(self) -> Tensor:
        """(draws, M) float64: E of every draw, without gradients."""
        energy = self.energy.to(torch.float64)
        with torch.no_grad():
            if energy.items == 1:
                return self.values(energy.energy)
            if len(self.states) < energy.items:  # whichever makes fewer calls
                each = (s.reshape(-1, *energy.spatial) for s in self.states)
                return torch.stack([energy.energy(labels) for labels in each])
            return torch.cat([self._one(n).values(energy[n].energy) for n in range(energy.items)], dim=1)

    def values(self, phi: Statistic) -> Tensor:
        """A statistic of every draw.

        Parameters
        ----------
        phi
            Takes labelings (B, *spatial) int64, gives (B, ...).

        Returns
        -------
        Tensor
            (draws, M, ...) of the type that ``phi`` gives.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> chains = gibbs(PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)), draws=5)
        >>> chains.values(lambda labels: labels.sum(dim=1)).shape
        torch.Size([5, 1])
        """
        flat = self.states.flatten(0, 1)
        size = max(1, _BLOCK // max(1, flat.shape[1]))
        blocks = (flat[i : i + size] for i in range(0, max(1, len(flat)), size))
        found = torch.cat([phi(b.reshape(len(b), *self.energy.spatial).long()) for b in blocks])
        return found.reshape(*self.states.shape[:2], *found.shape[1:])

    def marginals(self) -> Tensor:
        """The share of draws in which each pixel has each label.

        Returns
        -------
        Tensor
            (J, *spatial) float64; (N, J, *spatial) for a batch of energies.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> energy = PottsEnergy(torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.zeros(1, 1, 2))
        >>> gibbs(energy, chains=100, draws=100).marginals()[1].round(decimals=1)
        tensor([0.0000, 0.5000], dtype=torch.float64)
        """
        axes = (0, 1) if self.energy.items == 1 else 0
        each = [(self.states == j).sum(dim=axes) for j in range(self.energy.num_labels)]
        count = self.states.shape[0] * (self.states.shape[1] if self.energy.items == 1 else 1)
        counts = torch.stack(each, dim=-2)
        return counts.reshape(*counts.shape[:-1], *self.energy.spatial).to(torch.float64) / count

    def expectation(self, phi: Statistic) -> Tensor:
        """The mean of a statistic over the draws; :meth:`estimate` tells how accurate it is.

        Parameters
        ----------
        phi
            See :meth:`values`.

        Returns
        -------
        Tensor
            (...) float64; (N, ...) for a batch of energies.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> chains = gibbs(PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)), chains=9, draws=500)
        >>> chains.expectation(lambda labels: labels.double().mean(dim=1)).round(decimals=1)
        tensor(0.5000, dtype=torch.float64)
        """
        values = self.values(phi).to(torch.float64)
        return values.mean(dim=(0, 1) if self.energy.items == 1 else 0)

    def estimate(self, phi: Statistic) -> Estimate:
        """The mean of a statistic and its standard error, by the effective sample size.

        Parameters
        ----------
        phi
            See :meth:`values`.

        Returns
        -------
        Estimate
            As :meth:`expectation`; the error is NaN where the statistic never changed.

        Raises
        ------
        ValueError
            There are fewer than 4 draws.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> chains = gibbs(PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)), chains=9, draws=500)
        >>> mean, error = chains.estimate(lambda labels: labels.double().mean(dim=1))
        >>> bool((mean - 0.5).abs() < 4 * error), bool(error < 0.02)
        (True, True)
        """

        def one(values: Tensor) -> Estimate:
            spread = values.flatten(0, 1).std(dim=0)
            return Estimate(values.mean(dim=(0, 1)), spread / effective_sample_size(values).sqrt())

        found = [one(v) for v in self._by_law(self.values(phi).to(torch.float64))]
        return found[0] if self.energy.items == 1 else Estimate(*map(torch.stack, zip(*found, strict=True)))

    def effective_sample_size(self, phi: Statistic | None = None) -> Tensor:
        """How many independent draws they are worth.

        See :func:`flowcut.joint.diagnostics.effective_sample_size`.

        Parameters
        ----------
        phi
            The statistic to judge by, see :meth:`values`. Default: the energy, which says little about which
            of several modes the chains are in; use what you want to know.

        Returns
        -------
        Tensor
            (...) float64; (N, ...) for a batch of energies.

        Raises
        ------
        ValueError
            There are fewer than 4 draws.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> chains = gibbs(PottsEnergy(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3)), draws=1000)
        >>> bool(chains.effective_sample_size(lambda labels: labels[:, 0]) > 800)
        True
        """
        return self._judge(effective_sample_size, phi)

    def r_hat(self, phi: Statistic | None = None) -> Tensor:
        """Whether the halves of all chains agree, see :func:`flowcut.joint.diagnostics.split_r_hat`.

        Parameters
        ----------
        phi
            As in :meth:`effective_sample_size`.

        Returns
        -------
        Tensor
            (...) float64; (N, ...) for a batch of energies.

        Raises
        ------
        ValueError
            There are fewer than 4 draws.

        Examples
        --------
        Two chains that strong ties hold where they began:

        >>> from flowcut.joint.gibbs import gibbs
        >>> energy = PottsEnergy(torch.zeros(1, 2, 9), torch.full((1, 1, 9), 50.0))
        >>> start = torch.tensor([[0], [1]]).expand(2, 9)
        >>> bool(gibbs(energy, chains=2, draws=100, initial=start).r_hat(lambda labels: labels[:, 0]) > 2)
        True
        """
        return self._judge(split_r_hat, phi)

    def extend(self, draws: int) -> Chains:
        """Go on: the same chains with more draws, the same bits as if they had been asked for at once.

        Parameters
        ----------
        draws
            >= 1.

        Returns
        -------
        Chains
            All draws, old and new.

        Raises
        ------
        ValueError
            ``draws`` is less than 1.

        Examples
        --------
        >>> from flowcut.joint.gibbs import gibbs
        >>> energy = PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3))
        >>> torch.equal(gibbs(energy, draws=3).extend(4).labels, gibbs(energy, draws=7).labels)
        True
        """
        check_count("draws", draws, 1)
        new = self.sampler.advance(self.states[-1], draws, self.thin, self.sweep)
        return replace(self, states=torch.cat([self.states, new]), sweep=self.sweep + draws * self.thin)

    def _one(self, item: int) -> Chains:
        return replace(self, energy=self.energy[item], states=self.states[:, item : item + 1])

    def _by_law(self, values: Tensor) -> tuple[Tensor, ...]:
        """(draws, chains, ...) for each energy."""
        if self.energy.items == 1:
            return (values,)
        return tuple(values[:, n : n + 1] for n in range(self.energy.items))

    def _judge(self, measure: Statistic, phi: Statistic | None) -> Tensor:
        values = self.energies if phi is None else self.values(phi)
        found = [measure(v) for v in self._by_law(values)]
        return found[0] if self.energy.items == 1 else torch.stack(found)


def run_chains(
    energy: PottsEnergy, sampler: Sampler, start: Tensor, draws: int, thin: int, sweep: int
) -> Chains:
    """Chains from states (M, n) that the numbers of ``sweep`` sweeps have been used for."""
    states = sampler.advance(start, draws, thin, sweep)
    return Chains(energy, states, thin, sweep + draws * thin, sampler)
