"""Plain-PyTorch reference of connected components: the smallest number spreads until nothing changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.core.neighborhood import source_slices, target_slices
from flowcut.kernels.layout import offsets_from_flat


def list_ties(spatial: tuple[int, ...], offsets: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where ties of a grid stay inside, (K, *spatial) bool, and their ends (E, 2) in that order."""
    table = offsets_from_flat(list(offsets), len(spatial))
    nodes = torch.arange(math.prod(spatial), device=device).reshape(spatial)
    inside = torch.zeros((len(table), *spatial), dtype=torch.bool, device=device)
    pairs = [torch.empty((0, 2), dtype=torch.int64, device=device)]
    for k, offset in enumerate(table):
        here, there = source_slices(offset, spatial), target_slices(offset, spatial)
        inside[k][here] = True
        pairs.append(torch.stack([nodes[here].flatten(), nodes[there].flatten()], dim=1))
    return inside, torch.cat(pairs)


def spread_smallest(names: Tensor, pairs: Tensor, joined: Tensor) -> Tensor:
    """(N, n): the smallest name in each component; ``joined`` (N, E) says which ties (E, 2) connect."""
    here, there = (pairs[:, end].expand(len(names), -1) for end in (0, 1))
    while True:
        least = torch.minimum(names.gather(1, here), names.gather(1, there))
        least = torch.where(joined, least, names.shape[1])
        found = names.scatter_reduce(1, here, least, "amin").scatter_reduce(1, there, least, "amin")
        found = torch.minimum(found, found.gather(1, found))  # as far as the smallest has come itself
        if torch.equal(found, names):
            return names
        names = found


def grid_components_reference(
    labels: Tensor, weights: Tensor, offsets: list[int], background: bool
) -> Tensor:
    """Plain-PyTorch ``grid_components``: a grid is a graph whose ties are listed."""
    inside, pairs = list_ties(tuple(labels.shape[1:]), offsets, labels.device)
    open_ties = weights[:, inside] if weights.shape[1] else weights.flatten(1)[:, :0]
    return graph_components_reference(labels.flatten(1), open_ties, pairs, background).reshape(labels.shape)


def graph_components_reference(labels: Tensor, weights: Tensor, pairs: Tensor, background: bool) -> Tensor:
    """Plain-PyTorch ``graph_components``."""
    nodes = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape).contiguous()
    if not labels.numel():
        return nodes.clone()
    joined = labels[:, pairs[:, 0]] == labels[:, pairs[:, 1]]
    if weights.shape[1]:
        joined = joined & (weights > 0)
    smallest = spread_smallest(nodes.clone(), pairs, joined)
    first = smallest == nodes
    if background:
        first = first & (labels != 0)
    number = first.cumsum(dim=1).gather(1, smallest)
    return torch.where(labels == 0, 0, number) if background else number - 1
