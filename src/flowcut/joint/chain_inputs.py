"""What the samplers of chains are given, read and checked once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.joint.energy import PottsEnergy
from flowcut.kernels.random import START, counter_uniforms


def start_labels(energy: PottsEnergy, chains: int, initial: Tensor | None, seed: int) -> Tensor:
    """(M, n) int8 or int16: the given labelings, or labels drawn independently and uniformly.

    Raises
    ------
    TypeError, ValueError
        ``chains`` or ``initial`` do not fit.
    """
    check_count("chains", chains, 1)
    if energy.items == 0:
        raise ValueError("energy: expected at least one, got an empty batch")
    if energy.items != 1:
        if chains not in (1, energy.items):
            raise ValueError(f"chains: expected 1 for each of {energy.items} energies, got {chains}")
        chains = energy.items
    count = math.prod(energy.spatial)
    dtype = torch.int8 if energy.num_labels <= 128 else torch.int16
    if initial is None:
        numbers = torch.arange(count, device=energy.device)
        drawn = counter_uniforms(numbers, seed, START, chains, 0) * energy.num_labels
        return drawn.to(dtype)
    if not isinstance(initial, Tensor) or initial.dtype.is_floating_point:
        got = initial.dtype if isinstance(initial, Tensor) else type(initial).__name__
        raise TypeError(f"initial: expected an integer tensor, got {got}")
    if tuple(initial.shape[1:]) != energy.spatial or initial.ndim < 1 or len(initial) not in (1, chains):
        raise ValueError(
            f"initial: expected shape ({chains}, {', '.join(map(str, energy.spatial))}), "
            f"got {tuple(initial.shape)}"
        )
    if initial.numel():
        low, high = (int(v) for v in torch.aminmax(initial))
        if low < 0 or high >= energy.num_labels:
            raise ValueError(f"initial: expected labels 0 to {energy.num_labels - 1}, got {low} to {high}")
    return initial.to(energy.device, dtype).flatten(1).expand(chains, -1)


def check_count(name: str, value: int, least: int) -> None:
    """Refuse what is no integer >= least.

    Raises
    ------
    ValueError
        It is not.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")
