"""Plain-PyTorch reference of the cluster samplers."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.gibbs_reference import draw_labels
from flowcut.kernels.random import BONDS, LABELS, SITES, uniforms_reference


def swendsen_wang_reference(
    labels: Tensor,
    unary: Tensor,
    pairs: Tensor,
    weights: Tensor,
    draws: int,
    thin: int,
    seed: int,
    sweep: int,
) -> Tensor:
    """Plain-PyTorch ``swendsen_wang_sweeps``."""
    state = labels.to(torch.int64, copy=True)
    nodes = torch.arange(state.shape[1], device=state.device)
    out = labels.new_empty((draws, *labels.shape))
    for s in range(draws * thin):
        root = _roots(state, pairs, weights, seed, sweep + s)
        costs = unary.new_zeros((*state.shape, unary.shape[2]))
        costs.scatter_add_(1, root.unsqueeze(2).expand(costs.shape), unary.expand(costs.shape))
        chosen = draw_labels(costs, uniforms_reference(nodes, seed, LABELS, len(state), sweep + s))
        state = chosen.gather(1, root)
        if (s + 1) % thin == 0:
            out[s // thin] = state.to(labels.dtype)
    return out


def wolff_reference(
    labels: Tensor,
    unary: Tensor,
    pairs: Tensor,
    weights: Tensor,
    draws: int,
    thin: int,
    seed: int,
    sweep: int,
) -> Tensor:
    """Plain-PyTorch ``wolff_steps``."""
    state = labels.to(torch.int64, copy=True)
    (chains, count), choices = state.shape, unary.shape[2]
    out = labels.new_empty((draws, *labels.shape))
    three = torch.arange(3, device=state.device)
    for s in range(draws * thin if count else 0):
        root = _roots(state, pairs, weights, seed, sweep + s)
        u = uniforms_reference(three, seed, SITES, chains, sweep + s)
        site = (u[:, :1] * count).long()
        inside = root == root.gather(1, site)
        old = state.gather(1, site)
        new = (u[:, 1:2] * (choices - 1)).long()
        new = new + (new >= old)
        costs = (unary.expand(chains, -1, -1) * inside.unsqueeze(2)).sum(dim=1)
        change = costs.gather(1, new) - costs.gather(1, old)
        state = torch.where(inside & (u[:, 2:] < (-change).exp()), new, state)
        if (s + 1) % thin == 0:
            out[s // thin] = state.to(labels.dtype)
    return out


def _roots(state: Tensor, pairs: Tensor, weights: Tensor, seed: int, sweep: int) -> Tensor:
    """(M, n): the smallest node of each node's cluster, after bonds have been drawn."""
    chains, count = state.shape
    ties = torch.arange(len(pairs), device=state.device)
    u = uniforms_reference(ties, seed, BONDS, chains, sweep)
    first, second = pairs[:, 0].expand(chains, -1), pairs[:, 1].expand(chains, -1)
    bond = (state.gather(1, first) == state.gather(1, second)) & (u < -torch.expm1(-weights))
    root = torch.arange(count, device=state.device).repeat(chains, 1)
    while True:  # every node takes the least number that it sees, until nothing changes
        ends = torch.minimum(root.gather(1, first), root.gather(1, second))
        ends = torch.where(bond, ends, count)
        least = root.scatter_reduce(1, first, ends, "amin").scatter_reduce(1, second, ends, "amin")
        least = least.gather(1, least)
        if torch.equal(least, root):
            return root
        root = least
