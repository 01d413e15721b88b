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

    Several devices share the order: each step takes `devices` x `batch_size` items of it and deals them
    out. Where the last step has fewer items than devices, some get one that another has too.

    Parameters
    ----------
    length : int
        Number of items.
    seed : int
        Seed, >= 0.
    draws : bool
        Give pairs of a number of the epoch and an item, as
        :class:`flowcut.vision.data.DrawnDataset` asks for, in place of items.
    batch_size : int
        Items of a device in a step, >= 1.
    rank, devices : int
        Which of how many devices asks.

    Examples
    --------
    >>> order = EpochOrder(4, seed=0)
    >>> order.set_epoch(3)
    >>> first = list(order)
    >>> first == list(order), sorted(first)
    (True, [0, 1, 2, 3])
    """

    def __init__(
        self,
        length: int,
        seed: int,
        draws: bool = False,
        batch_size: int = 1,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self._length = length
        self._seed = seed
        self._draws = draws
        self._batch_size = batch_size
        self._rank = rank
        self._devices = devices
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
        return sum(self._dealt(step)[0] for step in range(self._steps))

    def __iter__(self) -> Iterator[Any]:
        draw = _mix(self._seed, self._epoch)
        order = torch.randperm(self._length, generator=torch.Generator().manual_seed(draw)).tolist()
        mine = []
        for step in range(self._steps):
            together = order[step * self._together : (step + 1) * self._together]
            mine += together[self._rank :: self._devices] or together[:1]
        return iter([(draw, item) for item in mine] if self._draws else mine)

    def weight(self, batch: int, accumulate: int = 1) -> float:
        """The factor of the loss of a batch that makes a step follow the mean over all its items.

        Devices and accumulated batches are averaged as if all held equally many items, which the last ones
        of an epoch need not. With c items in this batch and M in the step, over all R devices and k
        batches, the factor is c R k / M: then sum over them of c R k / M * loss / (R k) = sum c loss / M.

        Parameters
        ----------
        batch : int
            Number of the batch on this device, from 0.
        accumulate : int
            Batches of a step on each device.

        Returns
        -------
        float
            1 where all are equal.

        Examples
        --------
        Five items in batches of two: the second step has one batch, and is divided by two all the same.

        >>> order = EpochOrder(5, seed=0, batch_size=2)
        >>> [order.weight(batch, accumulate=2) for batch in range(3)]
        [1.0, 1.0, 2.0]
        """
        first = batch - batch % accumulate
        last = min(first + accumulate, self._steps)
        total = sum(self._dealt(step)[1] for step in range(first, last))
        return self._dealt(batch)[0] * self._devices * accumulate / total

    @property
    def _together(self) -> int:
        return self._batch_size * self._devices

    @property
    def _steps(self) -> int:
        return -(-self._length // self._together)

    def _dealt(self, step: int) -> tuple[int, int]:
        """Items of a step on this device and on all."""
        items = min(self._together, self._length - step * self._together)
        mine = len(range(self._rank, items, self._devices))
        return max(mine, 1), max(items, self._devices)


class EpochSeed(Callback):
    """Seed the global generators of each device at the start of each epoch, for networks that draw (dropout).

    Parameters
    ----------
    seed : int
        Seed, >= 0.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed by the epoch that starts."""
        # Devices hold different pictures, and shall not drop the same features from them.
        L.seed_everything(_mix(self._seed, trainer.current_epoch) + trainer.global_rank, verbose=False)
