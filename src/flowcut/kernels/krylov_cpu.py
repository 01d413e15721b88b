"""Numba kernels of the Krylov spaces of A = R_S Omega and its transpose (LAF (2.9b), (2.10)).

Every step is two passes over the pixels: a product that also takes the inner products with all earlier
vectors while its block is in the cache, and an update that subtracts them and measures what is left. Vectors
are never scaled to length one: their lengths are numbers beside them. All arrays have the layout of
:mod:`flowcut.kernels.flat`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from flowcut.core.neighborhood import Offset
from flowcut.kernels.crew import (
    MAX_PHASES,
    await_phase,
    await_pieces,
    next_piece,
    open_phase,
    piece_done,
)
from flowcut.kernels.flat import BLOCK, flat_layout, flat_length, pack_rows, pack_weight_block
from flowcut.kernels.flat_blocks import (
    PIECES,
    Runner,
    dot,
    gather_block,
    replicate_block,
    run_images,
    share,
)
from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.layout import common_type, offsets_from_flat, row_tables
from flowcut.kernels.workspace import aligned, fresh

# A vector that loses so much of its length to the earlier ones is no longer orthogonal to them: again.
_CANCELLED = 0.03
_BREAKDOWN = 64.0
# Columns of H that one call of the kernel makes: with three passes each, a crew has phases for them.
_COLUMNS = MAX_PHASES // 4
# What a phase does with every piece.
_PACK, _PRODUCT, _UPDATE, _DOT = range(4)


@inner
def _product_piece(
    weights: Any, similarity: Any, x: Any, basis: Any, count: int, dots: Any, shapes: Any,
    transpose: bool, mean: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """basis[count] = A x, or Omega^T x; dots[i] = <basis[i], basis[count]> for i <= count."""
    out = basis[count]
    for i in range(count + 1):
        dots[i] = 0
    for block in range(start, stop):
        at = block * BLOCK
        own = weights[block - shapes.blocks[0]]
        gather_block(own, x, out, shapes.shifts, transpose, at, BLOCK)
        if not transpose:
            replicate_block(similarity, out, mean, at, BLOCK)
        for c in range(x.shape[0]):
            for i in range(count + 1):
                dots[i] += dot(basis[i, c, at:], out[c, at:], BLOCK)


@inner
def _dot_piece(basis: Any, count: int, dots: Any, start: int, stop: int) -> None:
    """dots[i] = <basis[i], basis[count]> for i <= count."""
    for i in range(count + 1):
        dots[i] = 0
    for block in range(start, stop):
        at = block * BLOCK
        for c in range(basis.shape[1]):
            for i in range(count + 1):
                dots[i] += dot(basis[i, c, at:], basis[count, c, at:], BLOCK)


@inner
def _update_piece(
    basis: Any, count: int, scale: float, coefficients: Any, similarity: Any, replicated: Any, mean: Any,
    transpose: bool, start: int, stop: int,
) -> float:  # fmt: skip
    """basis[count] <- scale basis[count] - sum_i coefficients[i] basis[i]; returns its squared length.

    With ``transpose``, replicated = R_S basis[count] too: the next product starts from it.
    """
    square = 0.0
    for block in range(start, stop):
        at = block * BLOCK
        for c in range(basis.shape[1]):
            row = basis[count, c, at:]
            factor = basis.dtype.type(scale)
            for j in range(BLOCK):
                row[j] *= factor
            for i in range(count):
                other, factor = basis[i, c, at:], basis.dtype.type(coefficients[i])
                for j in range(BLOCK):
                    row[j] -= factor * other[j]
            square += dot(row, row, BLOCK)
            if transpose:
                target = replicated[c, at:]
                for j in range(BLOCK):
                    target[j] = row[j]
        if transpose:
            replicate_block(similarity, replicated, mean, at, BLOCK)
    return square


@inner
def _pack_piece(room: Any, shapes: Any, transpose: bool, piece: int) -> None:
    """Weights, similarity and start vector in the flat layout."""
    start, stop = share(len(shapes.starts), piece, PIECES)
    pack_rows(room.similarity, room.flat_similarity, shapes.starts, start, stop)
    pack_rows(room.start, room.basis[0], shapes.starts, start, stop)
    for block in range(shapes.blocks[piece], shapes.blocks[piece + 1]):
        own = room.flat_weights[block - shapes.blocks[0]]
        pack_weight_block(
            room.weights, own, shapes.starts, shapes.shifts, shapes.forward, shapes.shift, transpose,
            block * BLOCK,
        )  # fmt: skip


@inner
def _clear_margins(basis: Any, starts: Any) -> None:
    """Zeros where products do not write and taps read."""
    for j in range(1, len(basis)):
        for c in range(basis.shape[1]):
            for i in range(starts[0]):
                basis[j, c, i] = 0
            for i in range(starts[-1], basis.shape[2]):
                basis[j, c, i] = 0


@inner
def _help(room: Any, shapes: Any, order: Any, transpose: bool, crew: Any, phase: int) -> None:
    """Take pieces of an open phase while there are any."""
    piece = next_piece(crew, phase, PIECES)
    while piece >= 0:
        # The order stands until all pieces are done, so it belongs to this one.
        kind, j = int(order[0]), int(order[1])
        start, stop = shapes.blocks[piece], shapes.blocks[piece + 1]
        similarity, basis, sums = room.flat_similarity, room.basis, room.partial[piece]
        if kind == _PACK:
            _pack_piece(room, shapes, transpose, piece)
        elif kind == _PRODUCT:
            x = room.replicated if transpose else basis[j]
            _product_piece(
                room.flat_weights, similarity, x, basis, j + 1, sums, shapes, transpose,
                room.mean[piece], start, stop,
            )  # fmt: skip
        elif kind == _UPDATE:
            sums[0] = _update_piece(
                basis, j, order[2], order[3:], similarity, room.replicated, room.mean[piece], transpose,
                start, stop,
            )  # fmt: skip
        else:
            _dot_piece(basis, j, sums, start, stop)
        piece_done(crew, phase)
        piece = next_piece(crew, phase, PIECES)


@inner
def _phase(
    room: Any, shapes: Any, order: Any, transpose: bool, crew: Any, kind: int, j: int, count: int, sums: Any
) -> None:
    """One pass over all pieces; the first ``count`` sums over them, in their order."""
    order[0], order[1] = kind, j
    phase = open_phase(crew)
    _help(room, shapes, order, transpose, crew, phase)
    await_pieces(crew, phase, PIECES)
    for i in range(count):
        total = 0.0
        for piece in range(PIECES):
            total += room.partial[piece, i]
        sums[i] = total


@jit
def _arnoldi(
    room: Any, shapes: Any, norms: Any, h: Any, order: Any, sums: Any, transpose: bool, begin: int, end: int,
    tiny: float, lead: bool, crew: Any,
) -> int:  # fmt: skip
    """Columns ``begin`` to ``end`` of H and the vectors behind them; returns how many columns are in use."""
    seen = 0
    while not lead:
        seen = await_phase(crew, seen)
        if seen < 0:
            return 0
        _help(room, shapes, order, transpose, crew, seen - 1)
    if begin == 0:
        _clear_margins(room.basis, shapes.starts)
        _phase(room, shapes, order, transpose, crew, _PACK, 0, 0, sums)
        order[2] = 1
        _phase(room, shapes, order, transpose, crew, _UPDATE, 0, 1, sums)
        norms[0] = np.sqrt(sums[0])
    for j in range(begin, end):
        if not 0 < norms[j] < np.inf:
            return j
        # With q_i = p_i / n_i: h_ij = <q_i, A q_j> = <p_i, A p_j> / (n_i n_j).
        _phase(room, shapes, order, transpose, crew, _PRODUCT, j, j + 2, sums)
        before = np.sqrt(sums[j + 1]) / norms[j]
        for i in range(j + 1):
            h[i, j] = sums[i] / (norms[i] * norms[j])
            order[3 + i] = h[i, j] / norms[i]
        order[2] = 1 / norms[j]
        _phase(room, shapes, order, transpose, crew, _UPDATE, j + 1, 1, sums)
        left = np.sqrt(sums[0])
        if tiny * before < left < _CANCELLED * before:
            _phase(room, shapes, order, transpose, crew, _DOT, j + 1, j + 1, sums)
            for i in range(j + 1):
                order[3 + i] = sums[i] / (norms[i] * norms[i])
                h[i, j] += sums[i] / norms[i]
            order[2] = 1
            _phase(room, shapes, order, transpose, crew, _UPDATE, j + 1, 1, sums)
            left = np.sqrt(sums[0])
        norms[j + 1] = h[j + 1, j] = left if left > tiny * before else 0.0
    return end


class _Room(NamedTuple):
    """Arrays of one picture: what comes in, the same in the flat layout, and sums."""

    weights: NDArray[Any]
    similarity: NDArray[Any]
    start: NDArray[Any]
    flat_weights: NDArray[Any]
    flat_similarity: NDArray[Any]
    basis: NDArray[Any]
    replicated: NDArray[Any]
    partial: NDArray[np.float64]
    mean: NDArray[Any]


class _Shapes(NamedTuple):
    """Tables of the layout."""

    starts: NDArray[np.int64]
    shifts: NDArray[np.int64]
    forward: NDArray[np.int64]
    shift: NDArray[np.int64]
    blocks: NDArray[np.int64]


class _Item:
    """What the pictures of a batch share, and how one of them is worked on."""

    def __init__(
        self, weights: NDArray[Any], similarity: NDArray[Any], start: NDArray[Any], basis: NDArray[Any],
        spatial: tuple[int, ...], table: tuple[Offset, ...], transpose: bool,
    ) -> None:  # fmt: skip
        self.weights, self.similarity, self.start, self.basis = weights, similarity, start, basis
        layout, rows = flat_layout(spatial, table), row_tables(spatial, table)
        blocks = layout.first + np.arange(PIECES + 1) * (layout.last - layout.first) // PIECES
        self.shapes = _Shapes(layout.starts, layout.shifts, rows.forward, rows.shift, blocks)
        self.transpose, self.tiny = transpose, _BREAKDOWN * float(np.finfo(basis.dtype).eps)

    def room(self, n: int, dim: int) -> _Room:
        """Room to work in."""
        basis, kind = self.basis[n], self.basis.dtype
        length, channels = basis.shape[2], basis.shape[1]
        blocks = self.shapes.blocks[-1] - self.shapes.blocks[0]
        flat_weights = aligned((blocks, self.weights.shape[1], BLOCK), kind)
        # What a transposed product starts from, R_S of a vector; its gaps stay zero.
        replicated = aligned(basis.shape[1:] if self.transpose else (1, 1), kind)
        replicated[:] = 0
        return _Room(
            self.weights[n], self.similarity[n], self.start[n], flat_weights,
            aligned((channels, length), kind), basis, replicated, np.zeros((PIECES, dim + 2)),
            aligned((PIECES, BLOCK), kind),
        )  # fmt: skip

    def build(
        self, n: int, norms: NDArray[Any], h: NDArray[Any], time: float, tolerance: float, run: Runner
    ) -> tuple[float, int, float]:
        """Fill basis[n], norms (m + 1,) and h (m + 1, m); start norm, steps, error."""
        dim = h.shape[1]
        room, order, sums = self.room(n, dim), np.zeros(dim + 4), np.zeros(dim + 2)
        done, steps = 0, 0
        while done < dim:
            end = min(done + (1 if tolerance > 0 else _COLUMNS), dim)
            arguments = (room, self.shapes, norms, h, order, sums, self.transpose, done, end, self.tiny)
            steps, done = run(_arnoldi, arguments), end
            if steps < end or (tolerance > 0 and _accurate(h[: end + 1, :end], time, tolerance)):
                break
        # What was never reached, or is rounding, must not be read as numbers.
        room.basis[norms == 0] = 0
        return norms[0], steps, norms[0] * _error(h[: steps + 1, :steps], time) if steps else 0.0


def _error(h: NDArray[Any], time: float) -> float:
    m = h.shape[1]
    return float(abs(h[m, m - 1] * _phi(h, time)[m - 1, 1]))


def _accurate(h: NDArray[Any], time: float, tolerance: float) -> bool:
    with np.errstate(over="ignore"):
        return _error(h, time) <= tolerance * float(np.linalg.norm(_phi(h, time)[:, 0]))


def _phi(h: NDArray[Any], time: float) -> NDArray[Any]:
    """t phi_1(t H) e_1 and t^2 phi_2(t H) e_1, (m, 2), as in :mod:`flowcut.kernels.krylov_reference`."""
    m = h.shape[1]
    if not np.isfinite(h).all():
        return np.full((m, 2), np.nan)
    whole = np.zeros((m + 2, m + 2))
    whole[:m, :m] = h[:m]
    whole[0, m], whole[m, m + 1] = 1, 1
    # Times too long for double precision give infinity or NaN, which is not a tolerance met.
    with np.errstate(over="ignore", invalid="ignore"):
        columns: NDArray[Any] = expm(time * whole)[:m, m:]
    return columns


def arnoldi_cpu(
    weights: Tensor, similarity: Tensor, start: Tensor, offsets: list[int], dim: int, transpose: bool,
    time: float, tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """``flow_arnoldi`` by Numba."""
    spatial = tuple(start.shape[2:])
    table = offsets_from_flat(list(offsets), len(spatial))
    dtype = common_type(weights, similarity, start)
    items, channels = start.shape[:2]
    basis = fresh((items, dim + 1, channels, flat_length(spatial, table)), dtype)
    norms = torch.zeros((items, dim + 1), dtype=torch.float64)
    h = torch.zeros((items, dim + 1, dim), dtype=torch.float64)
    beta, error = (torch.zeros(items, dtype=torch.float64) for _ in range(2))
    steps = torch.zeros(items, dtype=torch.int64)
    if not basis.numel():
        return basis, norms, h, beta, steps, error
    w, s, v = (rows_view(t.to(dtype), 2, spatial) for t in (weights, similarity, start))
    item = _Item(w, s, v, basis.numpy(), spatial, table, transpose)

    def work(n: int, run: Runner) -> None:
        beta[n], steps[n], error[n] = item.build(n, norms[n].numpy(), h[n].numpy(), time, tolerance, run)

    run_images(items, int(np.prod(spatial)), work)
    return basis, norms, h, beta, steps, error
