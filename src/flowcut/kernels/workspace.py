"""Work arrays that are used again: fresh memory costs more than the arithmetic done in it.

Every solve needs about ten image-sized arrays. Memory fresh from the system is zeroed page by page
on first touch, which for a small image takes as long as the solve; so each thread keeps the last
buffer it needed, up to a limit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

# Bytes a thread keeps between solves; larger buffers go back to the system.
_KEPT = 1 << 24
# Bytes between two arrays. A compiled loop that stores and sums takes its scalar instead of its vector
# form, which rounds differently, when two arrays lie closer than a few vector registers. With the
# margin that never happens, and equal input gives equal bits wherever it lies. Not a whole number of
# pages, so that the arrays do not all fall into the same lines of the cache.
_MARGIN = 73 * 64
_ALIGNMENT = 64


def aligned(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised array that begins at a line of the cache, so that no vector load straddles two.

    The memory is NumPy's, which asks the system for huge pages where PyTorch does not: what costs in a large
    new array is the number of its pages.

    Examples
    --------
    >>> aligned((2, 3), np.float32).shape
    (2, 3)
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def fresh(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """:func:`aligned` as a tensor.

    Examples
    --------
    >>> fresh((2, 3), torch.float32).shape
    torch.Size([2, 3])
    """
    return torch.from_numpy(aligned(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))


class _Kept(threading.local):
    """The buffer of one thread."""

    buffer: NDArray[np.uint8] = np.empty(0, np.uint8)


_kept = _Kept()


def workspace(requests: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> list[NDArray[Any]]:
    """Uninitialised arrays, valid until this thread asks again.

    Parameters
    ----------
    requests
        Shape and type of each array.

    Examples
    --------
    >>> a, b = workspace([((2, 3), np.float32), ((4,), np.float64)])
    >>> a.shape, b.dtype
    ((2, 3), dtype('float64'))
    """
    size = _MARGIN + sum(_padded(shape, dtype) for shape, dtype in requests)
    buffer = _kept.buffer if len(_kept.buffer) >= size else np.empty(size, np.uint8)
    _kept.buffer = buffer if len(buffer) <= _KEPT else np.empty(0, np.uint8)
    arrays, start = [], _MARGIN
    for shape, dtype in requests:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays.append(buffer[start : start + size].view(dtype).reshape(shape))
        start += _padded(shape, dtype)
    return arrays


def _padded(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT + _MARGIN
