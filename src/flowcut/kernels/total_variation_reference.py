"""Plain-PyTorch reference of total variation, for small problems.

The same divide and conquer as :mod:`flowcut.kernels.total_variation_divide`, with a dense little maximum flow
for every piece: exact, and slow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.components_reference import list_ties, spread_smallest
from flowcut.kernels.max_flow_reference import graph_max_flow_reference

_TOLERANCE = 1e-12
Found = tuple[Tensor, Tensor, Tensor]


def grid_total_variation_reference(scores: Tensor, weights: Tensor, offsets: list[int], proof: bool) -> Found:
    """Plain-PyTorch ``grid_total_variation``: a grid is a graph whose ties are listed."""
    inside, pairs = list_ties(tuple(scores.shape[2:]), offsets, scores.device)
    flow = scores.new_zeros((*scores.shape[:2], *inside.shape))
    found = graph_total_variation_reference(scores.flatten(2), weights[:, :, inside], pairs, True)
    flow[:, :, inside] = found[1]
    z, blocks = (found[i].reshape(scores.shape) for i in (0, 2))
    return z, flow if proof else flow[:, :, :0].clone(), blocks


def graph_total_variation_reference(scores: Tensor, weights: Tensor, pairs: Tensor, proof: bool) -> Found:
    """Plain-PyTorch ``graph_total_variation``."""
    z, blocks = torch.zeros_like(scores), torch.zeros(scores.shape, dtype=torch.int64, device=scores.device)
    flow = scores.new_zeros((*scores.shape[:2], len(pairs)))
    for n in range(scores.shape[0] if scores.numel() else 0):
        for c in range(scores.shape[1]):
            ties = weights[n % len(weights), c % weights.shape[1]]
            z[n, c], flow[n, c], blocks[n, c] = _one(scores[n, c], ties, pairs)
    return z, flow if proof else flow[:, :, :0].clone(), blocks


def _one(x: Tensor, weights: Tensor, pairs: Tensor) -> Found:
    """One picture; ``full`` is +1 or -1 where a tie has been closed with its weight flowing on or back."""
    middle = (x.max() + x.min()) / 2
    scale = (x.max() - x.min()) / 2
    # No tie needs to carry more than all pixels together have to spare.
    most = torch.clamp(weights, max=max(len(x) * float(scale), 1.0))
    flow, full, is_open = torch.zeros_like(weights), torch.zeros_like(weights), weights > 0
    excess = x - middle
    waiting = _pieces(torch.arange(len(x), device=x.device), pairs, is_open)
    while waiting:
        nodes = waiting.pop()
        excess[nodes] -= excess[nodes].mean()
        side = _route(nodes, excess, flow, most, is_open, pairs, _TOLERANCE * float(scale))
        here, there = side[pairs[:, 0]], side[pairs[:, 1]]
        closing = is_open & (here != there)  # ties out of the piece are closed already
        full[closing] = (here - there).sign()[closing].to(full.dtype)
        is_open = is_open & ~closing
        for part in _pieces(nodes, pairs, is_open) if bool(closing.any()) else []:
            if len(part) > 1 and int(side[part[0]]) != 0:
                waiting.append(part)
    flow = torch.where(full != 0, full * weights, flow.clamp(-weights, weights))
    names = spread_smallest(torch.arange(len(x), device=x.device)[None], pairs, is_open[None])[0]
    _, blocks = torch.unique(names, return_inverse=True)
    moved = (x - middle).index_add(0, pairs[:, 0], -full * weights).index_add(0, pairs[:, 1], full * weights)
    sums = torch.zeros_like(x).index_add_(0, blocks, moved)
    counts = torch.zeros_like(x).index_add_(0, blocks, torch.ones_like(x))
    return middle + (sums / counts)[blocks], flow, blocks


def _pieces(nodes: Tensor, pairs: Tensor, is_open: Tensor) -> list[Tensor]:
    """The connected pieces of some nodes that no open tie leaves."""
    count = int(torch.cat([nodes, pairs.flatten()]).max()) + 1
    names = spread_smallest(torch.arange(count, device=nodes.device)[None], pairs, is_open[None])[0][nodes]
    return [nodes[names == name] for name in torch.unique(names)]


def _route(
    nodes: Tensor,
    excess: Tensor,
    flow: Tensor,
    most: Tensor,
    is_open: Tensor,
    pairs: Tensor,
    tolerance: float,
) -> Tensor:
    """Send excess inside a piece; 1 for S, -1 for T, 0 for M and for all nodes of other pieces."""
    inside = torch.zeros(excess.shape, dtype=torch.bool, device=excess.device)
    inside[nodes] = True
    ties = (is_open & inside[pairs[:, 0]]).nonzero()[:, 0]
    place = torch.zeros(excess.shape, dtype=torch.int64, device=excess.device)
    place[nodes] = torch.arange(len(nodes), device=excess.device)
    ends = place[pairs[ties]]
    forward, backward = most[ties] - flow[ties], most[ties] + flow[ties]
    none = forward.new_zeros((1, 0))
    more = graph_max_flow_reference(excess[nodes][None], forward[None], backward[None], none, ends, True)[1][
        0
    ]
    flow[ties] += more
    excess.index_add_(0, pairs[ties, 0], -more).index_add_(0, pairs[ties, 1], more)
    forward, backward = forward - more, backward + more
    left = excess[nodes]
    # A full tie has been computed as a difference here: what it can take is rounding, not exactly 0.
    on, back = forward > tolerance, backward > tolerance
    high, low = _spread(left > tolerance, ends, on, back), _spread(left < -tolerance, ends, back, on)
    side = torch.zeros(excess.shape, dtype=torch.int64, device=excess.device)
    if not (bool(high.all()) or bool(low.all())):
        side[nodes] = high.long() - low.long()
    return side


def _spread(seeds: Tensor, ends: Tensor, on: Tensor, back: Tensor) -> Tensor:
    """What can be reached over ties that are open on their way or back."""
    reached = seeds
    while True:
        found = reached.clone()
        found[ends[on & reached[ends[:, 0]], 1]] = True
        found[ends[back & reached[ends[:, 1]], 0]] = True
        if torch.equal(found, reached):
            return reached
        reached = found
