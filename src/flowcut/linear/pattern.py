"""Where a matrix has entries: depends on the grid alone, so it is worked out once per shape."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowcut.linear.system import System

_KEPT = 8


class Pattern:
    """Upper triangle of a Laplacian plus a diagonal, as sorted CSR.

    Parameters
    ----------
    i, j
        (E,) ends of each tie; ties may repeat.
    size
        Number n of pixels.
    """

    def __init__(self, i: NDArray[np.int64], j: NDArray[np.int64], size: int) -> None:
        self.size, self.i, self.j = size, i, j
        own = np.arange(size, dtype=np.int64)
        low, high = np.minimum(i, j), np.maximum(i, j)
        key = np.concatenate([own * (size + 1), low * size + high])
        entries, slot = np.unique(key, return_inverse=True)
        self.indices = (entries % size).astype(np.int32)
        counts = np.bincount(entries // size, minlength=size)
        self.indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self.diagonal_slot, self.tie_slot = slot[:size], slot[size:]
        self.simple = len(entries) == len(key)

    def values(self, ties: NDArray[np.float64], leak: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entries of the upper triangle for ties (E,) and leak (n,)."""
        data = np.empty(len(self.indices))
        if self.simple:
            data[self.tie_slot] = -ties
        else:
            data[:] = np.bincount(self.tie_slot, weights=-ties, minlength=len(self.indices))
        incident = np.bincount(self.i, weights=ties, minlength=self.size)
        incident += np.bincount(self.j, weights=ties, minlength=self.size)
        data[self.diagonal_slot] = leak + incident
        return data


class _Cache:
    """The most recently used values, made on demand."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.entries: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Any) -> Any:
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
                return self.entries[key]
        value = make()
        with self.lock:
            value = self.entries.setdefault(key, value)
            while len(self.entries) > _KEPT:
                self.entries.popitem(last=False)
        return value


_patterns = _Cache()
_analyses = _Cache()


def pattern_key(system: System) -> Any:
    """What the pattern depends on."""
    spatial = tuple(system.leak.shape[2:])
    if system.edge_index is None:
        return spatial, system.offsets
    return spatial, hashlib.sha256(system.edge_index.cpu().numpy().tobytes()).hexdigest()


def pattern_of(system: System) -> Pattern:
    """The pattern of a system, kept for the next one of its shape."""

    def make() -> Pattern:
        i, j, _ = system.ties()
        return Pattern(i.cpu().numpy(), j.cpu().numpy(), int(np.prod(system.leak.shape[2:])))

    pattern: Pattern = _patterns.get(pattern_key(system), make)
    return pattern


def analysis_of(system: System, kind: Any) -> Any:
    """``kind(pattern)``, kept for the next system of this shape."""
    return _analyses.get((kind, pattern_key(system)), lambda: kind(pattern_of(system)))
