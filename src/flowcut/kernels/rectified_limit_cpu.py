"""Where S-flows with rectified couplings end, by Numba; the bound is derived in the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.rectified_blocks import (
    BLOCK,
    Problem,
    block_memory,
    contrast,
    divide,
    load,
    read_problem,
    step_block,
)
from flowcut.kernels.rectified_reference import CHECK_EVERY
from flowcut.kernels.threads import run_items


@inner
def _gain_one(work, pairs):  # type: ignore[no-untyped-def]
    """G = the bound of the reference for one channel: + omega |tanh| for equal signs, - omega for others."""
    s, x, own, g = work.s[0], work.ties, work.diagonal, work.g[0]
    for i in range(s.shape[0]):
        for b in range(BLOCK):
            g[i, b] = own[i, b] * abs(s[i, b])
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        xe, si, sj, gi, gj = x[e], s[i], s[j], g[i], g[j]
        for b in range(BLOCK):
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
        for b in range(BLOCK):
            share = s[_label(s, i, b), i, b]
            for c in range(s.shape[0]):
                g[c, i, b] = own[i, b] * (2 * share - 1)
    for e in range(x.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        for b in range(BLOCK):
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
    work = divide(memory, ties.shape[0], logits.shape[0], logits.shape[1])
    load(problem, logits, work, first)
    s = work.s
    width = min(BLOCK, labels.shape[1] - first)
    missing = width
    for count in range(max_steps + 1):
        last = count == max_steps
        if last or count % CHECK_EVERY == 0:
            contrast(work.v, s)
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
        step_block(work, problem.pairs, step)
        step *= growth


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
    problem = read_problem(ties, diagonal, pairs, epsilon)
    v, found, count = logits.contiguous().numpy(), labels.numpy(), taken.numpy()
    number = problem.ties.dtype.type

    def run(block: int) -> None:
        memory = block_memory(problem, v.shape)
        _limit(*problem, v, number(step), number(growth), max_steps, found, count, memory, block * BLOCK)

    run_items(run, -(-logits.shape[2] // BLOCK))
    return labels, taken
