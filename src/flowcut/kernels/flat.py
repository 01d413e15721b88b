"""A grid with gaps of zeros, so that every tap is one number to add to a place.

Rows are followed by as many zeros as the window reaches, and so are planes; before and after everything
lies a margin. A neighbour then is place + shift for every pixel alike, a missing one is a zero, and a
kernel runs over blocks of places of one length without looking at borders: its inner loops have no ends to
treat singly, which for rows of a picture cost more than the rest.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.core.neighborhood import Offset
from flowcut.kernels.jit import inner

Spatial = tuple[int, ...]

# Places a kernel works on at once: a multiple of what unrolled vector loops take, a few rows of cache.
BLOCK = 1024
# Places of an unrolled vector loop: lengths that are a multiple leave nothing to be done singly.
_VECTOR = 64


class Flat(NamedTuple):
    """Places of a grid's pixels.

    Attributes
    ----------
    length
        Number of places, a multiple of BLOCK, margins included.
    first, last
        Blocks from ``first`` to ``last`` - 1 hold all pixels.
    starts
        (R,) int64: the place of the first pixel of each row.
    shifts
        (K,) int64: what to add to a place for each offset.
    """

    length: int
    first: int
    last: int
    starts: NDArray[np.int64]
    shifts: NDArray[np.int64]


@lru_cache(maxsize=64)
def flat_layout(spatial: Spatial, offsets: tuple[Offset, ...]) -> Flat:
    """The layout for windows of these offsets."""
    strides, margin, used = _sizes(spatial, offsets)
    starts = np.full(1, margin, np.int64)
    for length, stride in zip(spatial[:-1], strides[:-1], strict=True):
        starts = (starts[:, None] + stride * np.arange(length)).ravel()
    shifts = np.array(offsets, np.int64) @ np.array(strides, np.int64)
    return Flat(2 * margin + used, margin // BLOCK, (margin + used) // BLOCK, starts, shifts)


def _sizes(spatial: Spatial, offsets: tuple[Offset, ...]) -> tuple[list[int], int, int]:
    """Strides of the axes, places of a margin, places between the margins; sizes may be symbols."""
    reach = [max(abs(o[axis]) for o in offsets) for axis in range(len(spatial))]
    strides = [1] * len(spatial)
    for axis in range(len(spatial) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * (spatial[axis + 1] + reach[axis + 1])
    far = sum(r * s for r, s in zip(reach, strides, strict=True))
    # Taps of the last block, and of a row lengthened to whole vectors, stay within the margin.
    return strides, _round_up(far + _VECTOR), _round_up(spatial[0] * strides[0])


@lru_cache(maxsize=16)
def places(spatial: Spatial, offsets: tuple[Offset, ...]) -> Tensor:
    """(pixels,) int64: where each pixel lies."""
    starts = flat_layout(spatial, offsets).starts
    return torch.from_numpy((starts[:, None] + np.arange(spatial[-1])).ravel())


def flat_length(spatial: Spatial, offsets: tuple[Offset, ...]) -> int:
    """Number of places; 0 where there are no pixels."""
    # Not by flat_layout: while a program is compiled for any size, sizes are symbols that no cache can hold.
    _, margin, used = _sizes(spatial, offsets)
    return 2 * margin + used if math.prod(spatial) else 0


def pack_reference(x: Tensor, offsets: tuple[Offset, ...]) -> Tensor:
    """(..., *spatial) to (..., length) in plain PyTorch."""
    spatial = tuple(x.shape[-len(offsets[0]) :])
    lead = x.shape[: -len(spatial)]
    out = x.new_zeros(*lead, flat_length(spatial, offsets))
    if not x.numel():
        return out
    return out.index_copy(-1, places(spatial, offsets).to(x.device), x.reshape(*lead, -1))


def unpack_reference(x: Tensor, spatial: Spatial, offsets: tuple[Offset, ...]) -> Tensor:
    """(..., length) to (..., *spatial) in plain PyTorch."""
    if not math.prod(spatial):
        return x.new_zeros(*x.shape[:-1], *spatial)
    return x.index_select(-1, places(spatial, offsets).to(x.device)).reshape(*x.shape[:-1], *spatial)


@inner
def pack_rows(x: Any, out: Any, starts: Any, start: int, stop: int) -> None:
    """Rows of x (C, R, W) into out (C, length), and zeros up to the next row."""
    width = x.shape[2]
    for c in range(x.shape[0]):
        for r in range(start, stop):
            source, target = x[c, r], out[c, starts[r] :]
            for i in range(width):
                target[i] = source[i]
            clear_gap(out[c], starts, r, width)


@inner
def pack_weight_block(
    weights: Any, out: Any, starts: Any, shifts: Any, forward: Any, shift: Any, transpose: bool, at: int
) -> None:
    """Weights (K, R, W) of the BLOCK places from ``at`` into out (K, BLOCK).

    A block's weights lie together, so that they are read as one stream. For the transpose, w_k stands at the
    place of the neighbour: Omega^T then is a sum over taps of this place like Omega. What has no neighbour is
    neither read nor kept.
    """
    width, rows = weights.shape[2], len(starts)
    for k in range(weights.shape[0]):
        target = out[k]
        for i in range(BLOCK):
            target[i] = 0
        # Pixels of these places, or whose neighbour k they are.
        low = at - shifts[k] if transpose else at
        r = _row_before(starts, low)
        while r < rows and starts[r] < low + BLOCK:
            if forward[k, r] >= 0:
                first = max(max(0, -shift[k, r]), low - starts[r])
                last = min(min(width, width - shift[k, r]), low + BLOCK - starts[r])
                if last > first:
                    source, place = weights[k, r, first:], target[starts[r] + first - low :]
                    for i in range(last - first):
                        place[i] = source[i]
            r += 1


@inner
def _row_before(starts: Any, place: int) -> int:
    """The last row that starts at or before a place; 0 where there is none."""
    low, high = 0, len(starts)
    while high - low > 1:
        middle = (low + high) // 2
        if starts[middle] <= place:
            low = middle
        else:
            high = middle
    return low


@inner
def clear_gap(out: Any, starts: Any, r: int, width: int) -> None:
    """Zeros from the end of row r to the next one; the first and the last row see to the margins."""
    stop = starts[r + 1] if r + 1 < len(starts) else len(out)
    for i in range(starts[r] + width, stop):
        out[i] = 0
    if r == 0:
        for i in range(starts[0]):
            out[i] = 0


def whole_vectors(count: int) -> int:
    """The next multiple of what vector loops take at once."""
    return -(-count // _VECTOR) * _VECTOR


def _round_up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
