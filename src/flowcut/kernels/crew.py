"""A lead that runs an algorithm of long passes, and helpers that take pieces of them.

Nobody waits for a helper that has not come yet: where the system is slow to wake a core, the lead does the
work alone. Strips (:mod:`flowcut.kernels.threads`) wait for each other at every pass, which is faster for
short passes and useless where one thread is late.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flowcut.kernels.jit import atomic_add, atomic_load, inner, monotonic_ns
from flowcut.kernels.threads import LONG_WAIT, SPINS, sched_yield

# Sending helpers away costs a millisecond or more: it is tried again soon, and ever less soon while it fails.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.03, 2.0
_pause = _SHORTEST_PAUSE
_no_crew_until = 0.0
# Phases of one crew, and so passes of one kernel, at most.
MAX_PHASES = 1024

try:
    _sched_getcpu: Callable[[], int] | None = ctypes.CDLL(None).sched_getcpu
except (AttributeError, OSError, TypeError):  # not Linux
    _sched_getcpu = None


def run_crew(kernel: Callable[..., Any], args: tuple[Any, ...], helpers: int) -> Any:
    """Run ``kernel(*args, True, crew)`` and, on fresh threads, ``kernel(*args, False, crew)``.

    Returns what the lead returns. Helpers take pieces (:func:`next_piece`) of the phase that the lead has
    opened (:func:`open_phase`) until it has left. When it once has to wait long for one of them, because
    other programs hold its core, they are sent away, and for a while nobody tries again.
    """
    global _no_crew_until, _pause
    crew = np.zeros(2 + 2 * MAX_PHASES, dtype=np.int64)
    if time.monotonic() < _no_crew_until:
        helpers = 0
    elsewhere = _other_cores() if helpers else None

    def help_out() -> None:
        if elsewhere:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, elsewhere)
        kernel(*args, False, crew)

    threads = [threading.Thread(target=help_out, daemon=True) for _ in range(helpers)]
    started = []
    try:
        with contextlib.suppress(RuntimeError):  # a thread could not be started: fewer helpers
            for thread in threads:
                thread.start()
                started.append(thread)
        return kernel(*args, True, crew)
    finally:
        if crew[-1]:
            _no_crew_until = time.monotonic() + _pause
            _pause = min(2 * _pause, _LONGEST_PAUSE)
        elif started:
            _pause = _SHORTEST_PAUSE
        crew[-1] = 1
        for thread in started:
            thread.join()


def _other_cores() -> set[int] | None:
    """The cores that this process may use but for the one it is on; None where the system does not say.

    A new thread begins on the core of its maker. Systems that balance their load at clock ticks, and virtual
    machines whose idle cores sleep, leave both there for longer than a kernel takes.
    """
    if _sched_getcpu is None or not hasattr(os, "sched_setaffinity"):
        return None
    return os.sched_getaffinity(0) - {_sched_getcpu()}


@inner
def open_phase(crew: Any) -> int:
    """Let helpers take pieces of the next phase; what they need to know has been written before."""
    return atomic_add(crew, 0, 1)


@inner
def await_phase(crew: Any, seen: int) -> int:
    """Number of phases opened, as soon as it is not ``seen``; -1 when help is no longer wanted."""
    spins = 0
    while atomic_load(crew, 0) == seen or atomic_load(crew, len(crew) - 1) != 0:
        if atomic_load(crew, len(crew) - 1) != 0:
            return -1
        spins += 1
        if spins > SPINS:
            sched_yield()
    return atomic_load(crew, 0)


@inner
def next_piece(crew: Any, phase: int, pieces: int) -> int:
    """A piece of this phase that nobody has taken, -1 when there is none."""
    piece = atomic_add(crew, 1 + 2 * phase, 1)
    return piece if piece < pieces else -1


@inner
def piece_done(crew: Any, phase: int) -> None:
    """Tell the lead."""
    atomic_add(crew, 2 + 2 * phase, 1)


@inner
def await_pieces(crew: Any, phase: int, pieces: int) -> None:
    """Wait until every piece of the phase is done; helpers that hold one for long are sent away."""
    spins, began = 0, 0
    while atomic_load(crew, 2 + 2 * phase) != pieces:
        spins += 1
        if spins == SPINS:
            began = monotonic_ns()
        elif spins > SPINS:
            sched_yield()
            if monotonic_ns() - began > LONG_WAIT and atomic_load(crew, len(crew) - 1) == 0:
                atomic_add(crew, len(crew) - 1, 1)
