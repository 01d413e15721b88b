"""A grid of any number of axes as rows: the one layout all CPU kernels share.

The last axis is a row of W pixels, all other axes together count R rows. A neighbour
then is "row q, column m + s", found in tables over (offset, row), and the kernels need
neither the number of axes nor a compilation for each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood, Offset

Spatial = tuple[int, ...]


class RowTables(NamedTuple):
    """Neighbours of each row.

    forward, backward
        (K, R) int64: the row of i + offset k, of i - offset k; -1 where there is none.
    shift
        (K, R) int64: what the forward neighbour's column adds to m.
    """

    forward: NDArray[np.int64]
    backward: NDArray[np.int64]
    shift: NDArray[np.int64]


def rows_and_columns(spatial: Spatial) -> tuple[int, int]:
    """(R, W) of a grid."""
    return int(np.prod(spatial[:-1], dtype=np.int64)), spatial[-1]


def offsets_from_flat(flat: list[int], ndim: int) -> tuple[Offset, ...]:
    """The K offsets that an operation receives as one list of K * ndim integers."""
    return tuple(tuple(flat[i : i + ndim]) for i in range(0, len(flat), ndim))


def common_type(*values: Tensor) -> torch.dtype:
    """The type operations compute in: float64 if any argument has it, float32 otherwise."""
    return torch.float64 if any(v.dtype == torch.float64 for v in values) else torch.float32


@lru_cache(maxsize=64)
def row_tables(spatial: Spatial, offsets: tuple[Offset, ...]) -> RowTables:
    """Tables for pixels of a full grid."""
    index, _ = _row_index(spatial)
    forward, backward = _row_neighbours(spatial, index, [o[:-1] for o in offsets])
    shift = np.repeat(np.array([[o[-1]] for o in offsets], dtype=np.int64), index.shape[1], axis=1)
    return RowTables(forward, backward, shift)


@lru_cache(maxsize=64)
def red_black_tables(spatial: Spatial) -> RowTables:
    """Tables for the black half of a grid after the red half has been eliminated.

    Black pixels have an even sum of coordinates. In row r they stand at columns
    2m + parity(r) and are stored at m. Two black pixels are tied when a red one lies
    between them: offsets 2 e_a, e_a + e_b and e_a - e_b, see :func:`schur_offsets`.
    """
    offsets = schur_offsets(len(spatial))
    index, parity = _row_index(spatial)
    forward, backward = _row_neighbours(spatial, index, [o[:-1] for o in offsets])
    shift = np.zeros_like(forward)
    for k, offset in enumerate(offsets):
        rows = np.flatnonzero(forward[k] >= 0)
        shift[k, rows] = (parity[rows] + offset[-1] - parity[forward[k, rows]]) // 2
    return RowTables(forward, backward, shift)


@lru_cache(maxsize=64)
def row_parity(spatial: Spatial) -> NDArray[np.int64]:
    """(R,) parity of the sum of a row's coordinates: the column of its first black pixel."""
    return _row_index(spatial)[1]


@lru_cache(maxsize=16)
def schur_offsets(ndim: int) -> tuple[Offset, ...]:
    """The ndim**2 undirected ties among black pixels that share a red neighbour."""
    axes = np.eye(ndim, dtype=int)
    pairs = [(a, b) for a in range(ndim) for b in range(a + 1, ndim)]
    steps = [2 * axes[a] for a in range(ndim)]
    steps += [axes[a] + sign * axes[b] for a, b in pairs for sign in (1, -1)]
    return tuple(tuple(int(v) for v in step) for step in steps)


@lru_cache(maxsize=16)
def schur_paths(ndim: int) -> NDArray[np.int64]:
    """The two-step paths over a red pixel that make each tie of :func:`schur_offsets`.

    Returns
    -------
    NDArray
        (P, 5) int64: tie, axis and sign of the first step, axis and sign of the second.
    """
    paths = [(a, a, 1, a, 1) for a in range(ndim)]
    tie = ndim
    for a in range(ndim):
        for b in range(a + 1, ndim):
            for sign in (1, -1):
                paths += [(tie, a, 1, b, sign), (tie, b, sign, a, 1)]
                tie += 1
    return np.array(paths, dtype=np.int64)


def is_axis_neighborhood(offsets: tuple[Offset, ...]) -> bool:
    """Whether the ties are the axes alone, so that the grid is a checkerboard."""
    return offsets == Neighborhood.edges(len(offsets[0])).offsets


def _row_index(spatial: Spatial) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates (ndim - 1, R) of the rows and the parity of their sum."""
    leading = spatial[:-1]
    if not leading:
        return np.zeros((0, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    index = np.indices(leading, dtype=np.int64).reshape(len(leading), -1)
    return index, index.sum(axis=0) & 1


def _row_neighbours(
    spatial: Spatial, index: NDArray[np.int64], steps: list[Offset]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    leading = np.array(spatial[:-1], dtype=np.int64)[:, None]
    rows = index.shape[1]
    forward = np.full((len(steps), rows), -1, dtype=np.int64)
    backward = np.full((len(steps), rows), -1, dtype=np.int64)
    for k, step in enumerate(steps):
        moved = index + np.array(step, dtype=np.int64)[:, None]
        source = np.flatnonzero(((moved >= 0) & (moved < leading)).all(axis=0))
        if len(leading):
            target = np.ravel_multi_index(tuple(moved[:, source]), spatial[:-1])
        else:
            target = source
        forward[k, source] = target
        backward[k, target] = source
    return forward, backward
