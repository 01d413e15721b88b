"""Blocks of samples of the S-flow with rectified couplings: ties, pixels and labels are rows over samples.

Inner loops run over the samples of a block, whose number is a constant: they are whole vectors, and no sum
runs across them, so a sample's result depends neither on its block nor on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.jit import inner
from flowcut.kernels.workspace import workspace

# Samples of a block.
BLOCK = 64


class Work(NamedTuple):
    """Arrays of one block.

    Rectified ties (E, B) and diagonal (n, B), sums of the gradients by them, and five of the logits' shape
    (C, n, B).
    """

    ties: Any
    diagonal: Any
    by_ties: Any
    by_diagonal: Any
    v: Any
    s: Any
    p: Any
    q: Any
    g: Any


class Problem(NamedTuple):
    """What the flow is made of: ties (E, M), diagonal (n, M), pairs (2, E), epsilon."""

    ties: Any
    diagonal: Any
    pairs: Any
    epsilon: Any


@inner
def divide(memory, edges, channels, n):  # type: ignore[no-untyped-def]
    """The arrays of a block, from one array of rows: a tuple of arrays is slow to hand over from Python."""
    a, b, size = 2 * edges, 2 * edges + 2 * n, channels * n
    shape = (channels, n, BLOCK)
    return Work(
        memory[:edges],
        memory[a : a + n],
        memory[edges:a],
        memory[a + n : b],
        memory[b : b + size].reshape(shape),
        memory[b + size : b + 2 * size].reshape(shape),
        memory[b + 2 * size : b + 3 * size].reshape(shape),
        memory[b + 3 * size : b + 4 * size].reshape(shape),
        memory[b + 4 * size : b + 5 * size].reshape(shape),
    )


@inner
def _contrast_one(u, s):  # type: ignore[no-untyped-def]
    """s = tanh(u / 2) over a row, by arithmetic alone, so that it becomes vectors.

    Lambert's continued fraction of tanh to the seventh order at u / 16, then three times
    tanh(2 y) = 2 tanh(y) / (1 + tanh(y)^2): error below 4e-16 in double precision. tanh(20) rounds to 1.
    """
    far = u.dtype.type(40)
    scale, two, one = u.dtype.type(0.0625), u.dtype.type(2), u.dtype.type(1)
    a0, a1, a2 = u.dtype.type(135135), u.dtype.type(17325), u.dtype.type(378)
    b1, b2, b3 = u.dtype.type(62370), u.dtype.type(3150), u.dtype.type(28)
    for b in range(BLOCK):
        y = min(max(u[b], -far), far) * scale
        q = y * y
        t = y * (a0 + q * (a1 + q * (a2 + q))) / (a0 + q * (b1 + q * (b2 + q * b3)))
        t = two * t / (one + t * t)
        t = two * t / (one + t * t)
        s[b] = two * t / (one + t * t)


@inner
def contrast(v, s):  # type: ignore[no-untyped-def]
    """tanh(v / 2) or softmax(v) of all pixels of a block, (C, n, B)."""
    channels, n = v.shape[0], v.shape[1]
    if channels == 1:
        for i in range(n):
            _contrast_one(v[0, i], s[0, i])
        return
    for i in range(n):
        for b in range(BLOCK):
            largest = v[0, i, b]
            for c in range(1, channels):
                largest = max(largest, v[c, i, b])
            total = v[0, i, b] * 0
            for c in range(channels):
                s[c, i, b] = np.exp(v[c, i, b] - largest)
                total += s[c, i, b]
            for c in range(channels):
                s[c, i, b] /= total


@inner
def couple(s, x, own, pairs, out):  # type: ignore[no-untyped-def]
    """Out = Omega s for one channel; x and own are rectified."""
    for i in range(s.shape[0]):
        for b in range(BLOCK):
            out[i, b] = own[i, b] * s[i, b]
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        xe, si, sj, yi, yj = x[e], s[i], s[j], out[i], out[j]
        for b in range(BLOCK):
            yi[b] += xe[b] * sj[b]
            yj[b] += xe[b] * si[b]


@inner
def centre(out):  # type: ignore[no-untyped-def]
    """Zero mean over the channels (C, n, B)."""
    channels = out.shape[0]
    share = out.dtype.type(1) / out.dtype.type(channels)
    for i in range(out.shape[1]):
        for b in range(BLOCK):
            total = out[0, i, b]
            for c in range(1, channels):
                total += out[c, i, b]
            total *= share
            for c in range(channels):
                out[c, i, b] -= total


@inner
def step_block(work, pairs, step):  # type: ignore[no-untyped-def]
    """V += step P Omega s(v)."""
    v, s, slope = work.v, work.s, work.p
    contrast(v, s)
    for c in range(v.shape[0]):
        couple(s[c], work.ties, work.diagonal, pairs, slope[c])
    if v.shape[0] > 1:
        centre(slope)
    for c in range(v.shape[0]):
        for i in range(v.shape[1]):
            for b in range(BLOCK):
                v[c, i, b] += step * slope[c, i, b]


@inner
def copy_in(source, first, out):  # type: ignore[no-untyped-def]
    """Columns of a block, zero beyond the last."""
    width = min(BLOCK, source.shape[1] - first)
    zero = source.dtype.type(0)
    for e in range(source.shape[0]):
        row, to = source[e], out[e]
        if width == BLOCK:
            for b in range(BLOCK):
                to[b] = row[first + b]
        else:
            for b in range(BLOCK):
                to[b] = row[first + b] if b < width else zero


@inner
def _rectify(source, first, floor, out):  # type: ignore[no-untyped-def]
    """Out = max(X, 0) + floor."""
    copy_in(source, first, out)
    zero = source.dtype.type(0)
    for e in range(out.shape[0]):
        to = out[e]
        for b in range(BLOCK):
            to[b] = max(to[b], zero) + floor


@inner
def copy_out(block, target, first):  # type: ignore[no-untyped-def]
    """Columns of a block back to where they belong."""
    width = min(BLOCK, target.shape[1] - first)
    for e in range(target.shape[0]):
        row, to = block[e], target[e]
        if width == BLOCK:
            for b in range(BLOCK):
                to[first + b] = row[b]
        else:
            for b in range(width):
                to[first + b] = row[b]


@inner
def load(problem, logits, work, first):  # type: ignore[no-untyped-def]
    """Rectified couplings and logits of a block."""
    _rectify(problem.ties, first, problem.epsilon - problem.epsilon, work.ties)
    _rectify(problem.diagonal, first, problem.epsilon, work.diagonal)
    for c in range(logits.shape[0]):
        copy_in(logits[c], first, work.v[c])


def read_problem(ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float) -> Problem:
    """As NumPy arrays."""
    x, own = ties.detach().contiguous().numpy(), diagonal.detach().contiguous().numpy()
    return Problem(x, own, pairs.contiguous().numpy(), x.dtype.type(epsilon))


def block_memory(problem: Problem, shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows that :func:`divide` shares out."""
    rows = 2 * (problem.ties.shape[0] + shape[1]) + 5 * shape[0] * shape[1]
    return workspace([((rows, BLOCK), problem.ties.dtype)])[0]
