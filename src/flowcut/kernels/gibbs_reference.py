"""Plain-PyTorch reference of Gibbs sampling: all chains and all nodes of a colour at once."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.gibbs_layout import Adjacency, adjacency
from flowcut.kernels.random import LABELS, uniforms_reference


def gibbs_reference(
    labels: Tensor, unary: Tensor, pairs: Tensor, weights: Tensor, tables: Tensor, colours: Tensor,
    temperatures: Tensor, thin: int, seed: int, sweep: int,
) -> Tensor:  # fmt: skip
    """Plain-PyTorch ``gibbs_sweeps``."""
    state = labels.to(torch.int64, copy=True)
    ties = adjacency(pairs, unary.shape[1])
    count = int(colours.max()) + 1 if len(colours) else 0
    groups = [
        ((colours == c).nonzero()[:, 0], (colours[ties.nodes] == c).nonzero()[:, 0]) for c in range(count)
    ]
    out = labels.new_empty((len(temperatures) // thin, *labels.shape))
    for s, temperature in enumerate(temperatures):
        for nodes, entries in groups:
            costs = conditional_costs(state, unary, weights, tables, ties, nodes, entries) / temperature
            draws = uniforms_reference(nodes, seed, LABELS, len(state), sweep + s)
            state[:, nodes] = draw_labels(costs, draws)
        if (s + 1) % thin == 0:
            out[s // thin] = state.to(labels.dtype)
    return out


def conditional_costs(
    state: Tensor, unary: Tensor, weights: Tensor, tables: Tensor, ties: Adjacency, nodes: Tensor,
    entries: Tensor,
) -> Tensor:  # fmt: skip
    """(M, nodes, J): what each label of some nodes costs, given the labels of their neighbours.

    ``entries`` are the places of these nodes' ties in the lists of ``ties``.
    """
    other, tie, chains = state[:, ties.neighbours[entries]], ties.ties[entries], len(state)
    labels = torch.arange(unary.shape[2], device=unary.device)
    if tables.shape[-1] == 0:
        price = (other.unsqueeze(-1) != labels).to(unary.dtype)
    else:
        both = (tables, tables.mT)  # this label first: the table as it is, or its transpose
        price = torch.stack([_rows(table, tie, other) for table in both])
        price = torch.where(ties.backward[entries, None], price[1], price[0])
    price = price * weights[:, tie, None]
    costs = unary[:, nodes].expand(chains, -1, -1).clone()
    where = torch.zeros(unary.shape[1], dtype=torch.int64, device=unary.device)
    where[nodes] = torch.arange(len(nodes), device=unary.device)
    return costs.index_add_(1, where[ties.nodes[entries]], price)


def _rows(tables: Tensor, tie: Tensor, other: Tensor) -> Tensor:
    """(M, entries, J): column ``other`` of each tie's table; tables (N or 1, E or 1, J, J)."""
    items = torch.arange(len(other), device=other.device)[:, None] % len(tables)
    return tables.mT[items, tie % tables.shape[1] if tables.shape[1] else tie, other]


def draw_labels(costs: Tensor, draws: Tensor) -> Tensor:
    """The label where the running sum of softmax(-costs) passes a uniform number; costs (..., J)."""
    sums = (costs.amin(dim=-1, keepdim=True) - costs).exp().cumsum(dim=-1)
    return (sums[..., :-1] <= draws.unsqueeze(-1) * sums[..., -1:]).sum(dim=-1)
