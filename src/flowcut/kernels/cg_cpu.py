"""Conjugate gradients on one grid of rows, the whole loop in one kernel.

The matrix is a stencil in difference form on (R, M) pixels,

    (A p)_i = leak_i p_i + sum_e w_e(i) (p_i - p_{i+e}) + w_e(i-e) (p_i - p_{i-e}),

which loses no digits however strong the ties are. Reductions are summed over blocks of
rows that depend on the shape alone, so any number of strips gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowcut.kernels.jit import inner
from flowcut.kernels.threads import meet

MAX_BLOCKS = 64


@inner
def block_rows(rows: int, block: int) -> tuple[int, int]:
    """The rows of one reduction block."""
    blocks = min(rows, MAX_BLOCKS)
    return rows * block // blocks, rows * (block + 1) // blocks


@inner
def strip_blocks(rows: int, strip: int, strips: int) -> tuple[int, int]:
    """The blocks that belong to one strip."""
    blocks = min(rows, MAX_BLOCKS)
    return blocks * strip // strips, blocks * (strip + 1) // strips


@inner
def total(partial: Any, column: int) -> float:
    """Sum one column of the per-block sums, always in the same order."""
    value = 0.0
    for block in range(partial.shape[0]):
        value += partial[block, column]
    return value


@inner
def apply_row(
    leak: Any, weights: Any, forward: Any, backward: Any, shift: Any, p: Any, r: int, out: Any
) -> None:
    """out = row r of A p."""
    m_all = p.shape[1]
    centre = p[r]
    leak_row = leak[r]
    for m in range(m_all):
        out[m] = leak_row[m] * centre[m]
    for e in range(weights.shape[0]):
        q = forward[e, r]
        if q >= 0:
            s = shift[e, r]
            lo = max(0, -s)
            n = min(m_all, m_all - s) - lo
            _add_differences(out[lo:], weights[e, r, lo:], centre[lo:], p[q, lo + s :], n)
        q = backward[e, r]
        if q >= 0:
            s = shift[e, q]
            lo = max(0, s)
            n = min(m_all, m_all + s) - lo
            _add_differences(out[lo:], weights[e, q, lo - s :], centre[lo:], p[q, lo - s :], n)


@inner
def _add_differences(out: Any, weight: Any, centre: Any, other: Any, n: int) -> None:
    for i in range(n):
        out[i] += weight[i] * (centre[i] - other[i])


@inner
def _apply(
    leak: Any,
    weights: Any,
    forward: Any,
    backward: Any,
    shift: Any,
    p: Any,
    out: Any,
    partial: Any,
    strip: int,
    strips: int,
) -> None:
    """out = A p and p . A p, on one strip."""
    first, last = strip_blocks(p.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(p.shape[0], block)
        dot = 0.0
        for r in range(start, stop):
            apply_row(leak, weights, forward, backward, shift, p, r, out[r])
            row, image = p[r], out[r]
            s = leak.dtype.type(0)
            for m in range(row.shape[0]):
                s += row[m] * image[m]
            dot += s
        partial[block, 0] = dot


@inner
def _step(
    alpha: float, inverse: Any, x: Any, r: Any, p: Any, q: Any, partial: Any, strip: int, strips: int
) -> None:
    """x += alpha p, r -= alpha q, with r . r and r . r / diagonal, on one strip."""
    a = x.dtype.type(alpha)
    first, last = strip_blocks(p.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(p.shape[0], block)
        squares, scaled = 0.0, 0.0
        for row in range(start, stop):
            x_row, r_row, p_row, q_row, inverse_row = x[row], r[row], p[row], q[row], inverse[row]
            s = x.dtype.type(0)
            z = x.dtype.type(0)
            for m in range(x_row.shape[0]):
                x_row[m] += a * p_row[m]
                value = r_row[m] - a * q_row[m]
                r_row[m] = value
                s += value * value
                z += value * value * inverse_row[m]
            squares += s
            scaled += z
        partial[block, 1] = squares
        partial[block, 2] = scaled


@inner
def _direct(beta: float, inverse: Any, r: Any, p: Any, strip: int, strips: int) -> None:
    """p = r / diagonal + beta p, on one strip."""
    b = p.dtype.type(beta)
    first, last = strip_blocks(p.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(p.shape[0], block)
        for row in range(start, stop):
            r_row, p_row, inverse_row = r[row], p[row], inverse[row]
            for m in range(p_row.shape[0]):
                p_row[m] = r_row[m] * inverse_row[m] + b * p_row[m]


@inner
def conjugate_gradients(
    leak: Any,
    weights: Any,
    inverse: Any,
    forward: Any,
    backward: Any,
    shift: Any,
    x: Any,
    r: Any,
    p: Any,
    q: Any,
    partial: Any,
    reduction: float,
    max_steps: int,
    strip: int,
    strips: int,
    barrier: Any,
) -> int:
    """Jacobi-scaled CG for A x = r from x = 0, until |r| <= reduction * |r at the start|.

    ``r`` is overwritten by the recursion's residual; ``p`` and ``q`` are work space, all
    (R, M). Returns the number of steps, -1 when the run was called off.
    """
    x_zero = x.dtype.type(0)
    first, last = strip_blocks(x.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(x.shape[0], block)
        x[start:stop] = x_zero
        p[start:stop] = x_zero
        q[start:stop] = x_zero
    _step(0.0, inverse, x, r, p, q, partial, strip, strips)
    _direct(0.0, inverse, r, p, strip, strips)
    if not meet(barrier, strips):
        return -1
    goal = total(partial, 1) * reduction * reduction
    squares, scaled = total(partial, 1), total(partial, 2)
    steps = 0
    while steps < max_steps and squares > goal:
        _apply(leak, weights, forward, backward, shift, p, q, partial, strip, strips)
        if not meet(barrier, strips):
            return -1
        curvature = total(partial, 0)
        # Not positive: rounding has eaten the direction. NaN: so was the right-hand side.
        if not curvature > 0.0:
            break
        alpha = scaled / curvature
        _step(alpha, inverse, x, r, p, q, partial, strip, strips)
        if not meet(barrier, strips):
            return -1
        squares = total(partial, 1)
        beta, scaled = total(partial, 2) / scaled, total(partial, 2)
        _direct(beta, inverse, r, p, strip, strips)
        if not meet(barrier, strips):
            return -1
        steps += 1
    return steps


def new_partial(rows: int) -> NDArray[np.float64]:
    """Room for the per-block values: columns 0 to 2 belong to CG, 3 to 5 to those who call it.

    No barrier stands between reading a value and CG's first sums, so the two must not share columns.
    """
    return np.zeros((min(rows, MAX_BLOCKS), 6))
