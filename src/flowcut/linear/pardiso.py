"""Direct factorisation by MKL's PARDISO (extra ``exact``), analysed once per pattern.

One engine holds one analysis and, in numbered slots, the factors of many matrices of that
pattern. PARDISO hangs in a child that was forked after its parent used it: such a child is told
that PARDISO is not available, and factors that crossed the fork are made anew by SuperLU.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowcut.linear.pattern import Pattern
from flowcut.linear.superlu import SuperLUAnalysis

try:
    from pypardiso import PyPardisoSolver
except ImportError:
    PyPardisoSolver = None

_SLOTS = 64
_SYMMETRIC_POSITIVE_DEFINITE = 2
_ANALYSE, _FACTOR, _SOLVE, _RELEASE_SLOT, _RELEASE_ALL = 11, 22, 33, 0, -1
_used_by: int | None = None


@cache
def _library() -> Any:
    """The shared library with PARDISO in it, None where it is missing."""
    if PyPardisoSolver is None:
        return None
    try:
        return PyPardisoSolver().libmkl
    except (ImportError, OSError):
        return None


def available() -> bool:
    """Whether PARDISO is installed and safe to use in this process."""
    return _library() is not None and _used_by in (None, os.getpid())


class PardisoAnalysis:
    """Engines for one pattern: one for each number of threads and each 64 factors alive at once."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.lock = threading.Lock()
        self.engines: list[_Engine] = []

    def factor(self, data: NDArray[np.float64], threads: int) -> PardisoFactor:
        """Factor the matrix with these entries of the upper triangle."""
        with self.lock:
            self.engines = [e for e in self.engines if e.process == os.getpid()]
            engine = next((e for e in self.engines if e.free and e.threads == threads), None)
            if engine is None:
                engine = _Engine(self.pattern, data, threads)
                self.engines.append(engine)
            slot = engine.free.pop()
        engine.call(_FACTOR, slot, data, None)
        return PardisoFactor(engine, slot, data)


class PardisoFactor:
    """L L^T of one matrix, in a slot of its engine that it gives back when it goes."""

    def __init__(self, engine: _Engine, slot: int, data: NDArray[np.float64]) -> None:
        self.engine, self.slot, self.data = engine, slot, data
        weakref.finalize(self, engine.release, slot).atexit = False

    def solve(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve for the rows of b, (m, n)."""
        if self.engine.process != os.getpid():
            return SuperLUAnalysis(self.engine.pattern).factor(self.data, 1).solve(b)
        return self.engine.call(_SOLVE, self.slot, self.data, b)


class _Engine:
    """PARDISO's memory for one pattern."""

    def __init__(self, pattern: Pattern, data: NDArray[np.float64], threads: int) -> None:
        global _used_by
        _used_by = self.process = os.getpid()
        self.pattern, self.threads = pattern, threads
        # Reentrant: the garbage collector may release a slot while this thread is in here.
        self.lock = threading.RLock()
        self.free = list(range(_SLOTS, 0, -1))
        self.memory = np.zeros(64, np.int64)
        self.settings = np.zeros(64, np.int32)
        self.settings[0] = 1  # what follows is not the default
        self.settings[1] = 2  # nested dissection
        self.settings[9] = 8  # pivot perturbation; not needed for positive definite matrices
        self.settings[23] = 1  # two-level factorisation: faster also on one thread
        self.settings[34] = 1  # indices from zero
        self.call(_ANALYSE, 1, data, None)
        release = weakref.finalize(
            self, _pardiso, self.memory, self.settings, pattern, threads, _RELEASE_ALL, 1, np.zeros(1)
        )
        release.atexit = False  # the library may be gone by then, and the memory goes anyway

    def call(
        self, phase: int, slot: int, data: NDArray[np.float64], b: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """One phase of PARDISO for the matrix in a slot."""
        with self.lock:
            return _pardiso(self.memory, self.settings, self.pattern, self.threads, phase, slot, data, b)

    def release(self, slot: int) -> None:
        """Free the memory of a slot and offer it again."""
        if self.process == os.getpid():
            self.call(_RELEASE_SLOT, slot, np.zeros(1), None)
            self.free.append(slot)


def _pardiso(
    memory: NDArray[np.int64],
    settings: NDArray[np.int32],
    pattern: Pattern,
    threads: int,
    phase: int,
    slot: int,
    data: NDArray[np.float64],
    b: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    b = np.zeros((1, 1)) if b is None else np.ascontiguousarray(b)
    x = np.zeros_like(b)
    error = ctypes.c_int32(0)
    library = _library()
    # A factorisation by another number of threads than the analysis' can fail. Restored, not
    # reset: this call may stand inside another one, by way of the garbage collector.
    before = library["MKL_Set_Num_Threads_Local"](ctypes.c_int(threads))
    library["pardiso"](
        _pointer(memory), _number(_SLOTS), _number(slot), _number(_SYMMETRIC_POSITIVE_DEFINITE),
        _number(phase), _number(pattern.size), _pointer(data), _pointer(pattern.indptr),
        _pointer(pattern.indices), _pointer(np.zeros(pattern.size, np.int32)), _number(len(b)),
        _pointer(settings), _number(0), _pointer(b), _pointer(x), ctypes.byref(error),
    )  # fmt: skip
    library["MKL_Set_Num_Threads_Local"](ctypes.c_int(before))
    if error.value:
        raise RuntimeError(f"PARDISO failed with its error {error.value} in phase {phase}")
    return x


def _number(value: int) -> Any:
    return ctypes.byref(ctypes.c_int32(value))


def _pointer(array: NDArray[Any]) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
