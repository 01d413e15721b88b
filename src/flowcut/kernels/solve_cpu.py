"""Solve A x = b on one image: elimination, CG in the working precision, double residuals.

The inner loop runs in the precision of the data. Its answer is added to a double-precision
solution whose residual b - A x is evaluated in double precision and in difference form; as
long as that true residual is too large, CG runs again on it (iterative refinement). The same
residual gives the certificate: rows of A sum to leak > 0, hence ||A^-1 diag(leak)||_inf = 1 and

    max |x - x*| <= max_i |r_i| / leak_i.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowcut.kernels.cg_cpu import (
    block_rows,
    conjugate_gradients,
    new_partial,
    strip_blocks,
    total,
)
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.layout import (
    is_axis_neighborhood,
    red_black_tables,
    row_parity,
    row_tables,
    rows_and_columns,
    schur_offsets,
    schur_paths,
)
from flowcut.kernels.red_black_cpu import (
    add_ties,
    assemble,
    black_diagonal,
    copy_row,
    reduce_to_black,
    write_black,
    write_red,
)
from flowcut.kernels.residual_cpu import judge, largest
from flowcut.kernels.threads import meet, run_strips
from flowcut.kernels.workspace import workspace

# Columns of the report of one right-hand side.
STEPS, RESIDUAL, BOUND, STATUS = range(4)
# As in core.results.Result; a bad tie is refused by name, or treated as not finite.
CONVERGED, NOT_CONVERGED, NOT_FINITE, BAD_EDGES = 0, 1, 2, 2


@inner
def _start(b: Any, x: Any, keep: Any, partial: Any, strip: int, strips: int) -> None:
    """x = 0, keep = b, |b|^2 into column 4."""
    first, last = strip_blocks(b.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(b.shape[0], block)
        squares = 0.0
        for r in range(start, stop):
            row, kept = b[r], keep[r]
            x[r] = 0.0
            s = 0.0
            for m in range(row.shape[0]):
                kept[m] = row[m]
                value = np.float64(row[m])
                s += value * value
            squares += s
        partial[block, 4] = squares


@inner
def _inverse_size(squares: float) -> float:
    """What the right-hand side is multiplied by so that its squares stay within single precision."""
    return 1.0 if 1e-10 < squares < 1e10 or not 0.0 < squares < np.inf else 1.0 / np.sqrt(squares)


@inner
def _rescale(b: Any, keep: Any, scale: float, strip: int, strips: int) -> None:
    """keep = scale * b."""
    first, last = strip_blocks(b.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(b.shape[0], block)
        for r in range(start, stop):
            row, kept = b[r], keep[r]
            for m in range(row.shape[0]):
                kept[m] = row[m] * scale


@inner
def _add(x: Any, keep: Any, scale: float, strip: int, strips: int) -> None:
    """x += keep / scale."""
    back = 1.0 / scale
    first, last = strip_blocks(x.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(x.shape[0], block)
        for r in range(start, stop):
            x_row, row = x[r], keep[r]
            for m in range(row.shape[0]):
                x_row[m] += row[m] * back


@inner
def _erase(x: Any, strip: int, strips: int) -> None:
    first, last = strip_blocks(x.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(x.shape[0], block)
        x[start:stop] = np.nan


@inner
def _finish(x: Any, out: Any, partial: Any, strip: int, strips: int) -> None:
    """Cast to the output type; the largest change that makes into column 3."""
    first, last = strip_blocks(x.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(x.shape[0], block)
        change = 0.0
        for r in range(start, stop):
            x_row, row = x[r], out[r]
            for m in range(row.shape[0]):
                row[m] = x_row[m]
                change = max(change, abs(row[m] - x_row[m]))
        partial[block, 3] = change


@inner
def _prepare(
    edges: Any, leak: Any, full: Any, half: Any, paths: Any, partial: Any, red_black: bool,
    strip: int, strips: int, barrier: Any,
) -> bool:  # fmt: skip
    """Diagonal of A and, on a checkerboard, the black half; False where a tie is bad."""
    forward, backward, shift, _, parity, inverse, buffer = full
    one = inverse.dtype.type(1)
    first, last = strip_blocks(leak.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(leak.shape[0], block)
        bad = 0.0
        for r in range(start, stop):
            row = inverse[r]
            copy_row(leak[r], row)
            if not add_ties(edges, forward, backward, shift, r, row):
                bad = 1.0
            for m in range(row.shape[0]):
                row[m] = one / row[m]
        partial[block, 0] = bad
    if not meet(barrier, strips) or total(partial, 0) > 0:
        return False
    if red_black:
        half_leak, half_weights, half_inverse, half_forward, half_backward, half_shift = half
        assemble(
            edges, leak, forward, backward, paths, parity, inverse, half_leak, half_weights,
            buffer[strip], strip, strips,
        )  # fmt: skip
        if not meet(barrier, strips):
            return False
        black_diagonal(
            half_leak, half_weights, half_forward, half_backward, half_shift, half_inverse, strip, strips
        )
    return meet(barrier, strips)


@jit
def solve_strip(
    edges: Any, leak: Any, rhs: Any, out: Any, report: Any, full: Any, half: Any, paths: Any,
    vectors: Any, work: Any, red_black: bool, rtol: float, max_steps: int,
    strip: int, strips: int, barrier: Any,
) -> None:  # fmt: skip
    """Solve all right-hand sides of one operator, one strip of it.

    edges (K, R, W), leak (R, W), rhs and out (C, R, W), report (C, 4); ``full`` and ``half``
    are the tables and coefficients of the whole grid and of what CG runs on.
    """
    forward, backward, shift, ones = full[:4]
    half_leak, half_weights, half_inverse, half_forward, half_backward, half_shift = half
    cg_x, cg_r, cg_p, cg_q = vectors
    x, keep, double_buffer, partial, floor = work
    good = _prepare(edges, leak, full, half, paths, partial, red_black, strip, strips, barrier)
    for c in range(rhs.shape[0]):
        if not good:
            if strip == 0:
                out[c] = np.nan
                report[c, RESIDUAL] = report[c, BOUND] = np.nan
                report[c, STATUS] = BAD_EDGES
            continue
        b = rhs[c]
        _start(b, x, keep, partial, strip, strips)
        if not meet(barrier, strips):
            return
        norm = total(partial, 4)
        size, bound, steps, stalled, least = norm, 0.0, 0, 0, floor
        goal = rtol * rtol * norm
        finite = np.isfinite(size)
        scale = _inverse_size(size)
        if scale != 1.0:
            _rescale(b, keep, scale, strip, strips)
            if not meet(barrier, strips):
                return
        while finite and size > goal and steps < max_steps and stalled < 3:
            before = size
            reduction = min(0.5, max(least, 0.9 * np.sqrt(goal / size)))
            if red_black:
                reduce_to_black(edges, full, keep, cg_r, strip, strips)
            taken = conjugate_gradients(
                half_leak, half_weights, half_inverse, half_forward, half_backward, half_shift,
                cg_x, cg_r, cg_p, cg_q, partial, reduction, max_steps - steps,
                strip, strips, barrier,
            )  # fmt: skip
            if taken < 0:
                return
            steps += taken
            if red_black:
                write_black(full, cg_x, keep, strip, strips)
                if not meet(barrier, strips):
                    return
                write_red(edges, full, ones, keep, strip, strips)
                _add(x, keep, scale, strip, strips)
            else:
                _add(x, cg_x, scale, strip, strips)
            if not meet(barrier, strips):
                return
            judge(
                edges, leak, forward, backward, shift, b, x, keep, scale, double_buffer[strip],
                partial, strip, strips,
            )  # fmt: skip
            if not meet(barrier, strips):
                return
            size, bound = total(partial, 4), largest(partial, 3)
            goal = max(goal, total(partial, 5))
            finite = np.isfinite(size)
            # What the recursion promised beyond this was rounding.
            least = max(least, min(0.1, 0.3 * np.sqrt(size / before)))
            stalled = stalled + 1 if not size < 0.8 * before else 0
        if not meet(barrier, strips):
            return
        if not finite:
            _erase(x, strip, strips)
        _finish(x, out[c], partial, strip, strips)
        if not meet(barrier, strips):
            return
        if strip == 0:
            report[c, STEPS] = steps
            report[c, RESIDUAL] = np.sqrt(size / norm) if norm > 0 else np.sqrt(size)
            report[c, BOUND] = bound + largest(partial, 3) if finite else np.nan
            met = CONVERGED if size <= goal else NOT_CONVERGED
            report[c, STATUS] = met if finite else NOT_FINITE
        if not meet(barrier, strips):
            return


class Plan(NamedTuple):
    """What depends on shape and ties alone."""

    spatial: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]

    @property
    def red_black(self) -> bool:
        """Whether one colour can be eliminated."""
        return is_axis_neighborhood(self.offsets)


def solve_image(
    edges: NDArray[Any],
    leak: NDArray[Any],
    rhs: NDArray[Any],
    out: NDArray[Any],
    report: NDArray[Any],
    plan: Plan,
    rtol: float,
    max_steps: int,
    strips: int,
) -> None:
    """Solve all C right-hand sides of one operator.

    Parameters
    ----------
    edges, leak
        (K, R, W) and (R, W), one floating type.
    rhs, out
        (C, R, W) of that type; ``out`` is written.
    report
        (C, 4) float64, written: steps, relative residual, error bound, status.
    plan, rtol, max_steps, strips
        Grid, stopping rule and the number of threads.
    """
    rows, width = rows_and_columns(plan.spatial)
    dtype = edges.dtype
    red_black = plan.red_black
    tables = row_tables(plan.spatial, plan.offsets)
    m_all = (width + 1) // 2 if red_black else width
    image, cropped = ((rows, width), dtype), ((rows, m_all), dtype)
    double = (((rows, width), np.dtype(np.float64)), ((strips, 3, width), np.dtype(np.float64)))
    requests = [image, image, ((strips, width), dtype), *double, cropped, cropped, cropped]
    if red_black:
        ties = (len(schur_offsets(len(plan.spatial))), rows, m_all)
        requests += [cropped, (ties, dtype), cropped, cropped]
    inverse, keep, buffer, solution, double_buffer, x, p, q, *more = workspace(requests)
    # Red rows read neighbours times a scale; a row of ones, seen R times, is no scale.
    # (One more: a single row would be contiguous, another type, and compiled anew.)
    ones = np.broadcast_to(np.ones(width, dtype), (rows + 1, width))
    full = (*tables, ones, row_parity(plan.spatial), inverse, buffer)
    if red_black:
        half_leak, half_weights, half_inverse, r = more
        half = (half_leak, half_weights, half_inverse, *red_black_tables(plan.spatial))
        paths = schur_paths(len(plan.spatial))
    else:
        half = (leak, edges, inverse, *tables)
        paths, r = np.zeros((0, 5), np.int64), keep
    # Beyond this the recursion's residual in the working precision says nothing any more.
    floor = 5e-7 if dtype == np.float32 else 1e-14
    work = (solution, keep, double_buffer, new_partial(rows), floor)
    args = (edges, leak, rhs, out, report, full, half, paths, (x, r, p, q), work)
    run_strips(solve_strip, (*args, red_black, rtol, max_steps), strips)
