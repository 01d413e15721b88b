"""Normal noise by counting: the same numbers for the same seed on every device and any number of threads."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.seeds import read_seed
from flowcut.kernels.random import counter_uniforms

# Streams of counter_uniforms that no sampler uses.
SCORES, EDGES = 16, 17


class Noise(NamedTuple):
    """Where the noise of each item of one call comes from.

    Attributes
    ----------
    seeds
        One seed that all items count from, or one for each.
    items
        N.
    call
        Another number, other noise.
    """

    seeds: tuple[int, ...]
    items: int
    call: int

    def normals(self, purpose: int, draws: int, shape: tuple[int, ...]) -> Tensor:
        """(N, draws, *shape) float64 on the CPU: independent standard normal numbers.

        They are the inverse of the normal distribution function at uniform numbers in (0, 1).

        Parameters
        ----------
        purpose
            The stream: :data:`SCORES` or :data:`EDGES`.
        draws, shape
            How many of which shape.
        """
        numbers, chains = torch.arange(math.prod(shape)), self.items * draws // max(len(self.seeds), 1)
        found = [counter_uniforms(numbers, seed, purpose, chains, self.call) for seed in self.seeds]
        uniform = torch.cat(found) if found else torch.zeros(0, len(numbers), dtype=torch.float64)
        # Uniform numbers are multiples of 2^-53 and may be zero.
        return torch.special.ndtri(uniform.clamp(min=2.0**-54)).reshape(self.items, draws, *shape)


def noise_of(seed: int | torch.Generator, items: int, call: int = 0) -> Noise:
    """The noise of one call.

    Parameters
    ----------
    seed
        An integer: item n of every call gets the same noise. A generator: it is advanced by one number for
        each item, so that a batch gets the noise that its items would get one after the other.
    items
        Number of items.
    call
        Another number, other noise.

    Raises
    ------
    ValueError
        The seed is no integer of 63 bits.

    Examples
    --------
    >>> a, b = (noise_of(3, 2).normals(SCORES, 4, (5,)) for _ in range(2))
    >>> a.shape, torch.equal(a, b)
    (torch.Size([2, 4, 5]), True)
    """
    if isinstance(seed, torch.Generator):
        return Noise(tuple(read_seed(seed) for _ in range(items)), items, call)
    return Noise((read_seed(seed),), items, call)
