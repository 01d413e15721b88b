"""Red-black elimination: half of the unknowns of a checkerboard grid disappear exactly.

Pixels of one colour (red, odd sum of coordinates) are tied to the other colour only. With
D_j = leak_j + sum_i w_ij the red ones are x_j = (b_j + sum_i w_ij x_i) / D_j, and what is
left on the black ones is again a stencil in difference form:

    leak'_i = leak_i + sum_j w_ij leak_j / D_j,      w'_il = sum_j w_ij w_jl / D_j.

Every term is positive, so nothing cancels, in float32 and at any contrast. Full-lattice rows
are worked on whole (contiguous loads) and every second entry is kept.
"""

from __future__ import annotations

from typing import Any

from flowcut.kernels.cg_cpu import block_rows, strip_blocks
from flowcut.kernels.jit import inner


@inner
def copy_row(source: Any, out: Any) -> None:
    """out = source, without the temporary that an assignment of arrays makes in case they overlap."""
    for m in range(out.shape[0]):
        out[m] = source[m]


@inner
def add_ties(edges: Any, forward: Any, backward: Any, shift: Any, r: int, out: Any) -> bool:
    """out += sum of the ties of every pixel of row r; False where one is NaN, inf or negative."""
    width = out.shape[0]
    good = True
    infinity = edges.dtype.type(float("inf"))
    for k in range(edges.shape[0]):
        s = shift[k, 0]
        q = forward[k, r]
        if q >= 0:
            lo = max(0, -s)
            n = min(width, width - s) - lo
            target, ties = out[lo:], edges[k, r, lo:]
            bad = 0
            for i in range(n):
                w = ties[i]
                bad += not (w >= 0 and w < infinity)
                target[i] += w
            good = good and bad == 0
        q = backward[k, r]
        if q >= 0:
            lo = max(0, s)
            n = min(width, width + s) - lo
            target, ties = out[lo:], edges[k, q, lo - s :]
            for i in range(n):
                target[i] += ties[i]
    return good


@inner
def _neighbour_row(forward: Any, backward: Any, axis: int, sign: int, r: int) -> int:
    return forward[axis, r] if sign > 0 else backward[axis, r]


@inner
def schur_row(
    edges: Any,
    forward: Any,
    backward: Any,
    paths: Any,
    tie: int,
    r: int,
    inverse: Any,
    buffer: Any,
) -> None:
    """buffer = w' of one tie for every pixel of full row r, 0 where a pixel is missing."""
    width = buffer.shape[0]
    last_axis = edges.shape[0] - 1
    buffer[:] = 0
    for path in range(paths.shape[0]):
        if paths[path, 0] != tie:
            continue
        a, sign_a, b, sign_b = paths[path, 1], paths[path, 2], paths[path, 3], paths[path, 4]
        q = _neighbour_row(forward, backward, a, sign_a, r)
        if q < 0:
            continue
        l = _neighbour_row(forward, backward, b, sign_b, q)
        if l < 0:
            continue
        u = sign_a if a == last_axis else 0
        v = sign_b if b == last_axis else 0
        lo = max(0, -u, -u - v)
        n = min(width, width - u, width - u - v) - lo
        if n <= 0:
            continue
        # A tie is stored at its lower end: here for a step forward, there for a step back.
        first = edges[a, r, lo:] if sign_a > 0 else edges[a, q, lo + u :]
        second = edges[b, q, lo + u :] if sign_b > 0 else edges[b, l, lo + u + v :]
        middle = inverse[q, lo + u :]
        out = buffer[lo:]
        for i in range(n):
            out[i] += first[i] * second[i] * middle[i]


@inner
def add_red_neighbours(
    edges: Any, forward: Any, backward: Any, r: int, value: Any, scale: Any, out: Any
) -> None:
    """out += sum over neighbours j of w_ij value_j scale_j, for every pixel i of row r."""
    width = out.shape[0]
    last_axis = edges.shape[0] - 1
    for axis in range(edges.shape[0]):
        for sign in range(1, -2, -2):
            q = _neighbour_row(forward, backward, axis, sign, r)
            if q < 0:
                continue
            u = sign if axis == last_axis else 0
            lo = max(0, -u)
            n = min(width, width - u) - lo
            if n <= 0:
                continue
            ties = edges[axis, r, lo:] if sign > 0 else edges[axis, q, lo + u :]
            other, other_scale = value[q, lo + u :], scale[q, lo + u :]
            target = out[lo:]
            for i in range(n):
                target[i] += ties[i] * other[i] * other_scale[i]


@inner
def assemble(
    edges: Any,
    leak: Any,
    forward: Any,
    backward: Any,
    paths: Any,
    parity: Any,
    inverse: Any,
    black_leak: Any,
    black_weights: Any,
    buffer: Any,
    strip: int,
    strips: int,
) -> None:
    """Fill leak' (R, M) and w' (E, R, M) of the black half; ``inverse`` is 1/D (R, W)."""
    rows = leak.shape[0]
    first, last = strip_blocks(rows, strip, strips)
    for block in range(first, last):
        start, stop = block_rows(rows, block)
        for r in range(start, stop):
            copy_row(leak[r], buffer)
            add_red_neighbours(edges, forward, backward, r, leak, inverse, buffer)
            compress_row(buffer, parity[r], 1, black_leak[r])
            for tie in range(black_weights.shape[0]):
                schur_row(edges, forward, backward, paths, tie, r, inverse, buffer)
                compress_row(buffer, parity[r], 0, black_weights[tie, r])


@inner
def compress_row(full: Any, parity: int, padding: float, out: Any) -> None:
    """Keep the black entries of a full row; a missing last one gets ``padding``."""
    count = (full.shape[0] - parity + 1) // 2
    black = full[parity:]
    for m in range(count):
        out[m] = black[2 * m]
    for m in range(count, out.shape[0]):
        out[m] = padding


@inner
def black_diagonal(
    leak: Any,
    weights: Any,
    forward: Any,
    backward: Any,
    shift: Any,
    inverse: Any,
    strip: int,
    strips: int,
) -> None:
    """inverse = 1 / (leak + incident weights), summed without a cancellation."""
    rows, m_all = leak.shape
    one = leak.dtype.type(1)
    first, last = strip_blocks(rows, strip, strips)
    for block in range(first, last):
        start, stop = block_rows(rows, block)
        for r in range(start, stop):
            out = inverse[r]
            copy_row(leak[r], out)
            for e in range(weights.shape[0]):
                if forward[e, r] >= 0:
                    ties = weights[e, r]
                    for m in range(m_all):
                        out[m] += ties[m]
                q = backward[e, r]
                if q >= 0:
                    s = shift[e, q]
                    lo = max(0, s)
                    n = min(m_all, m_all + s) - lo
                    target, ties = out[lo:], weights[e, q, lo - s :]
                    for i in range(n):
                        target[i] += ties[i]
            for m in range(m_all):
                out[m] = one / out[m]


@inner
def reduce_to_black(edges: Any, full: Any, keep: Any, work: Any, strip: int, strips: int) -> None:
    """Right-hand side of the black half: r_i + sum_j w_ij r_j / D_j."""
    forward, backward, _, _, parity, inverse, buffer = full
    first, last = strip_blocks(keep.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(keep.shape[0], block)
        for r in range(start, stop):
            copy_row(keep[r], buffer[strip])
            add_red_neighbours(edges, forward, backward, r, keep, inverse, buffer[strip])
            compress_row(buffer[strip], parity[r], 0, work[r])


@inner
def write_black(full: Any, half: Any, keep: Any, strip: int, strips: int) -> None:
    """Put the black half's answer into its places of a full image."""
    parity = full[4]
    first, last = strip_blocks(keep.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(keep.shape[0], block)
        for r in range(start, stop):
            row, black = keep[r], half[r]
            for m in range((row.shape[0] - parity[r] + 1) // 2):
                row[2 * m + parity[r]] = black[m]


@inner
def write_red(edges: Any, full: Any, ones: Any, keep: Any, strip: int, strips: int) -> None:
    """Red pixels from their black neighbours: x_j = (r_j + sum_i w_ij x_i) / D_j."""
    forward, backward, _, _, parity, inverse, buffer = full
    first, last = strip_blocks(keep.shape[0], strip, strips)
    for block in range(first, last):
        start, stop = block_rows(keep.shape[0], block)
        for r in range(start, stop):
            row, sums, inverse_row = keep[r], buffer[strip], inverse[r]
            copy_row(row, sums)
            add_red_neighbours(edges, forward, backward, r, keep, ones, sums)
            for m in range(1 - parity[r], row.shape[0], 2):
                row[m] = sums[m] * inverse_row[m]
