"""The inner loop of all window products: one row gathers its neighbours, all channels at once.

Taps (offsets) are taken four at a time, so that a row of the sum is loaded and stored once for four
products, and a row of weights, once in the nearest cache, serves every channel.
"""

from __future__ import annotations

from typing import Any

from flowcut.kernels.jit import inner

# Integers that gather_row needs to remember four taps: row of the weights, row of x, both shifts.
SLOTS = (4, 5)


@inner
def copy_row(out: Any, x: Any) -> None:
    """out = x; an assignment of slices would allocate."""
    for i in range(len(out)):
        out[i] = x[i]


@inner
def add_one(out: Any, w: Any, x: Any, n: int) -> None:
    """out += w x."""
    for i in range(n):
        out[i] += w[i] * x[i]


@inner
def add_four(
    out: Any, w0: Any, w1: Any, w2: Any, w3: Any, x0: Any, x1: Any, x2: Any, x3: Any, n: int
) -> None:
    """out += w0 x0 + w1 x1 + w2 x2 + w3 x3."""
    for i in range(n):
        out[i] += (w0[i] * x0[i] + w1[i] * x1[i]) + (w2[i] * x2[i] + w3[i] * x3[i])


@inner
def gather_row(
    weights: Any, x: Any, out: Any, rows: Any, shift: Any, r: int, transpose: bool, slots: Any
) -> None:
    """out_c = row r of Omega x_c (or of its transpose) for every channel c.

    weights (K, R, W); x (C, R, W); out (C, W); rows (K, R): ``forward``, or ``backward`` for the transpose;
    shift (K, R); slots int64 of shape SLOTS.
    """
    width = out.shape[1]
    out[:] = 0
    count = 0
    for k in range(weights.shape[0]):
        q = rows[k, r]
        if q < 0:
            continue
        # out[i] gets weights[k, own, i + a] * x[c, q, i + b] for lo <= i < hi.
        s = -shift[k, q] if transpose else shift[k, r]
        slot = slots[count]
        slot[0], slot[1], slot[2] = k, q, s
        slot[3], slot[4] = max(0, -s), min(width, width - s)
        count += 1
        if count == 4:
            _flush_four(weights, x, out, r, transpose, slots)
            count = 0
    for t in range(count):
        slot = slots[t]
        _range(weights, x, out, r, transpose, slot, slot[3], slot[4])


@inner
def _range(weights: Any, x: Any, out: Any, r: int, transpose: bool, slot: Any, first: int, last: int) -> None:
    """One tap on columns first to last."""
    if last <= first:
        return
    k, q, s = slot[0], slot[1], slot[2]
    own, a = (q, first + s) if transpose else (r, first)
    for c in range(x.shape[0]):
        add_one(out[c, first:], weights[k, own, a:], x[c, q, first + s :], last - first)


@inner
def _flush_four(weights: Any, x: Any, out: Any, r: int, transpose: bool, slots: Any) -> None:
    """Four taps: together where all have a neighbour, singly at the ends of the row."""
    low = max(max(slots[0, 3], slots[1, 3]), max(slots[2, 3], slots[3, 3]))
    high = min(min(slots[0, 4], slots[1, 4]), min(slots[2, 4], slots[3, 4]))
    if high <= low:
        for t in range(4):
            _range(weights, x, out, r, transpose, slots[t], slots[t, 3], slots[t, 4])
        return
    for t in range(4):
        _range(weights, x, out, r, transpose, slots[t], slots[t, 3], low)
        _range(weights, x, out, r, transpose, slots[t], high, slots[t, 4])
    k0, q0, s0 = slots[0, 0], slots[0, 1], slots[0, 2]
    k1, q1, s1 = slots[1, 0], slots[1, 1], slots[1, 2]
    k2, q2, s2 = slots[2, 0], slots[2, 1], slots[2, 2]
    k3, q3, s3 = slots[3, 0], slots[3, 1], slots[3, 2]
    o0, a0 = (q0, low + s0) if transpose else (r, low)
    o1, a1 = (q1, low + s1) if transpose else (r, low)
    o2, a2 = (q2, low + s2) if transpose else (r, low)
    o3, a3 = (q3, low + s3) if transpose else (r, low)
    w0, w1 = weights[k0, o0, a0:], weights[k1, o1, a1:]
    w2, w3 = weights[k2, o2, a2:], weights[k3, o3, a3:]
    for c in range(x.shape[0]):
        add_four(
            out[c, low:], w0, w1, w2, w3,
            x[c, q0, low + s0 :], x[c, q1, low + s1 :], x[c, q2, low + s2 :], x[c, q3, low + s3 :],
            high - low,
        )  # fmt: skip
