r"""What a randomized flow is fitted by: estimates of E_P[E + log P] = KL(P || P*) - log Z.

P = E_S[T(S)] is a mixture of products of which m are drawn, S^1 ... S^m; P-hat = (1/m) sum_l T(S^l).

**The semi-implicit bound.** With alpha_k ~ T(S^k), the mean of E(alpha_k) + log P-hat(alpha_k) bounds the
free energy from above in expectation (:mod:`flowcut.joint.divergence`). Only the law that alpha_k is drawn
from has to be differentiated: averaged over k and alpha_k, the derivative of log P-hat itself is
sum_alpha P-hat grad log P-hat = grad sum_alpha P-hat = 0, nothing but noise in a sample.

F_k(S) = sum_alpha T(S)_alpha f(alpha), f = E + log P-hat with P-hat held fixed, is linear in every row of S.
Given the labels of all other pixels, its derivative by S_ij is f of the labeling with label j at pixel i:

    dF_k / dS_ij = E[ f(alpha_k^{i -> j}) ],      alpha_k^{i -> j}: alpha_k with label j at pixel i.

One draw of alpha_k thus serves all n J derivatives, and nothing is left to chance that can be summed. (The
score function (f(alpha_k) - baseline) grad log T(S^k)_{alpha_k} has the same mean and much more variance.)
With pi_kl = T(S^l)_{alpha_k} / sum_l' T(S^l')_{alpha_k}, changing one pixel changes one factor:

    log P-hat(alpha_k^{i -> j}) - log P-hat(alpha_k) = log sum_l pi_kl S^l_ij / S^l_{i, alpha_ki},

a matrix product for each pair of labels. The same for E is a difference of local costs. As P approaches
P*, E + log P-hat becomes constant: all these differences vanish, and with them the noise of the gradient.
They are numbers that multiply S, so the m x m exponents need no graph and are made in blocks.

*A memory of earlier draws.* With its own sample included, P-hat is at least T(S^k)_{alpha_k} / m: for
integral S every labeling seems to have the probability 1 / m or more, and those that are rarer are driven
out, which costs entropy. Draws of the steps before, of a model that was nearly this one, make m many times
larger for the price of matrix products.

**The paper's objective** (RAF (14), (17), (20), (22), (23)): the mean-field energy of S^k, and the plug-in
entropy with alpha_k rounded from S^k and the Miller-Madow correction, whose support is the number of
distinct alpha_k, "smoothed by the mean entropy of nodewise assignment": read here as times exp of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.joint.counts import count_labelings
from flowcut.joint.energy import PottsEnergy

# Rows of the matrix of labelings and components at a time.
_ROWS = 512
# A ratio of two labels' probabilities beyond exp(40) says no more than that one of them is impossible.
_FAR = 40.0


class Objective(NamedTuple):
    """A loss to be differentiated, and the number it stands for.

    Attributes
    ----------
    loss
        Its gradient is that of the estimate; its value means nothing.
    free_energy
        The estimate of E_P[beta E + log P].
    """

    loss: Tensor
    free_energy: Tensor


def log_assignments(logits: Tensor) -> Tensor:
    """(C, n, M) to log S (J, n, M): two labels for one channel."""
    if logits.shape[0] == 1:
        return torch.nn.functional.logsigmoid(torch.cat([-logits, logits]))
    return logits.log_softmax(dim=0)


def semi_implicit(
    logits: Tensor,
    energy: PottsEnergy,
    beta: float,
    generator: torch.Generator,
    earlier: Tensor | None = None,
) -> Objective:
    """The semi-implicit bound at inverse temperature ``beta``.

    Parameters
    ----------
    logits
        (C, n, M), of independent draws S^k.
    energy
        One energy over n pixels.
    beta
        E is multiplied by it.
    generator
        Draws alpha.
    earlier
        (J, n, M'): log S of draws of a model that was nearly this one. They join the mixture, fixed.
    """
    log_s = log_assignments(logits)
    with torch.no_grad():
        labels = _draw(log_s, generator)
        mixture = log_s if earlier is None else torch.cat([log_s, earlier], dim=2)
        by_s, value = _coefficients(log_s, mixture, labels, energy, beta)
    return Objective((by_s * log_s.exp()).sum(), value)


def _draw(log_s: Tensor, generator: torch.Generator) -> Tensor:
    """(n, M) int64: every pixel by itself."""
    below = log_s.exp().cumsum(dim=0)
    uniform = torch.rand(log_s.shape[1:], generator=generator, dtype=log_s.dtype).to(log_s.device)
    return (uniform * below[-1] >= below[:-1]).sum(dim=0)


def _coefficients(
    log_s: Tensor, mixture: Tensor, labels: Tensor, energy: PottsEnergy, beta: float
) -> tuple[Tensor, Tensor]:
    """What multiplies S, (J, n, M), and the bound; the mixture begins with S itself."""
    num_labels, _, samples = log_s.shape
    # The matrix products below are taken over samples: (M', J n).
    components = mixture.permute(2, 0, 1).reshape(mixture.shape[2], -1)
    hot = torch.nn.functional.one_hot(labels, num_labels).permute(2, 0, 1).to(log_s.dtype)
    costs, total = _energies(energy, hot, labels)
    by_s = beta * (costs - (costs * hot).sum(dim=0, keepdim=True))
    log_p = []
    for first in range(0, samples, _ROWS):
        rows = slice(first, first + _ROWS)
        alpha = hot[..., rows].permute(2, 0, 1).flatten(1)
        share = alpha @ components.T
        largest = share.amax(dim=1, keepdim=True)
        total_share = share.sub_(largest).exp_().sum(dim=1, keepdim=True)
        share.div_(total_share)
        log_p.append((largest + total_share.log())[:, 0] - math.log(len(components)))
        by_s[..., rows] += _changes(share, mixture, labels[:, rows])
    value = (beta * total + torch.cat(log_p)).mean()
    return by_s / samples, value


def _energies(energy: PottsEnergy, hot: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Local costs (J, n, M) at labelings given twice, one-hot and as (n, M), and their energies (M,)."""
    spatial, samples = energy.spatial, labels.shape[1]
    one_hot = hot.permute(2, 0, 1).reshape(samples, -1, *spatial)
    costs = energy.local_costs(one_hot).flatten(2).permute(1, 2, 0)
    return costs.to(hot.dtype), energy.energy(labels.T.reshape(samples, *spatial)).to(hot.dtype)


def _changes(share: Tensor, log_s: Tensor, labels: Tensor) -> Tensor:
    """log P-hat(alpha^{i -> j}) - log P-hat(alpha), (J, n, rows)."""
    num_labels = log_s.shape[0]
    out = log_s.new_zeros(num_labels, *labels.shape)
    for old in range(num_labels):
        here = labels == old
        for new in range(num_labels):
            if new != old:
                ratio = (log_s[new] - log_s[old]).clamp(-_FAR, _FAR).exp_()
                change = (ratio @ share.T).log_()
                out[new] = torch.where(here, change, out[new])
    return out


def paper_objective(
    logits: Tensor,
    energy: PottsEnergy,
    beta: float,
    generator: torch.Generator,
    earlier: Tensor | None = None,
) -> Objective:
    """RAF's printed objective; arguments as in :func:`semi_implicit` (nothing is drawn, nothing remembered).

    It rewards assignments that are not integral, by up to n log J, and has no gradient towards modes that no
    sample has; :func:`semi_implicit` has neither fault.
    """
    log_s = log_assignments(logits)
    num_labels, _, samples = log_s.shape
    s = log_s.exp()
    assignments = s.permute(2, 0, 1).reshape(samples, num_labels, *energy.spatial)
    labels = log_s.argmax(dim=0)
    hot = torch.nn.functional.one_hot(labels.T, num_labels).to(log_s.dtype)
    # (23b): log sum_l exp(sum_i log S^l_{i, alpha_ki}), rows are (n, J).
    exponents = hot.flatten(1) @ log_s.permute(2, 1, 0).flatten(1).T
    log_p = exponents.logsumexp(dim=1) - math.log(samples)
    support = len(count_labelings(labels.T)[1])
    mean_entropy = -(s * log_s).sum(dim=0).mean()
    correction = (support * mean_entropy.exp() - 1) / (2 * samples)  # (20)
    free_energy = beta * energy.mean_field_energy(assignments).mean() + log_p.mean() - correction
    return Objective(free_energy, free_energy.detach())
