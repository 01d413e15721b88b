r"""Naive mean field (RAF (14)-(16)): the product of independent pixels that is closest to exp(-E) / Z.

The relative entropy of a product T(M) to the law P* of an energy is tractable up to log Z:

    KL(T(M) || P*) = F(M) + log Z,      F(M) = sum_i <M_i, log M_i> + E_mf(M),

by (16), and because the mean of E under T(M) is the mean-field energy. That is linear in each pixel's M_i,
with the local costs g_i as coefficients. With the other pixels held fixed, F is
<M_i, log M_i> + <M_i, g_i> + constant, which is least on the simplex at M_i = softmax(-g_i). As g_i depends
on neighbours only, all pixels of one colour of a colouring are set at once, and F never rises.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowcut.core.results import NotConvergedError, OnFailure
from flowcut.core.seeds import generator_of
from flowcut.core.warnings import FlowcutWarning
from flowcut.flow.inputs import check_positive
from flowcut.flow.simplex import entropy
from flowcut.joint.colouring import colouring
from flowcut.joint.energy import PottsEnergy

# So many numbers of all restarts together are worked on at once.
BLOCK = 1 << 22


class HasLogZ(Protocol):
    """A law whose partition function is known."""

    @property
    def log_z(self) -> Tensor | float:
        """Log of the sum of exp(-E) over all labelings."""


@dataclass(frozen=True, eq=False)
class MeanField:
    """What :func:`mean_field` returns: the best of its restarts.

    Attributes
    ----------
    target
        The energy, in double precision.
    assignments
        (J, *spatial) float64: M, the marginals of the approximation.
    energy
        Mean energy of T(M) (RAF (17)), 0-d float64.
    entropy
        Entropy of T(M) in nats (RAF (16)), 0-d float64.
    free_energies
        (restarts,) float64: F of every restart, energy - entropy. The least is the best.
    converged
        (restarts,) bool: whether the last sweep changed nothing by more than the tolerance.
    sweeps
        (restarts,) int64.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[0.0, 0.0]]]))
    >>> mean_field(energy, restarts=2).assignments.tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    target: PottsEnergy
    assignments: Tensor
    energy: Tensor
    entropy: Tensor
    free_energies: Tensor
    converged: Tensor
    sweeps: Tensor

    @property
    def free_energy(self) -> Tensor:
        """F(M) = energy - entropy, 0-d float64; -F(M) is a lower bound on log Z, as no KL is negative."""
        return self.energy - self.entropy

    def kl(self, exact: HasLogZ | Tensor | float) -> Tensor:
        """KL(T(M) || P*) = F(M) + log Z (RAF (14)).

        Parameters
        ----------
        exact
            The exact law, or log Z.

        Returns
        -------
        Tensor
            0-d float64, in nats.
        """
        log_z = exact if isinstance(exact, Tensor | float | int) else exact.log_z
        known = torch.as_tensor(log_z, dtype=torch.float64, device=self.energy.device).detach()
        return self.free_energy + known.reshape(())

    def sample(self, count: int, seed: int | torch.Generator) -> Tensor:
        """Labelings whose pixels are drawn independently.

        Parameters
        ----------
        count
            M >= 0.
        seed
            An integer, or a generator on the CPU, which is advanced.

        Returns
        -------
        Tensor
            (M, *spatial) int64.

        Raises
        ------
        ValueError
            The count is negative.
        """
        if count < 0:
            raise ValueError(f"count: expected a number >= 0, got {count}")
        rows = self.assignments.flatten(1).mT
        if not count or not len(rows):  # torch.multinomial refuses to draw nothing
            return torch.zeros((count, *self.target.spatial), dtype=torch.int64, device=rows.device)
        drawn = torch.multinomial(rows.cpu(), count, replacement=True, generator=generator_of(seed))
        return drawn.mT.reshape(count, *self.target.spatial).to(rows.device)

    def log_prob(self, labels: Tensor) -> Tensor:
        """Log T(M)_alpha = sum_i log M_i,alpha_i (RAF (4a)).

        Parameters
        ----------
        labels
            (M, *spatial), integers 0 to J - 1.

        Returns
        -------
        Tensor
            (M,) float64.

        Raises
        ------
        TypeError, ValueError
            They are no labelings of these pixels.
        """
        self.target.check_labels(labels)
        logs = self.assignments.log().expand(len(labels), *self.target.shape)
        return logs.gather(1, labels.to(torch.int64).unsqueeze(1)).flatten(1).sum(dim=1)


@torch.no_grad()
def mean_field(
    energy: PottsEnergy,
    restarts: int = 1000,
    max_sweeps: int = 1000,
    tolerance: float = 1e-6,
    seed: int | torch.Generator = 0,
    on_failure: OnFailure = "warn",
) -> MeanField:
    """The closest law in which pixels are independent, by coordinate descent from many random starts.

    Where a law has several modes, F has several minima, and even the best one describes one mode only: with
    k equal modes far apart KL stays above about log k.

    Parameters
    ----------
    energy
        One energy.
    restarts
        How many starts, >= 1: softmax of standard normal logits, as in the paper's section 5.
    max_sweeps
        Give up a restart after so many passes over all pixels, >= 1.
    tolerance
        A restart ends when a sweep changes no assignment by more, > 0.
    seed
        An integer, or a generator on the CPU, which is advanced.
    on_failure
        What to do about restarts that did not end: "warn", "raise" or "ignore".

    Returns
    -------
    MeanField
        Marginals of the best restart, F of all.

    Raises
    ------
    TypeError
        ``energy`` is none.
    ValueError
        Several energies, or a number out of range.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    Two pixels that must agree: the best product puts both on one label, and KL is about log 2.

    >>> from flowcut.joint.energy import PottsEnergy
    >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[9.0, 0.0]]]))
    >>> found = mean_field(energy, restarts=8)
    >>> log_z = torch.tensor([0.0, 0.0, -9.0, -9.0]).logsumexp(dim=0)
    >>> found.kl(log_z), found.assignments.amax(dim=0)
    (tensor(0.6930, dtype=torch.float64), tensor([0.9999, 0.9999], dtype=torch.float64))
    """
    if not isinstance(energy, PottsEnergy):
        raise TypeError(f"energy: expected a PottsEnergy, got {type(energy).__name__}")
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; take energy[i]")
    for name, value in (("restarts", restarts), ("max_sweeps", max_sweeps)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    check_positive("tolerance", tolerance)
    target, generator = energy.to(torch.float64), generator_of(seed)
    assert target.neighborhood is not None  # found when the energy was made
    colours = colouring(target.neighborhood, target.spatial).reshape(target.spatial).to(target.device)
    size = max(1, BLOCK // max(1, target.unary.numel()))
    blocks = []
    for first in range(0, restarts, size):
        count = min(size, restarts - first)
        normal = torch.randn(count, *target.shape, generator=generator, dtype=torch.float64)
        start = normal.to(target.device).softmax(dim=1)
        blocks.append(_descend(target, start, colours, max_sweeps, tolerance))
    free_energies, change, sweeps = (torch.cat([block[k] for block in blocks]) for k in (1, 2, 3))
    _report(change, tolerance, max_sweeps, on_failure)
    best = blocks[_first_least(free_energies) // size].best
    mean, spread = target.mean_field_energy(best[None])[0], entropy(best[None]).sum()
    return MeanField(target, best, mean, spread, free_energies, change <= tolerance, sweeps)


class _Descent(NamedTuple):
    """The best assignments of a block of restarts; F, last change and sweeps of all."""

    best: Tensor
    free_energies: Tensor
    change: Tensor
    sweeps: Tensor


def _descend(
    target: PottsEnergy, start: Tensor, colours: Tensor, max_sweeps: int, tolerance: float
) -> _Descent:
    s, masks = start, [colours == c for c in sorted(set(colours.flatten().tolist()))]
    change = s.new_full((len(s),), torch.inf)
    sweeps = torch.zeros(len(s), dtype=torch.int64, device=s.device)
    going = torch.arange(len(s), device=s.device)
    for _ in range(max_sweeps):
        old = new = s[going]
        for mask in masks:
            new = torch.where(mask, (-target.local_costs(new)).softmax(dim=1), new)
        s[going] = new
        # A picture without pixels has no largest change: one zero more.
        change[going] = torch.nn.functional.pad((new - old).abs().flatten(1), (0, 1)).amax(dim=1)
        sweeps[going] += 1
        going = going[change[going] > tolerance]
        if not len(going):
            break
    free_energies = target.mean_field_energy(s) - entropy(s).flatten(1).sum(dim=1)
    return _Descent(s[_first_least(free_energies)].clone(), free_energies, change, sweeps)


def _first_least(free_energies: Tensor) -> int:
    """The first of the least, up to rounding, so that equal optima are told apart on every machine alike."""
    least = free_energies.min()
    return int((free_energies <= least + 1e-9 * (1 + least.abs())).nonzero()[0])


def _report(change: Tensor, tolerance: float, max_sweeps: int, on_failure: str) -> None:
    failed = (change > tolerance).nonzero()
    if on_failure == "ignore" or not len(failed):
        return
    restart = int(failed[0])
    text = (
        f"{len(failed)} of {len(change)} restarts: tolerance {tolerance:g} was not met within {max_sweeps} "
        f"sweeps: raise max_sweeps or tolerance (restart {restart}: last change {float(change[restart]):.1e})"
    )
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=4)  # past torch.no_grad, to the caller
