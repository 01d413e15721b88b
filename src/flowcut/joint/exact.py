r"""The law p(alpha) = exp(-E(alpha)) / Z of an energy, exactly (RAF (10)), and how far others are from it.

With the right sign of the entropy, RAF (14) is KL(P || p) = -H(P) + <P, E> + log Z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from flowcut.core.seeds import generator_of
from flowcut.joint.beliefs import Beliefs
from flowcut.joint.counts import count_labelings
from flowcut.joint.elimination import Elimination
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.enumeration import Enumeration
from flowcut.joint.estimate import Estimate
from flowcut.joint.exact_method import Method, choose_steps, too_many_states
from flowcut.joint.flat import flatten_energy, unflatten_pairs
from flowcut.joint.states import States, divergence

Entropy = float | Tensor | Callable[[Tensor], "float | Tensor | Estimate"]


@dataclass(frozen=True, eq=False)
class ExactLaw:
    """What :func:`exact_law` finds. Everything but :attr:`log_z` is computed when it is first asked for.

    Attributes
    ----------
    energy
        The energy, in double precision.
    log_z
        0-d float64, differentiable in the costs to any order, in bounded memory.
    method
        "enumeration" or "elimination": how the sums were done.

    Examples
    --------
    Two pixels that like to agree:

    >>> law = exact_law(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
    >>> law.pair_marginals[0, :, :, 0]
    tensor([[0.4404, 0.0596],
            [0.0596, 0.4404]], dtype=torch.float64)
    >>> law.log_prob(torch.tensor([[0, 0], [0, 1]])).exp()
    tensor([0.4404, 0.0596], dtype=torch.float64)
    """

    energy: PottsEnergy
    log_z: Tensor
    method: Literal["enumeration", "elimination"]
    _sums: Enumeration | Elimination = field(repr=False)

    @cached_property
    def marginals(self) -> Tensor:
        """(J, *spatial): p(alpha_i = j). Without gradients: take those of ``log_z``, -d log Z / d unary."""
        return self._beliefs.nodes.mT.reshape(self.energy.shape)

    @cached_property
    def pair_marginals(self) -> Tensor:
        """(K, J, J, *spatial), on a graph (J, J, E), as ``pairwise`` of an energy; without gradients.

        Entry [k, a, b, i] is the probability of label a at pixel i and b at i + offset k; 0 where that lies
        outside the picture.
        """
        return unflatten_pairs(self.energy, self._beliefs.pairs)

    @cached_property
    def mean_energy(self) -> Tensor:
        """<p, E>, 0-d float64: multilinear, so marginals of nodes and ties are enough."""
        flat = flatten_energy(self.energy)
        nodes, pairs = self._beliefs
        mean = flat.constant[0] + (flat.unary[0] * nodes).sum() + (flat.full_tables()[0] * pairs).sum()
        return mean.detach()

    @cached_property
    def entropy(self) -> Tensor:
        """H(p) = <p, E> + log Z in nats, 0-d float64."""
        return self.mean_energy + self.log_z.detach()

    def sample(self, count: int, seed: int | torch.Generator) -> Tensor:
        """Independent exact samples.

        Parameters
        ----------
        count
            M >= 0.
        seed
            An integer, or a generator on the CPU, which is advanced.

        Returns
        -------
        Tensor
            (M, *spatial) int64; the same on every device and for any number of threads, up to draws
            that fall within rounding of a boundary.

        Raises
        ------
        ValueError
            The count is negative.

        Examples
        --------
        >>> law = exact_law(PottsEnergy(torch.zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), 9.0)))
        >>> samples = law.sample(100, seed=0)
        >>> samples.shape, samples.flatten(1).double().var(dim=1).max()
        (torch.Size([100, 4, 4]), tensor(0., dtype=torch.float64))
        """
        if count < 0:
            raise ValueError(f"count: expected a number >= 0, got {count}")
        generator = generator_of(seed)
        return self._sums.sample(count, generator).reshape(count, *self.energy.spatial)

    def log_prob(self, labels: Tensor) -> Tensor:
        """log p of labelings (M, *spatial), of any size of grid; differentiable in the costs.

        Returns
        -------
        Tensor
            (M,) float64. The gradient of its mean over data is that of maximum likelihood.
        """
        return -self.energy.energy(labels) - self.log_z

    def states(self, block: int = 1 << 16) -> Iterator[States]:
        """All labelings in counting order (row-major, the last pixel fastest), about ``block`` at once.

        Raises
        ------
        ValueError
            There are more than 2^26.

        Examples
        --------
        >>> law = exact_law(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
        >>> next(law.states()).labels.tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
        """
        problem = too_many_states(self.energy)
        if problem:
            raise ValueError(f"states: {problem}; a sample and kl_from_samples work at any size")
        return self._states(block)

    def _states(self, block: int) -> Iterator[States]:
        known = self._sums
        every = known if isinstance(known, Enumeration) else Enumeration(flatten_energy(self.energy))
        for start, stop in every.blocks(block):
            with torch.no_grad():  # not around the yield, where it would hold for the caller too
                labels = every.labelings(start, stop).reshape(-1, *self.energy.spatial)
                log_prob = -every.energies(start, stop).flatten() - self.log_z
            yield States(labels, log_prob)

    def kl(self, log_prob: Callable[[Tensor], Tensor], block: int = 1 << 16) -> Tensor:
        """KL(P || p) of a model P whose probabilities are known, summed over all labelings.

        Parameters
        ----------
        log_prob
            Takes labelings (B, *spatial) int64, gives log P (B,); -inf where P is 0. Called without
            gradients.
        block
            About so many labelings are handed over at once.

        Returns
        -------
        Tensor
            0-d float64, in nats.

        Raises
        ------
        ValueError
            There are more than 2^26 labelings, or the probabilities do not sum to 1 (within 1e-3).

        Examples
        --------
        >>> law = exact_law(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
        >>> law.kl(lambda labels: torch.full((len(labels),), 0.25).log())
        tensor(0.4338, dtype=torch.float64)
        """
        return divergence(log_prob, self.states(block))

    def kl_from_samples(self, labels: Tensor, entropy: Entropy) -> Tensor:
        """KL(P || p) = <P, E> + log Z - H(P) of a model P that can only be drawn from (RAF (14)).

        Parameters
        ----------
        labels
            (M, *spatial), M >= 1 draws from P.
        entropy
            H(P) in nats: a number, or a function that estimates it from how often each distinct labeling
            was drawn, (S,) int64, as :func:`flowcut.joint.entropy.entropy_from_counts`.

        Returns
        -------
        Tensor
            0-d float64. As good as the estimate of H(P): below 0 where that is too high.

        Raises
        ------
        TypeError, ValueError
            They are no labelings of these pixels, or there are none.

        Examples
        --------
        >>> law = exact_law(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
        >>> always_zero = torch.zeros(10, 2, dtype=torch.int64)
        >>> law.kl_from_samples(always_zero, entropy=0.0), law.log_prob(always_zero[:1])
        (tensor(0.8201, dtype=torch.float64), tensor([-0.8201], dtype=torch.float64))
        """
        with torch.no_grad():
            cross = -self.log_prob(labels).mean()
        if not len(labels):
            raise ValueError("labels: expected at least one labeling, got none")
        found = entropy(count_labelings(labels).counts) if callable(entropy) else entropy
        return cross - (found.value if isinstance(found, Estimate) else found)

    @cached_property
    def _beliefs(self) -> Beliefs:
        return self._sums.beliefs()


def exact_law(energy: PottsEnergy, method: Method = "auto") -> ExactLaw:
    """The law p(alpha) = exp(-E(alpha)) / Z of one energy, exactly.

    Parameters
    ----------
    energy
        One energy (N = 1) on a grid or graph.
    method
        "enumeration" goes through all labelings, J^n <= 2^26 of them, whatever is tied to what.
        "elimination" takes up node after node and remembers the frontier, those nodes with ties yet to
        come: on a grid one row across its shorter axis, whatever the longer one is (the transfer
        matrix). It costs about n J^(frontier + 1), which may be up to 2^22 = 4 M numbers at once: two
        labels and 21 pixels across, three labels and 12. "auto" takes what costs less.

    Returns
    -------
    ExactLaw
        log Z, marginals, entropy, mean energy, samples, probabilities, divergences.

    Raises
    ------
    TypeError
        ``energy`` is none.
    ValueError
        It is a batch, or too large. The message says by how much, and what is possible instead.

    Notes
    -----
    All in double precision. Elimination visits n J^(frontier + 1) numbers at about 10 ns each on one core,
    for marginals and samples two or three times as long: 10 x 16 pixels of two labels 0.02 s, 12 x 200
    0.2 s, and at the limit 21 x 21 16 s, with 3 GB. Enumeration takes about 10 ns a labeling for
    everything.

    Examples
    --------
    The Ising model of RAF's Table 1:

    >>> unary = torch.zeros(1, 2, 3, 8)
    >>> unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    >>> law = exact_law(PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1)))
    >>> f"log Z {law.log_z:.4f}, mean energy {law.mean_energy:.4f}, entropy {law.entropy:.4f}"
    'log Z 5.1362, mean energy -1.5395, entropy 3.5967'
    """
    if not isinstance(energy, PottsEnergy):
        raise TypeError(f"energy: expected a PottsEnergy, got {type(energy).__name__}")
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; take energy[i]")
    double = energy.to(torch.float64)
    flat = flatten_energy(double)
    steps = choose_steps(energy, flat.pairs, method)
    if steps is None:
        every = Enumeration(flat)
        return ExactLaw(double, every.log_z, "enumeration", every)
    chain = Elimination(flat, steps)
    return ExactLaw(double, chain.log_z, "elimination", chain)
