"""An energy as lists of nodes and ties: what enumeration, elimination and the samplers' kernels take."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph
from flowcut.joint.energy import PottsEnergy


class FlatEnergy(NamedTuple):
    """N energies over n nodes in row-major order, in double precision.

    Attributes
    ----------
    unary
        (N, n, J).
    pairs
        (E, 2) int64: the two ends of every tie inside the picture.
    weights
        (N or 1, E).
    tables
        None: cost 1 where the labels differ. Else (1, 1, J, J) or (N or 1, E, J, J), times the weights.
    constant
        (N or 1,).
    """

    unary: Tensor
    pairs: Tensor
    weights: Tensor
    tables: Tensor | None
    constant: Tensor

    def full_tables(self) -> Tensor:
        """(N or 1, E, J, J): what every pair of labels costs, weights included."""
        weights, labels = self.weights[..., None, None], self.unary.shape[2]
        if self.tables is None:
            return weights * (1 - torch.eye(labels, dtype=weights.dtype, device=weights.device))
        return weights * self.tables


def flatten_energy(energy: PottsEnergy) -> FlatEnergy:
    """Nodes and ties of an energy, differentiable in its costs.

    Examples
    --------
    >>> flat = flatten_energy(PottsEnergy(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)))
    >>> flat.pairs.tolist()
    [[0, 2], [1, 3], [0, 1], [2, 3]]
    """
    numbers = torch.arange(math.prod(energy.spatial), device=energy.device).reshape(energy.spatial)
    shared = energy.pairwise is not None and energy.pairwise.ndim == 2
    pairs, weights, tables = [], [], []
    for tie in energy.ties():
        pairs.append(torch.stack([numbers[tie.here].flatten(), numbers[tie.there].flatten()], dim=1))
        weights.append(energy.tie_weights(tie).flatten(1))
        if not shared and energy.pairwise is not None:
            table = energy.tie_table(tie)
            assert table is not None
            tables.append(table.flatten(3).permute(0, 3, 1, 2))
    double = torch.float64
    whole = energy.pairwise[None, None].to(double) if shared and energy.pairwise is not None else None
    assert isinstance(energy.constant, Tensor)
    return FlatEnergy(
        energy.unary.flatten(2).mT.to(double),
        torch.cat(pairs),
        torch.cat(weights, dim=1).to(double),
        torch.cat(tables, dim=1).to(double) if tables else whole,
        energy.constant.to(double),
    )


def unflatten_pairs(energy: PottsEnergy, pairs: Tensor) -> Tensor:
    """Tables (E, J, J) in the order of a flat energy, laid out like ``pairwise`` of one energy.

    Returns
    -------
    Tensor
        (K, J, J, *spatial), zero where a tie leaves the picture; on a graph (J, J, E).
    """
    values, labels = pairs.permute(1, 2, 0), energy.num_labels
    if isinstance(energy.neighborhood, Graph):
        return values.contiguous()
    assert energy.neighborhood is not None  # found when the energy was made
    out = pairs.new_zeros(1, len(energy.neighborhood), labels, labels, *energy.spatial)
    start = 0
    for tie in energy.ties():
        place = out[tie.own]
        stop = start + place[0, 0, 0].numel()
        place.copy_(values[..., start:stop].reshape(place.shape))
        start = stop
    return out[0]
