"""Where randomness comes from: a seed, or a generator that goes on."""

from __future__ import annotations

import torch


def generator_of(seed: int | torch.Generator, device: torch.device | str | None = None) -> torch.Generator:
    """The generator itself, or a new one with this seed.

    Parameters
    ----------
    seed
        An integer or a generator.
    device
        Of a new generator. Default: the CPU.

    Examples
    --------
    >>> generator_of(3).initial_seed()
    3
    """
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator(device or "cpu").manual_seed(seed)


def read_seed(seed: int | torch.Generator) -> int:
    """A seed for counters; a generator is advanced by one number.

    Raises
    ------
    ValueError
        It is no integer of 63 bits.

    Examples
    --------
    >>> read_seed(3)
    3
    """
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**63 - 1, (1,), generator=seed, device=seed.device))
    check_seed(seed)
    return seed


def check_seed(seed: int) -> None:
    """Refuse what is no integer of 63 bits.

    Raises
    ------
    ValueError
        It is none.

    Examples
    --------
    >>> check_seed(0)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to 2**63 - 1 or a torch.Generator, got {seed!r}")
