"""The S-flow with rectified couplings by Numba: ties, pixels and labels are rows over a block of samples.

Inner loops run over the samples of a block, whose number is a constant: they are whole vectors, and no sum
runs across them, so a sample's result depends neither on its block nor on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.rectified_reference import CHECK_EVERY
from flowcut.kernels.threads import run_items
from flowcut.kernels.workspace import fresh, workspace

# Samples of a block.
_B = 64


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
def _divide(memory, edges, channels, n):  # type: ignore[no-untyped-def]
    """The arrays of a block, from one array of rows: a tuple of arrays is slow to hand over from Python."""
    a, b, size = 2 * edges, 2 * edges + 2 * n, channels * n
    shape = (channels, n, _B)
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
    for b in range(_B):
        y = min(max(u[b], -far), far) * scale
        q = y * y
        t = y * (a0 + q * (a1 + q * (a2 + q))) / (a0 + q * (b1 + q * (b2 + q * b3)))
        t = two * t / (one + t * t)
        t = two * t / (one + t * t)
        s[b] = two * t / (one + t * t)


@inner
def _contrast(v, s):  # type: ignore[no-untyped-def]
    """tanh(v / 2) or softmax(v) of all pixels of a block, (C, n, B)."""
    channels, n = v.shape[0], v.shape[1]
    if channels == 1:
        for i in range(n):
            _contrast_one(v[0, i], s[0, i])
        return
    for i in range(n):
        for b in range(_B):
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
def _couple(s, x, own, pairs, out):  # type: ignore[no-untyped-def]
    """Out = Omega s for one channel; x and own are rectified."""
    for i in range(s.shape[0]):
        for b in range(_B):
            out[i, b] = own[i, b] * s[i, b]
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        xe, si, sj, yi, yj = x[e], s[i], s[j], out[i], out[j]
        for b in range(_B):
            yi[b] += xe[b] * sj[b]
            yj[b] += xe[b] * si[b]


@inner
def _centre(out):  # type: ignore[no-untyped-def]
    """Zero mean over the channels (C, n, B)."""
    channels = out.shape[0]
    share = out.dtype.type(1) / out.dtype.type(channels)
    for i in range(out.shape[1]):
        for b in range(_B):
            total = out[0, i, b]
            for c in range(1, channels):
                total += out[c, i, b]
            total *= share
            for c in range(channels):
                out[c, i, b] -= total


@inner
def _step(work, pairs, step):  # type: ignore[no-untyped-def]
    """V += step P Omega s(v)."""
    v, s, slope = work.v, work.s, work.p
    _contrast(v, s)
    for c in range(v.shape[0]):
        _couple(s[c], work.ties, work.diagonal, pairs, slope[c])
    if v.shape[0] > 1:
        _centre(slope)
    for c in range(v.shape[0]):
        for i in range(v.shape[1]):
            for b in range(_B):
                v[c, i, b] += step * slope[c, i, b]


@inner
def _copy_in(source, first, out):  # type: ignore[no-untyped-def]
    """Columns of a block, zero beyond the last."""
    width = min(_B, source.shape[1] - first)
    zero = source.dtype.type(0)
    for e in range(source.shape[0]):
        row, to = source[e], out[e]
        if width == _B:
            for b in range(_B):
                to[b] = row[first + b]
        else:
            for b in range(_B):
                to[b] = row[first + b] if b < width else zero


@inner
def _rectify(source, first, floor, out):  # type: ignore[no-untyped-def]
    """Out = max(X, 0) + floor."""
    _copy_in(source, first, out)
    zero = source.dtype.type(0)
    for e in range(out.shape[0]):
        to = out[e]
        for b in range(_B):
            to[b] = max(to[b], zero) + floor


@inner
def _copy_out(block, target, first):  # type: ignore[no-untyped-def]
    width = min(_B, target.shape[1] - first)
    for e in range(target.shape[0]):
        row, to = block[e], target[e]
        if width == _B:
            for b in range(_B):
                to[first + b] = row[b]
        else:
            for b in range(width):
                to[first + b] = row[b]


@inner
def _load(problem, logits, work, first):  # type: ignore[no-untyped-def]
    _rectify(problem.ties, first, problem.epsilon - problem.epsilon, work.ties)
    _rectify(problem.diagonal, first, problem.epsilon, work.diagonal)
    for c in range(logits.shape[0]):
        _copy_in(logits[c], first, work.v[c])


@jit
def _forward(ties, diagonal, pairs, epsilon, logits, steps, tape, memory, first):  # type: ignore[no-untyped-def]
    """Logits (C, n, M) are advanced in place; tape (steps, C, n, M) takes what was before each step."""
    problem = Problem(ties, diagonal, pairs, epsilon)
    work = _divide(memory, ties.shape[0], logits.shape[0], logits.shape[1])
    _load(problem, logits, work, first)
    for t in range(steps.shape[0]):
        for c in range(logits.shape[0]):
            _copy_out(work.v[c], tape[t, c], first)
        _step(work, problem.pairs, steps[t])
    for c in range(logits.shape[0]):
        _copy_out(work.v[c], logits[c], first)


@inner
def _pull_back(g, s, pull):  # type: ignore[no-untyped-def]
    """G += (ds/dv)^T pull."""
    channels = g.shape[0]
    half, one = g.dtype.type(0.5), g.dtype.type(1)
    for i in range(g.shape[1]):
        if channels == 1:
            for b in range(_B):
                g[0, i, b] += pull[0, i, b] * (one - s[0, i, b] * s[0, i, b]) * half
            continue
        for b in range(_B):
            mean = g[0, i, b] * 0
            for c in range(channels):
                mean += s[c, i, b] * pull[c, i, b]
            for c in range(channels):
                g[c, i, b] += s[c, i, b] * (pull[c, i, b] - mean)


@inner
def _outer(p, s, pairs, by_ties, by_diagonal):  # type: ignore[no-untyped-def]
    """Add what one step gives to the gradients by ties and diagonal, one channel."""
    for i in range(p.shape[0]):
        for b in range(_B):
            by_diagonal[i, b] += p[i, b] * s[i, b]
    for e in range(by_ties.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        ge, pi, pj, si, sj = by_ties[e], p[i], p[j], s[i], s[j]
        for b in range(_B):
            ge[b] += pi[b] * sj[b] + pj[b] * si[b]


@inner
def _clear(block):  # type: ignore[no-untyped-def]
    zero = block.dtype.type(0)
    for e in range(block.shape[0]):
        to = block[e]
        for b in range(_B):
            to[b] = zero


@inner
def _mask_out(block, raw, target, first):  # type: ignore[no-untyped-def]
    """What was not rectified away."""
    zero = target.dtype.type(0)
    for e in range(target.shape[0]):
        row, x = block[e], raw[e]
        for b in range(min(_B, target.shape[1] - first)):
            row[b] = row[b] if x[first + b] > 0 else zero
    _copy_out(block, target, first)


@jit
def _backward(ties, diagonal, pairs, epsilon, tape, steps, grad, by_ties, by_diagonal, memory, first):  # type: ignore[no-untyped-def]
    """Grad (C, n, M) becomes the gradient by the start; see the reference for the formulas."""
    channels, n = grad.shape[0], grad.shape[1]
    problem = Problem(ties, diagonal, pairs, epsilon)
    work = _divide(memory, ties.shape[0], channels, n)
    v, s, p, pull, g = work.v, work.s, work.p, work.q, work.g
    _load(problem, grad, work, first)
    for c in range(channels):
        _copy_in(grad[c], first, g[c])
    _clear(work.by_ties)
    _clear(work.by_diagonal)
    for t in range(steps.shape[0] - 1, -1, -1):
        for c in range(channels):
            _copy_in(tape[t, c], first, v[c])
        _contrast(v, s)
        for c in range(channels):
            for i in range(n):
                for b in range(_B):
                    p[c, i, b] = steps[t] * g[c, i, b]
        if channels > 1:
            _centre(p)
        for c in range(channels):
            _outer(p[c], s[c], problem.pairs, work.by_ties, work.by_diagonal)
            _couple(p[c], work.ties, work.diagonal, problem.pairs, pull[c])
        _pull_back(g, s, pull)
    for c in range(channels):
        _copy_out(g[c], grad[c], first)
    _mask_out(work.by_ties, problem.ties, by_ties, first)
    _mask_out(work.by_diagonal, problem.diagonal, by_diagonal, first)


@inner
def _gain_one(work, pairs):  # type: ignore[no-untyped-def]
    """G = the bound of the reference for one channel: + omega |tanh| for equal signs, - omega for others."""
    s, x, own, g = work.s[0], work.ties, work.diagonal, work.g[0]
    for i in range(s.shape[0]):
        for b in range(_B):
            g[i, b] = own[i, b] * abs(s[i, b])
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        xe, si, sj, gi, gj = x[e], s[i], s[j], g[i], g[j]
        for b in range(_B):
            agree = si[b] * sj[b] > 0
            gi[b] += xe[b] * (abs(sj[b]) if agree else -1)
            gj[b] += xe[b] * (abs(si[b]) if agree else -1)


@inner
def _label(s, i, b):  # type: ignore[no-untyped-def]
    best = 0
    for c in range(1, s.shape[0]):
        if s[c, i, b] > s[best, i, b]:
            best = c
    return best


@inner
def _gain_pair(weight, s, i, j, b, own, rival, g):  # type: ignore[no-untyped-def]
    """What pixel j adds to the bounds of pixel i: own is i's label, rival j's."""
    share = s[rival, j, b]
    for c in range(s.shape[0]):
        if own == rival:
            g[c, i, b] += weight * (2 * share - 1)
        elif c == rival:
            g[c, i, b] -= weight
        else:
            g[c, i, b] -= weight * (1 - share)


@inner
def _gain_many(work, pairs):  # type: ignore[no-untyped-def]
    """G (C, n, B) = the bound of the reference for every rival label; the own label's entry means nothing."""
    s, x, own, g = work.s, work.ties, work.diagonal, work.g
    for i in range(s.shape[1]):
        for b in range(_B):
            share = s[_label(s, i, b), i, b]
            for c in range(s.shape[0]):
                g[c, i, b] = own[i, b] * (2 * share - 1)
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        for b in range(_B):
            a, r = _label(s, i, b), _label(s, j, b)
            _gain_pair(x[e, b], s, i, j, b, a, r, g)
            _gain_pair(x[e, b], s, j, i, b, r, a, g)


@inner
def _settled(work, b):  # type: ignore[no-untyped-def]
    """Whether the labels of sample b can no longer change."""
    s, g = work.s, work.g
    channels = s.shape[0]
    for i in range(s.shape[1]):
        if channels == 1:
            if not (g[0, i, b] >= 0 and s[0, i, b] != 0):
                return False
        else:
            a = _label(s, i, b)
            if not s[a, i, b] > 0.5:
                return False
            for c in range(channels):
                if not (c == a or g[c, i, b] >= 0):
                    return False
    return True


@jit
def _limit(ties, diagonal, pairs, epsilon, logits, step, growth, max_steps, labels, taken, memory, first):  # type: ignore[no-untyped-def]
    """Labels (n, M) and steps (M,) of a block; ``taken`` is -1 before."""
    problem = Problem(ties, diagonal, pairs, epsilon)
    work = _divide(memory, ties.shape[0], logits.shape[0], logits.shape[1])
    _load(problem, logits, work, first)
    s = work.s
    width = min(_B, labels.shape[1] - first)
    missing = width
    for count in range(max_steps + 1):
        last = count == max_steps
        if last or count % CHECK_EVERY == 0:
            _contrast(work.v, s)
            if s.shape[0] == 1:
                _gain_one(work, problem.pairs)
            else:
                _gain_many(work, problem.pairs)
            for b in range(width):
                if taken[first + b] >= 0:
                    continue
                ended = _settled(work, b)
                if ended:
                    taken[first + b] = count
                    missing -= 1
                if ended or last:
                    for i in range(s.shape[1]):
                        one = s.shape[0] == 1
                        labels[i, first + b] = s[0, i, b] > 0 if one else _label(s, i, b)
            if missing == 0:
                return
        _step(work, problem.pairs, step)
        step *= growth


def rectified_cpu(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
) -> tuple[Tensor, Tensor]:
    """``rectified_flow`` by Numba."""
    out = logits.clone(memory_format=torch.contiguous_format)
    tape = fresh((len(steps), *logits.shape), logits.dtype)
    problem = _problem(ties, diagonal, pairs, epsilon)
    times = np.asarray(steps, problem.ties.dtype)
    y, before = out.numpy(), tape.numpy()

    def run(block: int) -> None:
        _forward(*problem, y, times, before, _memory(problem, y.shape), block * _B)

    run_items(run, -(-logits.shape[2] // _B))
    return out, tape


def rectified_adjoint_cpu(
    tape: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    grad: Tensor,
    epsilon: float,
    steps: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """``rectified_flow_adjoint`` by Numba."""
    out = grad.clone(memory_format=torch.contiguous_format)
    by_ties, by_diagonal = fresh(ties.shape, ties.dtype), fresh(diagonal.shape, diagonal.dtype)
    problem = _problem(ties, diagonal, pairs, epsilon)
    times = np.asarray(steps, problem.ties.dtype)
    before, y = tape.contiguous().numpy(), out.numpy()
    gt, gd = by_ties.numpy(), by_diagonal.numpy()

    def run(block: int) -> None:
        _backward(*problem, before, times, y, gt, gd, _memory(problem, y.shape), block * _B)

    run_items(run, -(-grad.shape[2] // _B))
    return out, by_ties, by_diagonal


def limit_cpu(
    logits: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    epsilon: float,
    step: float,
    growth: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """``rectified_limit`` by Numba."""
    labels = torch.empty(logits.shape[1:], dtype=torch.uint8)
    taken = torch.full(logits.shape[2:], -1, dtype=torch.int64)
    problem = _problem(ties, diagonal, pairs, epsilon)
    v, found, count = logits.contiguous().numpy(), labels.numpy(), taken.numpy()
    number = problem.ties.dtype.type

    def run(block: int) -> None:
        memory = _memory(problem, v.shape)
        _limit(*problem, v, number(step), number(growth), max_steps, found, count, memory, block * _B)

    run_items(run, -(-logits.shape[2] // _B))
    return labels, taken


def _problem(ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float) -> Problem:
    x, own = ties.detach().contiguous().numpy(), diagonal.detach().contiguous().numpy()
    return Problem(x, own, pairs.contiguous().numpy(), x.dtype.type(epsilon))


def _memory(problem: Problem, shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows that :func:`_divide` shares out."""
    rows = 2 * (problem.ties.shape[0] + shape[1]) + 5 * shape[0] * shape[1]
    return workspace([((rows, _B), problem.ties.dtype)])[0]
