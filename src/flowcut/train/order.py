"""Randomness that is a function of seed and epoch, so that a resumed training equals an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import Sampler

__all__ = ["EpochOrder", "EpochSeed"]

# Seeds of two epochs of one run must differ, and so must those of neighbouring seeds' epochs.
_STRIDE = 1_000_003


def _mix(seed: int, epoch: int) -> int:
    return (seed * _STRIDE + epoch) % 2**32


class EpochOrder(Sampler[Any]):
    """Every item once, in an order that depends on seed and epoch alone.

    PyTorch's own shuffling draws from the global generator, whose state a checkpoint does not hold.
    Lightning calls :meth:`set_epoch` before each epoch, after resuming too.

    Parameters
    ----------
    length : int
        Number of items.
    seed : int
        Seed, >= 0.
    draws : bool
        Give pairs of a number of the epoch and an item, as
        :class:`flowcut.vision.data.RandomCrops` asks for, in place of items.

    Examples
    --------
    >>> order = EpochOrder(4, seed=0)
    >>> order.set_epoch(3)
    >>> first = list(order)
    >>> first == list(order), sorted(first)
    (True, [0, 1, 2, 3])
    """

    def __init__(self, length: int, seed: int, draws: bool = False) -> None:
        self._length = length
        self._seed = seed
        self._draws = draws
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass.

        Parameters
        ----------
        epoch : int
            Epoch, >= 0.
        """
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        draw = _mix(self._seed, self._epoch)
        order = torch.randperm(self._length, generator=torch.Generator().manual_seed(draw)).tolist()
        return iter([(draw, item) for item in order] if self._draws else order)


class EpochSeed(Callback):
    """Seed the global generators at the start of each epoch, for networks that draw (dropout).

    Parameters
    ----------
    seed : int
        Seed, >= 0.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed by the epoch that starts."""
        L.seed_everything(_mix(self._seed, trainer.current_epoch), verbose=False)
