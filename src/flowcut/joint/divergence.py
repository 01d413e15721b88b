r"""KL(P || P*) of a mixture of products P = E_S[T(S)], of which only draws of S are known.

T(S)_alpha = prod_i S_{i, alpha_i} (RAF (4a)). Let S^1 ... S^m be independent draws, alpha_k ~ T(S^k), and

    P-hat(alpha)      = (1/m) sum_l T(S^l)_alpha                    all draws, the own one included
    P-hat_{-k}(alpha) = (1/(m-1)) sum_{l != k} T(S^l)_alpha         without the own one

With KL(P || P*) = E_P[E + log P] + log Z, the mean over k of E(alpha_k) + log P-hat + log Z brackets it:

*Included, from above.* Given all S, averaging over k and alpha_k ~ T(S^k) is averaging over alpha ~ P-hat:
E[(1/m) sum_k log P-hat(alpha_k)] = E_S[sum_alpha P-hat log P-hat] = -E_S[H(P-hat)]. Entropy is concave and
E_S[P-hat] = P, so E_S[H(P-hat)] <= H(P) by Jensen and the mean is >= E_P[log P].

*Excluded, from below.* alpha_k ~ P is independent of P-hat_{-k}, and E_S[P-hat_{-k}(alpha)] = P(alpha).
The logarithm is concave: E[log P-hat_{-k}(alpha_k)] <= E_P[log P], by Jensen.

E_P[E] is estimated without bias by E(alpha_k). The mean-field energy of S^k would vary less by itself, but
not together with log P-hat(alpha_k): the nearer P is to P*, the less E + log P varies.

*Standard errors.* The bounds are functions of the empirical law of the pairs (S^k, alpha_k). Pair j acts
as an argument, by f_j = E(alpha_j) + log P-hat(alpha_j), and as a component, to first order by
(1/m) sum_k T(S^j)_{alpha_k} / P-hat(alpha_k). The mean of the latter is sum_alpha T(S^j)_alpha = 1
whatever S^j is, so that it adds nothing and the error is that of independent f_j: std(f) / sqrt(m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.seeds import generator_of
from flowcut.joint.counts import check_integers
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.estimate import Estimate, mean_estimate

# Entries of the matrix of labelings and components held at once: 16 MiB in single precision.
_BLOCK = 2**22


def mixture_log_prob(log_assignments: Tensor, labels: Tensor, block: int = _BLOCK) -> Tensor:
    """log (1/m) sum_l prod_i S^l_{i, alpha_i}, of labelings in a mixture of products (RAF (22), (23)).

    A log-sum-exp over rows of one matrix product, one-hot labelings times log S, made in blocks of rows. When
    a gradient is wanted and there is more than one block, blocks are made again in the backward pass, so
    that memory stays bounded there too. Differentiable in ``log_assignments``, any number of times.

    Parameters
    ----------
    log_assignments
        (m, J, *spatial): log S, finite; normalised over J.
    labels
        (M, *spatial), integers 0 to J - 1.
    block
        How many entries of the M x m matrix are held at once; at least one row is.

    Returns
    -------
    Tensor
        (M,), in the type of ``log_assignments``.

    Raises
    ------
    TypeError, ValueError
        Types, shapes or labels do not fit, log S is not finite, there is no component, or block < 1.

    Examples
    --------
    Half a coin that shows heads nine times of ten, half one that shows tails as often:

    >>> coins = torch.tensor([[[0.9], [0.1]], [[0.1], [0.9]]]).log()
    >>> mixture_log_prob(coins, torch.tensor([[0], [1]])).exp()
    tensor([0.5000, 0.5000])
    """
    _check(log_assignments, labels, block)
    return _in_blocks(log_assignments, labels, block, own=False)


def leave_one_out_log_prob(log_assignments: Tensor, labels: Tensor, block: int = _BLOCK) -> Tensor:
    """log (1/(m-1)) sum_{l != k} prod_i S^l_{i, alpha_i} for labelings alpha_k that belong to S^k.

    Parameters
    ----------
    log_assignments, labels, block
        As in :func:`mixture_log_prob`, with M = m >= 2: labeling k was drawn from component k.

    Returns
    -------
    Tensor
        (m,).

    Raises
    ------
    TypeError, ValueError
        As in :func:`mixture_log_prob`, or m < 2, or M != m.

    Examples
    --------
    >>> coins = torch.tensor([[[0.9], [0.1]], [[0.1], [0.9]]]).log()
    >>> leave_one_out_log_prob(coins, torch.tensor([[0], [1]])).exp()
    tensor([0.1000, 0.1000])
    """
    _check(log_assignments, labels, block)
    _check_pairs(log_assignments, labels)
    return _in_blocks(log_assignments, labels, block, own=True)


@dataclass(frozen=True)
class KlBounds:
    """KL(P || P*) from both sides, in expectation over draws; see :func:`kl_bounds`.

    Attributes
    ----------
    lower, upper
        Estimates of a number below and of one above KL.
    energy
        E_P[E].
    entropy_lower, entropy_upper
        Of H(P): the upper and lower bound of KL are energy - entropy + log Z.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3))
    >>> found = kl_bounds(energy, torch.full((50, 2, 3), 0.5).log(), 0.0)
    >>> round(float(found.entropy_lower.value), 4)  # 3 log 2
    2.0794
    """

    lower: Estimate
    upper: Estimate
    energy: Estimate
    entropy_lower: Estimate
    entropy_upper: Estimate


def kl_bounds(
    energy: PottsEnergy,
    draws: Tensor,
    log_z: float | Tensor,
    labels: Tensor | None = None,
    generator: torch.Generator | int = 0,
    block: int = _BLOCK,
) -> KlBounds:
    """Bracket KL(P || exp(-E) / Z) for P = E_S[T(S)], from independent draws of log S.

    The module's docstring says why the bounds are bounds. The gap shrinks as m grows; each
    bound misses KL by a bias of its own, which the standard errors do not include.

    Parameters
    ----------
    energy
        One energy.
    draws
        (m, J, *spatial): log S^k, finite, m >= 2 independent draws.
    log_z
        log Z of the energy; with 0 the bounds are those of KL - log Z, the free energy.
    labels
        (m, *spatial): alpha_k ~ T(S^k). By default drawn here.
    generator
        Or a seed: what labels are drawn with.
    block
        As in :func:`mixture_log_prob`.

    Returns
    -------
    KlBounds
        float64 numbers.

    Raises
    ------
    TypeError, ValueError
        Types or shapes do not fit, log S is not finite, m < 2, or more than one energy is given.

    Examples
    --------
    Independent fair coins are the law of the zero energy: KL is 0.

    >>> energy = PottsEnergy(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3))
    >>> bounds = kl_bounds(energy, torch.full((50, 2, 3), 0.5).log(), 3 * torch.tensor(2.0).log())
    >>> abs(float(bounds.lower.value)) < 1e-5, abs(float(bounds.upper.value)) < 1e-5
    (True, True)
    """
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; pick one by energy[i]")
    check_floating("draws", draws)
    if tuple(draws.shape[1:]) != energy.shape:
        expected = ", ".join(map(str, energy.shape))
        raise ValueError(f"draws: expected shape (m, {expected}), got {tuple(draws.shape)}")
    with torch.no_grad():
        alpha = draw_labels(draws, generator) if labels is None else labels
        _check(draws, alpha, block, "draws")
        _check_pairs(draws, alpha, "draws")
        cost = energy.energy(alpha).double()
        with_own = _in_blocks(draws, alpha, block, own=False).double()
        without = _in_blocks(draws, alpha, block, own=True).double()
    shift = torch.as_tensor(log_z, dtype=torch.float64, device=cost.device)
    return KlBounds(
        lower=mean_estimate(cost + without + shift),
        upper=mean_estimate(cost + with_own + shift),
        energy=mean_estimate(cost),
        entropy_lower=mean_estimate(-with_own),
        entropy_upper=mean_estimate(-without),
    )


def draw_labels(log_assignments: Tensor, generator: torch.Generator | int) -> Tensor:
    """One labeling alpha_k ~ T(S^k) of each of m assignments: every pixel by itself.

    Parameters
    ----------
    log_assignments
        (m, J, *spatial): log S.
    generator
        Or a seed.

    Returns
    -------
    Tensor
        (m, *spatial) int64.

    Examples
    --------
    >>> sure = torch.tensor([[[1e-30, 1.0], [1.0, 1e-30]]])
    >>> draw_labels(sure.log(), 0).tolist()
    [[1, 0]]
    """
    generator = generator_of(generator, log_assignments.device)
    log_s = log_assignments.detach()
    shape = (len(log_s), 1, *log_s.shape[2:])
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=log_s.device)
    # In double precision, where rounding of the sums moves no label of noticeable probability.
    below = log_s.double().exp().cumsum(dim=1)
    return (uniform * below[:, -1:] >= below[:, :-1]).sum(dim=1)


def _in_blocks(log_assignments: Tensor, labels: Tensor, block: int, own: bool) -> Tensor:
    """Log-sum-exp by rows; ``own``: without the component of the same number."""
    components = log_assignments.flatten(1)
    rows = max(block // len(components), 1)
    remake = torch.is_grad_enabled() and log_assignments.requires_grad and len(labels) > rows
    parts = []
    for start in range(0, len(labels), rows):
        piece = labels[start : start + rows]
        arguments = (components, piece, log_assignments.shape[1], start if own else None)
        if remake:
            part = checkpoint(_block_log_prob, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            part = _block_log_prob(*arguments)
        parts.append(part)
    return torch.cat(parts) if parts else components.new_zeros(0)


def _block_log_prob(components: Tensor, labels: Tensor, num_labels: int, own: int | None) -> Tensor:
    """RAF (23b) for a block of labelings; ``own``: the component that belongs to its first row."""
    numbers = torch.arange(num_labels, device=labels.device)
    one_hot = (labels.flatten(1).unsqueeze(1) == numbers[:, None]).flatten(1).to(components.dtype)
    exponents = one_hot @ components.T
    count = len(components)
    if own is not None:
        columns = torch.arange(own, own + len(labels), device=labels.device)
        mine = columns[:, None] == torch.arange(count, device=labels.device)
        exponents = exponents.masked_fill(mine, -torch.inf)
        count -= 1
    return exponents.logsumexp(dim=1) - math.log(count)


def _check(log_assignments: Tensor, labels: Tensor, block: int, name: str = "log_assignments") -> None:
    check_floating(name, log_assignments)
    if log_assignments.ndim < 2 or 0 in log_assignments.shape[:2]:
        raise ValueError(
            f"{name}: expected shape (m, J, *spatial) with m, J >= 1, got {tuple(log_assignments.shape)}"
        )
    check_finite(name, log_assignments)
    check_integers("labels", labels)
    spatial, count = log_assignments.shape[2:], log_assignments.shape[1]
    if labels.ndim == 0 or labels.shape[1:] != spatial:
        expected = ", ".join(["M", *map(str, spatial)])
        raise ValueError(f"labels: expected shape ({expected}), got {tuple(labels.shape)}")
    low, high = (int(v) for v in torch.aminmax(labels.to(torch.int64))) if labels.numel() else (0, 0)
    if low < 0 or high >= count:
        raise ValueError(f"labels: expected 0 to {count - 1}, got {low} to {high}")
    if block < 1:
        raise ValueError(f"block: expected an integer >= 1, got {block}")


def _check_pairs(log_assignments: Tensor, labels: Tensor, name: str = "log_assignments") -> None:
    m = len(log_assignments)
    if m < 2:
        raise ValueError(f"{name}: expected m >= 2 components, got {m}")
    if len(labels) != m:
        raise ValueError(f"labels: expected one labeling of each of {m} components, got {len(labels)}")
