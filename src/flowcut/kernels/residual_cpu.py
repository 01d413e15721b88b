"""The residual b - A x in double precision and difference form, and what it says of x."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowcut.kernels.cg_cpu import block_rows, new_partial, strip_blocks
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.layout import RowTables

EPSILON = 2.220446049250313e-16


@inner
def residual_row(
    edges: Any, leak: Any, forward: Any, backward: Any, shift: Any, b: Any, x: Any, r: int, out: Any
) -> None:
    """Row r of b - A x in out[0], the magnitude of its terms in out[1], of its products in out[2]."""
    width = x.shape[1]
    rest, size, products = out[0], out[1], out[2]
    centre = x[r]
    for m in range(width):
        own = leak[r, m] * centre[m]
        rest[m] = b[r, m] - own
        size[m] = abs(b[r, m]) + abs(own)
        products[m] = abs(own)
    for k in range(edges.shape[0]):
        q = forward[k, r]
        if q >= 0:
            s = shift[k, r]
            lo = max(0, -s)
            n = min(width, width - s) - lo
            _subtract_flow(out[:, lo:], edges[k, r, lo:], centre[lo:], x[q, lo + s :], n)
        q = backward[k, r]
        if q >= 0:
            s = shift[k, q]
            lo = max(0, s)
            n = min(width, width + s) - lo
            _subtract_flow(out[:, lo:], edges[k, q, lo - s :], centre[lo:], x[q, lo - s :], n)


@inner
def _subtract_flow(out: Any, weight: Any, centre: Any, other: Any, n: int) -> None:
    rest, size, products = out[0], out[1], out[2]
    for i in range(n):
        flow = weight[i] * (centre[i] - other[i])
        rest[i] -= flow
        size[i] += abs(flow)
        products[i] += weight[i] * (abs(centre[i]) + abs(other[i]))


@inner
def judge(
    edges: Any,
    leak: Any,
    forward: Any,
    backward: Any,
    shift: Any,
    b: Any,
    x: Any,
    keep: Any,
    scale: float,
    buffer: Any,
    partial: Any,
    strip: int,
    strips: int,
) -> None:
    """Residual of one strip, times ``scale``, into ``keep``, and what it says of x.

    Per block: |r|^2 into column 4, max |r| / leak into column 3, and into column 5 the |r|^2 that is left
    when every entry of x is the double next to its exact value: no iteration gets below.
    """
    # Each term is rounded a few times; what is lost is at most this share of its size.
    slack = EPSILON * (2 * edges.shape[0] + 4)
    first, last = strip_blocks(x.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(x.shape[0], block)
        squares, level, bound = 0.0, 0.0, 0.0
        for r in range(start, stop):
            residual_row(edges, leak, forward, backward, shift, b, x, r, buffer)
            rest, size, products, kept, leak_row = buffer[0], buffer[1], buffer[2], keep[r], leak[r]
            s, p = 0.0, 0.0
            for m in range(rest.shape[0]):
                kept[m] = rest[m] * scale
                s += rest[m] * rest[m]
                p += products[m] * products[m]
            for m in range(rest.shape[0]):
                error = abs(rest[m]) + slack * size[m]
                # Not "> 0": what is NaN has to show in the bound. And a NaN, once in it, stays.
                if error != 0.0:
                    ratio = error / leak_row[m]
                    bound = ratio if not ratio <= bound and bound == bound else bound
            squares += s
            level += p
        partial[block, 3] = bound
        partial[block, 4] = squares
        partial[block, 5] = level * EPSILON * EPSILON


@inner
def largest(partial: Any, column: int) -> float:
    """Maximum over one column of the per-block values; NaN wins."""
    value = 0.0
    for block in range(partial.shape[0]):
        v = partial[block, column]
        if not v <= value and value == value:
            value = v
    return value


@jit
def _judge_rows(
    edges: Any, leak: Any, forward: Any, backward: Any, shift: Any, b: Any, x: Any, r: Any, buffer: Any,
    partial: Any,
) -> None:  # fmt: skip
    judge(edges, leak, forward, backward, shift, b, x, r, 1.0, buffer, partial, 0, 1)


def judge_image(
    edges: NDArray[Any],
    leak: NDArray[Any],
    b: NDArray[Any],
    x: NDArray[Any],
    r: NDArray[Any],
    tables: RowTables,
    width: int,
) -> tuple[float, float]:
    """Write r = b - A x of one image; returns |r|^2 and the error bound. All float64."""
    partial = new_partial(x.shape[0])
    _judge_rows(edges, leak, *tables, b, x, r, np.empty((3, width)), partial)
    return float(partial[:, 4].sum()), float(partial[:, 3].max())
