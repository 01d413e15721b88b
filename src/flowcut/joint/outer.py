"""Sums over all labelings of a few nodes at once, axis by axis.

A vector over the J^k labelings of k nodes, in counting order with the last node fastest, is a tensor with k
axes. A function that is a sum over the nodes is an outer sum, and marginals are sums over axes. Both are done
by halving the nodes: one pass over the long vector, and the rest on vectors of the square root of its length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def outer_sum(costs: Tensor) -> Tensor:
    """f[r, alpha] = sum_i costs[r, i, alpha_i].

    Parameters
    ----------
    costs
        (R, k, J).

    Returns
    -------
    Tensor
        (R, J^k).

    Examples
    --------
    >>> outer_sum(torch.tensor([[[0.0, 10.0], [1.0, 2.0]]]))
    tensor([[ 1.,  2., 11., 12.]])
    """
    count = costs.shape[1]
    if count == 0:
        return costs.new_zeros(len(costs), 1)
    if count == 1:
        return costs[:, 0]
    left, right = outer_sum(costs[:, : count // 2]), outer_sum(costs[:, count // 2 :])
    return (left[:, :, None] + right[:, None, :]).flatten(1)


def node_sums(values: Tensor, nodes: int, labels: int) -> Tensor:
    """The adjoint of :func:`outer_sum`: the sum over all labelings in which node i has label j.

    Parameters
    ----------
    values
        (R, J^k).
    nodes, labels
        k and J.

    Returns
    -------
    Tensor
        (R, k, J).

    Examples
    --------
    >>> node_sums(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), nodes=2, labels=2).tolist()
    [[[3.0, 7.0], [4.0, 6.0]]]
    """
    if nodes == 0:
        return values.new_zeros(len(values), 0, labels)
    if nodes == 1:
        return values[:, None]
    left = nodes // 2
    table = values.reshape(len(values), labels**left, labels ** (nodes - left))
    return torch.cat(
        [node_sums(table.sum(dim=2), left, labels), node_sums(table.sum(dim=1), nodes - left, labels)], dim=1
    )


def pair_sums(values: Tensor, nodes: int, labels: int, first: int, second: int) -> Tensor:
    """The sum over all labelings with label a at one node and b at another.

    Parameters
    ----------
    values
        (J^k,).
    nodes, labels
        k and J.
    first, second
        Two different nodes.

    Returns
    -------
    Tensor
        (J, J): entry [a, b].

    Examples
    --------
    >>> pair_sums(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2, 2, first=1, second=0)
    tensor([[1., 3.],
            [2., 4.]])
    """
    low, high = min(first, second), max(first, second)
    axes = (labels**low, labels, labels ** (high - low - 1), labels, labels ** (nodes - high - 1))
    table = values.reshape(axes).sum(dim=(0, 2, 4))
    return table if first < second else table.mT


def labelings(numbers: Tensor, nodes: int, labels: int) -> Tensor:
    """The labelings with these numbers in counting order, the last node fastest.

    Parameters
    ----------
    numbers
        (S,) int64, 0 to J^k - 1.

    Returns
    -------
    Tensor
        (S, k) int64.

    Examples
    --------
    >>> labelings(torch.tensor([2, 3]), nodes=3, labels=2).tolist()
    [[0, 1, 0], [0, 1, 1]]
    """
    powers = [labels ** (nodes - 1 - i) for i in range(nodes)]
    return numbers[:, None] // torch.tensor(powers, dtype=torch.int64, device=numbers.device) % labels
