"""The S-flow with rectified couplings and its adjoint by Numba; formulas are in the reference."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.rectified_blocks import (
    BLOCK,
    Problem,
    block_memory,
    centre,
    contrast,
    copy_in,
    copy_out,
    couple,
    divide,
    load,
    read_problem,
    step_block,
)
from flowcut.kernels.threads import run_items
from flowcut.kernels.workspace import fresh


@jit
def _forward(ties, diagonal, pairs, epsilon, logits, steps, tape, memory, first):  # type: ignore[no-untyped-def]
    """Logits (C, n, M) are advanced in place; tape (steps, C, n, M) takes what was before each step."""
    problem = Problem(ties, diagonal, pairs, epsilon)
    work = divide(memory, ties.shape[0], logits.shape[0], logits.shape[1])
    load(problem, logits, work, first)
    for t in range(steps.shape[0]):
        for c in range(logits.shape[0]):
            copy_out(work.v[c], tape[t, c], first)
        step_block(work, problem.pairs, steps[t])
    for c in range(logits.shape[0]):
        copy_out(work.v[c], logits[c], first)


@inner
def _pull_back(g, s, pull):  # type: ignore[no-untyped-def]
    """G += (ds/dv)^T pull."""
    channels = g.shape[0]
    half, one = g.dtype.type(0.5), g.dtype.type(1)
    for i in range(g.shape[1]):
        if channels == 1:
            for b in range(BLOCK):
                g[0, i, b] += pull[0, i, b] * (one - s[0, i, b] * s[0, i, b]) * half
            continue
        for b in range(BLOCK):
            mean = g[0, i, b] * 0
            for c in range(channels):
                mean += s[c, i, b] * pull[c, i, b]
            for c in range(channels):
                g[c, i, b] += s[c, i, b] * (pull[c, i, b] - mean)


@inner
def _outer(p, s, pairs, by_ties, by_diagonal):  # type: ignore[no-untyped-def]
    """Add what one step gives to the gradients by ties and diagonal, one channel."""
    for i in range(p.shape[0]):
        for b in range(BLOCK):
            by_diagonal[i, b] += p[i, b] * s[i, b]
    for e in range(by_ties.shape[0]):
        i, j = pairs[0, e], pairs[1, e]
        ge, pi, pj, si, sj = by_ties[e], p[i], p[j], s[i], s[j]
        for b in range(BLOCK):
            ge[b] += pi[b] * sj[b] + pj[b] * si[b]


@inner
def _clear(block):  # type: ignore[no-untyped-def]
    zero = block.dtype.type(0)
    for e in range(block.shape[0]):
        to = block[e]
        for b in range(BLOCK):
            to[b] = zero


@inner
def _mask_out(block, raw, target, first):  # type: ignore[no-untyped-def]
    """What was not rectified away."""
    zero = target.dtype.type(0)
    for e in range(target.shape[0]):
        row, x = block[e], raw[e]
        for b in range(min(BLOCK, target.shape[1] - first)):
            row[b] = row[b] if x[first + b] > 0 else zero
    copy_out(block, target, first)


@jit
def _backward(ties, diagonal, pairs, epsilon, tape, steps, grad, by_ties, by_diagonal, memory, first):  # type: ignore[no-untyped-def]
    """Grad (C, n, M) becomes the gradient by the start; see the reference for the formulas."""
    channels, n = grad.shape[0], grad.shape[1]
    problem = Problem(ties, diagonal, pairs, epsilon)
    work = divide(memory, ties.shape[0], channels, n)
    v, s, p, pull, g = work.v, work.s, work.p, work.q, work.g
    load(problem, grad, work, first)
    for c in range(channels):
        copy_in(grad[c], first, g[c])
    _clear(work.by_ties)
    _clear(work.by_diagonal)
    for t in range(steps.shape[0] - 1, -1, -1):
        for c in range(channels):
            copy_in(tape[t, c], first, v[c])
        contrast(v, s)
        for c in range(channels):
            for i in range(n):
                for b in range(BLOCK):
                    p[c, i, b] = steps[t] * g[c, i, b]
        if channels > 1:
            centre(p)
        for c in range(channels):
            _outer(p[c], s[c], problem.pairs, work.by_ties, work.by_diagonal)
            couple(p[c], work.ties, work.diagonal, problem.pairs, pull[c])
        _pull_back(g, s, pull)
    for c in range(channels):
        copy_out(g[c], grad[c], first)
    _mask_out(work.by_ties, problem.ties, by_ties, first)
    _mask_out(work.by_diagonal, problem.diagonal, by_diagonal, first)


def rectified_cpu(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
) -> tuple[Tensor, Tensor]:
    """``rectified_flow`` by Numba."""
    out = logits.clone(memory_format=torch.contiguous_format)
    tape = fresh((len(steps), *logits.shape), logits.dtype)
    problem = read_problem(ties, diagonal, pairs, epsilon)
    times = np.asarray(steps, problem.ties.dtype)
    y, before = out.numpy(), tape.numpy()

    def run(block: int) -> None:
        _forward(*problem, y, times, before, block_memory(problem, y.shape), block * BLOCK)

    run_items(run, -(-logits.shape[2] // BLOCK))
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
    problem = read_problem(ties, diagonal, pairs, epsilon)
    times = np.asarray(steps, problem.ties.dtype)
    before, y = tape.contiguous().numpy(), out.numpy()
    gt, gd = by_ties.numpy(), by_diagonal.numpy()

    def run(block: int) -> None:
        _backward(*problem, before, times, y, gt, gd, block_memory(problem, y.shape), block * BLOCK)

    run_items(run, -(-grad.shape[2] // BLOCK))
    return out, by_ties, by_diagonal
