"""Hiding most of a target, to learn from few labelled pixels."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def reveal(target: Tensor, share: float, seed: int = 0, ignore_index: int = 255) -> Tensor:
    """Keep a random share of the labelled pixels and make all others void.

    Parameters
    ----------
    target
        (*spatial) integer, labels or ``ignore_index``.
    share
        Of the labelled pixels that stay, in (0, 1]. At least one stays where there is one.
    seed
        The same seed and shape give the same pixels, on every machine.
    ignore_index
        The value of void pixels.

    Returns
    -------
    Tensor
        (*spatial), of the type of the target; the target itself is left alone.

    Raises
    ------
    ValueError
        ``share`` is out of its range.

    Examples
    --------
    >>> few = reveal(torch.ones(100, 100, dtype=torch.int64), 0.001)
    >>> int((few != 255).sum())
    10
    """
    check_share(share)
    result = torch.full_like(target, ignore_index)
    labelled = torch.nonzero(target.flatten() != ignore_index).flatten()
    if len(labelled) == 0:
        return result
    count = max(1, round(share * len(labelled)))
    chosen = np.random.default_rng(seed).permutation(len(labelled))[:count]
    kept = labelled[torch.from_numpy(chosen).to(labelled.device)]
    result.view(-1)[kept] = target.flatten()[kept]
    return result


def check_share(share: float) -> None:
    """Refuse a share of pixels outside (0, 1].

    Raises
    ------
    ValueError
        ``share`` is out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"reveal: expected a share of the pixels in (0, 1], got {share}")


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for every name, the same in every process and on every machine.

    Examples
    --------
    >>> seed_of(0, "horse001") == seed_of(0, "horse001") != seed_of(0, "horse002")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
