"""Who runs a kernel: a pool for batches, fresh threads that meet at a barrier for one image.

OpenMP and Numba's own layers do not survive a fork or several callers at once, so the
kernels are serial loops over ranges and this file spreads them:

- *items*: a batch is shared out item by item to a pool that belongs to this process;
- *strips*: one large image is cut into strips, each thread runs the whole algorithm on its
  own strip and waits for the others at a spin barrier (a pool per pass costs more than the
  pass).

A third way, for passes that take long each, is :mod:`flowcut.kernels.crew`.

Never more threads than ``torch.get_num_threads()``, which is 1 in data-loader workers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba.core import types
from numpy.typing import NDArray

from flowcut.kernels.jit import atomic_add, atomic_load, inner, monotonic_ns

# Below so many pixels starting a thread costs more than it brings.
_STRIP_PIXELS = 1 << 15
# A barrier that waits longer than this gives its core to whoever needs it.
SPINS = 512
_CAN_YIELD = sys.platform != "win32"
sched_yield = types.ExternalFunction("sched_yield", types.int32())
# A wait this long means that other programs hold the core of a strip. On a machine that busy strips take
# many times as long as one thread alone, so when such waits add up to more than a few milliseconds and
# half of the run, the run is called off, and for a while nobody tries again.
LONG_WAIT = 1_000_000
_PATIENCE = 4_000_000
_SECONDS_ALONE = 1.0


class _Pool:
    """Worker threads of this process, made on first use and forgotten after a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: ThreadPoolExecutor | None = None
        self.size = 0

    def get(self, size: int) -> ThreadPoolExecutor:
        with self.lock:
            if self.executor is None or self.size < size:
                # An outgrown executor ends its threads when its last caller lets go of it.
                self.executor = ThreadPoolExecutor(size, thread_name_prefix="flowcut")
                self.size = size
            return self.executor


_pool = _Pool()


def _forget_pool() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class _Share:
    """Items handed out one by one, and how many are still being worked on."""

    def __init__(self, function: Callable[[int], object], count: int) -> None:
        self.function = function
        self.items = iter(range(count))
        self.idle = threading.Condition()
        self.busy = 0
        self.error: BaseException | None = None

    def take(self) -> int | None:
        """The next item, None when all are handed out."""
        with self.idle:
            item = next(self.items, None)
            self.busy += item is not None
            return item

    def work(self) -> None:
        """Work until nothing is left; after a failure nobody takes another item."""
        while (item := self.take()) is not None:
            error = None
            try:
                self.function(item)
            except BaseException as problem:
                error = problem
            with self.idle:
                if error is not None:
                    self.error, self.items = self.error or error, iter(())
                self.busy -= 1
                self.idle.notify_all()

    def finish(self) -> None:
        """Wait for those who still work; raise the first exception."""
        with self.idle:
            self.idle.wait_for(lambda: self.busy == 0)
        if self.error is not None:
            raise self.error


def run_items(function: Callable[[int], object], count: int) -> None:
    """Call ``function(0) ... function(count - 1)``, spread over the pool.

    The caller works too, so progress never depends on a free worker, however many
    callers share the pool. The first exception is raised after all workers have stopped.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        for item in range(count):
            function(item)
        return
    share = _Share(function, count)
    pool = _pool.get(threads - 1)
    # A pool that cannot start a thread (interpreter shutting down, no resources) is no help. What it has
    # queued all the same counts as busy only if it still finds an item.
    with contextlib.suppress(RuntimeError):
        for _ in range(threads - 1):
            pool.submit(share.work)
    share.work()
    share.finish()


_alone_until = 0.0


def strip_count(pixels: int) -> int:
    """How many strips are worth their threads for one image of so many pixels."""
    if not _CAN_YIELD or time.monotonic() < _alone_until:
        return 1
    return max(1, min(torch.get_num_threads(), pixels // _STRIP_PIXELS))


def run_strips(kernel: Callable[..., Any], args: tuple[Any, ...], strips: int) -> Any:
    """Run ``kernel(*args, strip, strips, barrier)`` on every strip at once.

    Returns what strip 0 returns. ``kernel`` must give the same result for any number of
    strips: when a thread cannot be started, or the machine is too busy for threads that wait for
    each other, the whole runs again on one.
    """
    global _alone_until
    if strips == 1:
        return kernel(*args, 0, 1, new_barrier())
    barrier = new_barrier()

    def run(strip: int) -> Any:
        try:
            return kernel(*args, strip, strips, barrier)
        except BaseException:
            barrier[2] = 1
            raise

    threads = [threading.Thread(target=run, args=(strip,), daemon=True) for strip in range(1, strips)]
    result = None
    try:
        for thread in threads:
            thread.start()
        result = run(0)
    except RuntimeError:  # a thread could not be started
        barrier[2] = 1
    except BaseException:  # interrupted: nobody may wait for strips that never come
        barrier[2] = 1
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if not barrier[2]:
        return result
    _alone_until = time.monotonic() + _SECONDS_ALONE
    return kernel(*args, 0, 1, new_barrier())


def new_barrier() -> NDArray[np.int64]:
    """State of a barrier: arrived, generation, called off, nanoseconds waited, start."""
    return np.array([0, 0, 0, 0, time.monotonic_ns()], dtype=np.int64)


@inner
def meet(barrier: Any, strips: int) -> bool:
    """Wait until all strips are here; False when the run was called off."""
    if strips == 1:
        return True
    if atomic_load(barrier, 2) != 0:
        return False
    generation = atomic_load(barrier, 1)
    if atomic_add(barrier, 0, 1) == strips - 1:
        atomic_add(barrier, 0, -strips)
        atomic_add(barrier, 1, 1)
        return True
    spins, began, waited = 0, 0, 0
    while atomic_load(barrier, 1) == generation:
        if atomic_load(barrier, 2) != 0:
            return False
        spins += 1
        if spins == SPINS:
            began = monotonic_ns()
        elif spins > SPINS:
            sched_yield()
            now = monotonic_ns()
            waited = now - began
            if waited > LONG_WAIT and _too_busy(barrier, waited, now):
                atomic_add(barrier, 2, 1)
                return False
    if waited > LONG_WAIT:
        atomic_add(barrier, 3, waited)
    return True


@inner
def _too_busy(barrier: Any, waited: int, now: int) -> bool:
    """Whether long waits have eaten more than a few milliseconds and half of the run."""
    lost = atomic_load(barrier, 3) + waited
    return lost > _PATIENCE and 2 * lost > now - barrier[4]
