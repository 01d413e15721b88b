"""Plain-PyTorch reference of maximum flow, for small problems: shortest paths (Edmonds, Karp 1972)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.core.neighborhood import source_slices, target_slices
from flowcut.kernels.layout import offsets_from_flat


def grid_max_flow_reference(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, offsets: list[int], proof: bool
) -> tuple[Tensor, Tensor]:
    """Plain-PyTorch ``grid_max_flow``: a grid is a graph whose ties are listed."""
    spatial = tuple(scores.shape[1:])
    table = offsets_from_flat(list(offsets), len(spatial))
    nodes = torch.arange(math.prod(spatial), device=scores.device).reshape(spatial)
    ties = torch.zeros((len(table), *spatial), dtype=torch.bool, device=scores.device)
    pairs = []
    for k, offset in enumerate(table):
        here, there = source_slices(offset, spatial), target_slices(offset, spatial)
        ties[k][here] = True
        pairs.append(torch.stack([nodes[here].flatten(), nodes[there].flatten()], dim=1))
    flow = scores.new_zeros((len(scores), len(table), *spatial))
    c, d, start = (t[:, ties] if t.shape[1] else t.flatten(1) for t in (forward, backward, begun))
    mask, flow[:, ties] = graph_max_flow_reference(scores.flatten(1), c, d, start, torch.cat(pairs), True)
    return mask.reshape(scores.shape), flow if proof else flow[:, :0].clone()


def graph_max_flow_reference(
    scores: Tensor, forward: Tensor, backward: Tensor, begun: Tensor, pairs: Tensor, proof: bool
) -> tuple[Tensor, Tensor]:
    """Plain-PyTorch ``graph_max_flow``."""
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    flow = scores.new_zeros((len(scores), len(pairs)))
    for n in range(len(scores) if scores.numel() else 0):
        c, d = forward[n % len(forward)], backward[n % len(backward)]
        start = begun[n % len(begun)] if begun.shape[1] else torch.zeros_like(c)
        mask[n], flow[n] = _one(scores[n], c, d, torch.maximum(torch.minimum(start, c), -d), pairs)
    return mask, flow if proof else flow[:, :0].clone()


def _one(
    scores: Tensor, forward: Tensor, backward: Tensor, flow: Tensor, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """One problem: arcs e and E + e are the two ways of tie e."""
    ends = torch.cat([pairs, pairs.flip(1)])
    residual = torch.cat([forward - flow, backward + flow])
    excess = scores.clone().index_add_(0, pairs[:, 0], -flow).index_add_(0, pairs[:, 1], flow)
    while True:
        via, reached = _reach(excess, residual, ends)
        sinks = (reached & (excess < 0)).nonzero()
        if not len(sinks):
            forward_left = residual[: len(pairs)]
            return reached, torch.maximum(torch.minimum(forward - forward_left, forward), -backward)
        end = int(sinks[0])
        path, node = [], end
        while (arc := int(via[node])) >= 0:
            path.append(arc)
            node = int(ends[arc, 0])
        arcs = torch.tensor(path, dtype=torch.int64, device=scores.device)
        amount = torch.minimum(torch.minimum(excess[node], -excess[end]), residual[arcs].min())
        residual[arcs] -= amount
        residual[(arcs + len(pairs)) % (2 * len(pairs))] += amount
        excess[node] -= amount
        excess[end] += amount


def _reach(excess: Tensor, residual: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """By breadth-first search from all excess: the arc by which each node was reached, and which were."""
    reached = excess > 0
    via = torch.full(excess.shape, -1, dtype=torch.int64, device=excess.device)
    while True:
        arcs = ((residual > 0) & reached[ends[:, 0]] & ~reached[ends[:, 1]]).nonzero()[:, 0]
        if not len(arcs) or bool((reached & (excess < 0)).any()):
            # The search may stop early when a path is found; without one it goes on to the end.
            return via, reached
        # Several arcs may reach a node: the largest number wins, so that the choice is always the same.
        via.scatter_reduce_(0, ends[arcs, 1], arcs, "amax")
        reached[ends[arcs, 1]] = True
