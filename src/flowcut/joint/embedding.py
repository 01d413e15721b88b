r"""Laws of whole labelings as points of one large simplex, and assignment flows there (RAF (4)-(15)).

n pixels with J labels have N = J^n labelings alpha. Vectors over them are written down here entry by entry,
so for small problems only: to check what the rest of the library computes without them. Labelings stand in
counting order: row-major over the pixels, the last one fastest.

The flow (5). Let dS/dt = R_S(Omega S) and p = T(S). As log p_alpha = sum_i log S_i,alpha_i,

    (dp/dt) / p = Q((dS/dt) / S) = Q(Omega S) - sum_i <S_i, (Omega S)_i>,

and the sum is <p, Q(Omega S)>, because the pixels of p have the marginals S_i. So dp/dt = R_p Q Omega S, for
any linear Omega. Moreover S = Q^T p: the adjoint of Q sums p over all labelings that have label j at pixel i,
which gives back the marginals of a product. Hence

    dp/dt = R_p[Q Omega Q^T p].

(5) is printed with Q^+ in place of Q^T. The pseudo-inverse of the linear map Q is another map:
Q^T Q V = J^(n-1) V + J^(n-2) sum_{k != i} <1, V_k> 1, so that on p in img T it gives
Q^+ p = J^(1-n) (S - (1 - 1/n) / J). For Omega x I_J, which does not mix labels, the constant is invisible to
R_p Q, and what remains is the same flow, slower by J^(n-1). With label interaction it is a different one.
Q^+ has to be read as the inverse of T on its image, which is Q^T.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.flow.simplex import entropy, replicator
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import FlatEnergy, flatten_energy

# Vectors over more labelings are refused.
MOST_LABELINGS = 1 << 16


def all_labelings(shape: tuple[int, ...]) -> Tensor:
    """Every labeling, in the order of all vectors here.

    Parameters
    ----------
    shape
        (J, *spatial).

    Returns
    -------
    Tensor
        (N, *spatial) int64, N = J^n.

    Raises
    ------
    ValueError
        There are more than 2^16.

    Examples
    --------
    >>> all_labelings((2, 2)).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    count, pixels = _count(shape), math.prod(shape[1:])
    powers = shape[0] ** torch.arange(pixels - 1, -1, -1)
    digits = torch.arange(count).unsqueeze(1) // powers % shape[0]
    return digits.reshape(count, *shape[1:])


def embed(assignments: Tensor) -> Tensor:
    """T(S)_alpha = prod_i S_i,alpha_i (RAF (4a)): the law under which pixels draw independently.

    Parameters
    ----------
    assignments
        (M, J, *spatial), on the simplex.

    Returns
    -------
    Tensor
        (M, N).

    Raises
    ------
    TypeError, ValueError
        They are no assignments, or there are more than 2^16 labelings.

    Examples
    --------
    >>> embed(torch.tensor([[[0.5, 0.25], [0.5, 0.75]]])).tolist()
    [[0.125, 0.375, 0.125, 0.375]]
    """
    law = assignments.new_ones(len(_rows("assignments", assignments)), 1)
    for row in assignments.flatten(2).unbind(dim=2):
        law = (law.unsqueeze(2) * row.unsqueeze(1)).flatten(1)
    return law


def embed_tangent(vectors: Tensor) -> Tensor:
    """Q(V)_alpha = sum_i V_i,alpha_i (RAF (4b)), also where V does not sum to zero.

    Parameters
    ----------
    vectors
        (M, J, *spatial).

    Returns
    -------
    Tensor
        (M, N).

    Raises
    ------
    TypeError, ValueError
        As for :func:`embed`.

    Examples
    --------
    >>> embed_tangent(torch.tensor([[[1.0, 10.0], [2.0, 20.0]]])).tolist()
    [[11.0, 21.0, 12.0, 22.0]]
    """
    total = vectors.new_zeros(len(_rows("vectors", vectors)), 1)
    for row in vectors.flatten(2).unbind(dim=2):
        total = (total.unsqueeze(2) + row.unsqueeze(1)).flatten(1)
    return total


def marginalize(law: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Q^T p: the sum of p over all labelings with label j at pixel i (RAF, below (4)).

    The adjoint of :func:`embed_tangent`, and the inverse of :func:`embed` on its image.

    Parameters
    ----------
    law
        (M, N): laws, or any vectors over labelings.
    shape
        (J, *spatial).

    Returns
    -------
    Tensor
        (M, J, *spatial).

    Raises
    ------
    TypeError, ValueError
        ``law`` has another length, or there are more than 2^16 labelings.

    Examples
    --------
    >>> marginalize(torch.tensor([[0.5, 0.0, 0.0, 0.5]]), (2, 2)).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """
    _check_law(law, shape)
    labels, pixels = shape[0], math.prod(shape[1:])
    # (M, labels before pixel i, label of pixel i, labels after it)
    sums = [
        law.reshape(len(law), labels**i, labels, labels ** (pixels - 1 - i)).sum(dim=(1, 3))
        for i in range(pixels)
    ]
    return torch.stack(sums, dim=2).reshape(len(law), *shape) if sums else law.new_zeros(len(law), *shape)


def embedded_field(law: Tensor, couplings: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """R_p[Q Omega Q^T p], the right-hand side of (RAF (5)) with Q^+ read as Q^T (see above).

    Parameters
    ----------
    law
        (M, N), on the simplex.
    couplings
        Omega as a function on (M, J, *spatial), for example ``DenseCouplings(matrix).apply``.
    shape
        (J, *spatial).

    Returns
    -------
    Tensor
        (M, N): dp/dt, which sums to zero.

    Raises
    ------
    TypeError, ValueError
        As for :func:`marginalize`.

    Examples
    --------
    >>> from flowcut.flow.couplings import DenseCouplings
    >>> p = embed(torch.tensor([[[0.75, 0.5], [0.25, 0.5]]]))
    >>> embedded_field(p, DenseCouplings(torch.ones(1, 2, 2)).apply, (2, 2)).tolist()
    [[0.140625, -0.046875, -0.015625, -0.078125]]
    """
    return replicator(law, embed_tangent(couplings(marginalize(law, shape))))


def energy_vector(energy: PottsEnergy) -> Tensor:
    """E = Q theta_u + diag(Q theta_p Q^T) (RAF (13)): the energies of all labelings.

    Parameters
    ----------
    energy
        One energy.

    Returns
    -------
    Tensor
        (N,) float64, in the order of :func:`all_labelings`.

    Raises
    ------
    TypeError, ValueError
        It is no energy, or several, or there are more than 2^16 labelings.

    Examples
    --------
    >>> energy = PottsEnergy(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[2.0, 0.0]]]))
    >>> energy_vector(energy).tolist()
    [1.0, 3.0, 2.0, 0.0]
    """
    if not isinstance(energy, PottsEnergy):
        raise TypeError(f"energy: expected a PottsEnergy, got {type(energy).__name__}")
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; take energy[i]")
    labelings = all_labelings(energy.shape).to(energy.device)
    flat = flatten_energy(energy)
    # Row alpha of Q as a matrix is Q^T e_alpha, the one-hot labeling.
    q = torch.nn.functional.one_hot(labelings.flatten(1), energy.num_labels).flatten(1).to(flat.unary)
    return flat.constant + q @ flat.unary.flatten() + ((q @ _pair_matrix(flat).mT) * q).sum(dim=1)


def dual_value(law: Tensor, energies: Tensor) -> Tensor:
    r"""-<E, P> - KL(P || uniform), what (RAF (15)) takes the supremum of.

    It is log <1/N, exp(-E)> - KL(P || P\*), so the supremum is attained at the Gibbs law
    P\* = softmax(-E) and nowhere else.

    Parameters
    ----------
    law
        (M, N), on the simplex.
    energies
        (N,): E.

    Returns
    -------
    Tensor
        (M,).

    Examples
    --------
    >>> energies = torch.tensor([0.0, 1.0])
    >>> best = (-energies).softmax(dim=0)
    >>> dual_value(torch.stack([best, best.flip(0)]), energies)
    tensor([-0.3799, -0.8420])
    """
    # KL(P || uniform) = log N - H(P)
    return entropy(law) - law @ energies - math.log(law.shape[1])


def _pair_matrix(flat: FlatEnergy) -> Tensor:
    """theta_p of (RAF (12)), (n J, n J): row (j, b), column (i, a) for labels a, b of a tie's ends i, j."""
    pixels, labels = flat.unary.shape[1:]
    blocks = flat.unary.new_zeros(pixels, pixels, labels, labels)
    first, second = flat.pairs.T
    # (11) has theta_ij[alpha_j, alpha_i]; tables have the first end's label first.
    blocks = blocks.index_put((second, first), flat.full_tables()[0].mT, accumulate=True)
    return blocks.transpose(1, 2).reshape(pixels * labels, pixels * labels)


def _count(shape: tuple[int, ...]) -> int:
    labels, pixels = shape[0], math.prod(shape[1:])
    # The logarithm first: the number itself can have millions of digits.
    if labels > 1 and pixels * math.log2(labels) > math.log2(MOST_LABELINGS) + 1e-9:
        raise ValueError(
            f"shape: expected at most {MOST_LABELINGS} labelings, got {labels}^{pixels}; "
            f"take fewer pixels, or mean_field_energy and exact_law, which need no vectors over labelings"
        )
    return int(labels**pixels)


def _rows(name: str, value: Tensor) -> Tensor:
    check_floating(name, value)
    if value.ndim < 3 or value.shape[1] < 1:
        raise ValueError(f"{name}: expected shape (M, J, *spatial), got {tuple(value.shape)}")
    _count(tuple(value.shape[1:]))
    return value


def _check_law(law: Tensor, shape: tuple[int, ...]) -> None:
    check_floating("law", law)
    count = _count(shape)
    if law.ndim != 2 or law.shape[1] != count:
        raise ValueError(f"law: expected shape (M, {count}), got {tuple(law.shape)}")
