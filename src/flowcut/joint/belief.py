r"""Loopy belief propagation: sum-product messages along the ties, and the Bethe free energy.

With node factors exp(-u_i) and tie factors exp(-t_ij), the message of i to j is

    m_ij(b) ~ sum_a exp(-u_i(a) - t_ij(a, b)) prod_{k != j} m_ki(a),

and at a fixed point the beliefs are b_i ~ exp(-u_i) prod_k m_ki for nodes and
b_ij ~ exp(-t_ij) (b_i / m_ji) (b_j / m_ij) for ties. They are stationary points, under the constraint that
sums of b_ij are b_i and b_j, of

    F(b) = sum_ij <b_ij, t_ij + log b_ij> + sum_i <b_i, u_i> + sum_i (1 - d_i) <b_i, log b_i>,

d_i = number of ties of i (Yedidia, Freeman, Weiss 2005). Without cycles p = prod_ij b_ij prod_i b_i^(1 - d_i)
is the law itself, so that beliefs are its marginals and F = -log Z. With cycles both are approximations, and
F is no bound. All messages are logarithms, sent at once and damped.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.results import NotConvergedError, OnFailure
from flowcut.core.warnings import FlowcutWarning
from flowcut.flow.inputs import check_positive
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import flatten_energy, unflatten_pairs


@dataclass(frozen=True, eq=False)
class BeliefPropagation:
    """What :func:`belief_propagation` returns.

    Attributes
    ----------
    marginals
        (J, *spatial) float64: b_i.
    pair_marginals
        (K, J, J, *spatial) float64, on a graph (J, J, E), as ``pairwise`` of an energy: b_ij. Entry
        [k, a, b, i] is for label a at pixel i and b at i + offset k; 0 where that lies outside.
    free_energy
        F(b), 0-d float64: the Bethe estimate of -log Z, exact without cycles.
    converged
        Whether the last sweep changed no message by more than the tolerance.
    sweeps
        How many there were.

    Examples
    --------
    >>> chain = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
    >>> found = belief_propagation(chain)
    >>> found.marginals.tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    marginals: Tensor
    pair_marginals: Tensor
    free_energy: Tensor
    converged: bool
    sweeps: int

    @property
    def log_z(self) -> Tensor:
        """-F(b): an estimate, and no bound."""
        return -self.free_energy


@torch.no_grad()
def belief_propagation(
    energy: PottsEnergy,
    damping: float = 0.5,
    max_sweeps: int = 2000,
    tolerance: float = 1e-9,
    on_failure: OnFailure = "warn",
) -> BeliefPropagation:
    """Estimates of marginals and log Z by messages between neighbours; exact without cycles.

    Two ties between the same pixels count as a cycle. At low temperatures there are several fixed points,
    or none that the messages settle at; this starts from messages that say nothing.

    Parameters
    ----------
    energy
        One energy.
    damping
        Share of the old message that is kept (of its logarithm), 0 <= damping < 1.
    max_sweeps
        Give up after sending so many messages along every tie, >= 1.
    tolerance
        Stop when no entry of a message, normalised to sum 1, changes by more, > 0.
    on_failure
        What to do if that does not happen: "warn", "raise" or "ignore".

    Returns
    -------
    BeliefPropagation
        Marginals of pixels and ties, and the Bethe free energy.

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
    >>> from flowcut.joint.energy import PottsEnergy
    >>> energy = PottsEnergy(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[2.0, 0.0]]]))
    >>> found = belief_propagation(energy)
    >>> law = (-energy.energy(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]))).softmax(dim=0)
    >>> law.reshape(2, 2), found.pair_marginals[0, :, :, 0]
    (tensor([[0.2369, 0.0321],
            [0.0871, 0.6439]]), tensor([[0.2369, 0.0321],
            [0.0871, 0.6439]], dtype=torch.float64))
    """
    _check(energy, damping, max_sweeps)
    check_positive("tolerance", tolerance)
    flat = flatten_energy(energy)
    unary, tables = flat.unary[0], flat.full_tables()[0]
    web = _Web(unary, torch.cat([tables, tables.mT]), *torch.cat([flat.pairs, flat.pairs.flip(1)]).T)
    messages = unary.new_zeros(2 * len(tables), unary.shape[1]).log_softmax(dim=1)
    change, sweeps = torch.inf, 0
    while change > tolerance and sweeps < max_sweeps:
        new = (damping * messages + (1 - damping) * web.send(messages)).log_softmax(dim=1)
        change = float((new.exp() - messages.exp()).abs().max()) if len(new) else 0.0
        messages, sweeps = new, sweeps + 1
    _report(change, tolerance, sweeps, on_failure)
    nodes = web.beliefs(messages).log_softmax(dim=1)
    pairs = web.pair_beliefs(messages)
    free_energy = flat.constant[0] + web.bethe(nodes, pairs)
    marginals, on_ties = nodes.exp().mT.reshape(energy.shape), unflatten_pairs(energy, pairs.exp())
    return BeliefPropagation(marginals, on_ties, free_energy, change <= tolerance, sweeps)


class _Web(NamedTuple):
    """Who sends to whom. Tie e sends from its first end as message e, from its second as message E + e."""

    unary: Tensor
    costs: Tensor  # (2E, J, J): label of the sender, label of the receiver
    sender: Tensor
    receiver: Tensor

    def beliefs(self, messages: Tensor) -> Tensor:
        """(n, J): log b_i up to a constant of each node."""
        return (-self.unary).index_add(0, self.receiver, messages)

    def cavity(self, messages: Tensor) -> Tensor:
        """(2E, J): log b of each sender without what the receiver told it."""
        return self.beliefs(messages)[self.sender] - messages.roll(len(messages) // 2, dims=0)

    def send(self, messages: Tensor) -> Tensor:
        """(2E, J): log m, normalised."""
        return (self.cavity(messages).unsqueeze(2) - self.costs).logsumexp(dim=1).log_softmax(dim=1)

    def pair_beliefs(self, messages: Tensor) -> Tensor:
        """(E, J, J): log b_ij."""
        first, second = self.cavity(messages).chunk(2)
        pairs = first.unsqueeze(2) + second.unsqueeze(1) - self.costs[: len(first)]
        return pairs - pairs.logsumexp(dim=(1, 2), keepdim=True)

    def bethe(self, nodes: Tensor, pairs: Tensor) -> Tensor:
        """F(b) from logarithms of beliefs, which are finite like the costs."""
        degree = torch.bincount(self.sender, minlength=len(nodes))
        own = (nodes.exp() * (self.unary + (1 - degree).unsqueeze(1) * nodes)).sum()
        return own + (pairs.exp() * (self.costs[: len(pairs)] + pairs)).sum()


def _check(energy: PottsEnergy, damping: float, max_sweeps: int) -> None:
    if not isinstance(energy, PottsEnergy):
        raise TypeError(f"energy: expected a PottsEnergy, got {type(energy).__name__}")
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; take energy[i]")
    if not 0 <= damping < 1:
        raise ValueError(f"damping: expected a number >= 0 and < 1, got {damping}")
    if max_sweeps < 1:
        raise ValueError(f"max_sweeps: expected at least 1, got {max_sweeps}")


def _report(change: float, tolerance: float, sweeps: int, on_failure: str) -> None:
    if change <= tolerance or on_failure == "ignore":
        return
    text = (
        f"belief propagation: tolerance {tolerance:g} was not met within {sweeps} sweeps: raise max_sweeps, "
        f"damping or the temperature (last change {change:.1e})"
    )
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=4)  # past torch.no_grad, to the caller
