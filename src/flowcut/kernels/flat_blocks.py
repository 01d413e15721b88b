"""What kernels on flat layouts do with one block of places, and who runs the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flowcut.kernels.crew import run_crew
from flowcut.kernels.jit import inner
from flowcut.kernels.taps_cpu import add_four, add_one
from flowcut.kernels.threads import run_items

# Runs a kernel with these arguments on one picture, with helpers or without.
Runner = Callable[[Any, tuple[Any, ...]], Any]

# Parts of one picture that are summed by themselves: the number does not depend on threads, and so the
# sum of the parts has the same bits for any number of them.
PIECES = 32
# Below so many pixels a helper costs more than it brings.
_SMALL = 1 << 14


@inner
def share(count: int, part: int, parts: int) -> tuple[int, int]:
    """First and last (exclusive) of ``count`` things that a part takes."""
    return count * part // parts, count * (part + 1) // parts


@inner
def gather_block(weights: Any, x: Any, out: Any, shifts: Any, transpose: bool, at: int, n: int) -> None:
    """out = Omega x, or Omega^T x, on n places from ``at``: four taps at once, all channels while they last.

    weights (K, n) belong to these places (:func:`flowcut.kernels.flat.pack_weight_block`):
    out_i = sum_k weights_k(i) x(i + d_k), with -d_k for the transpose.
    """
    for c in range(x.shape[0]):
        row = out[c, at:]
        for i in range(n):
            row[i] = 0
    taps, sign = len(shifts), -1 if transpose else 1
    for k in range(0, taps - 3, 4):
        p0, p1 = at + sign * shifts[k], at + sign * shifts[k + 1]
        p2, p3 = at + sign * shifts[k + 2], at + sign * shifts[k + 3]
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for c in range(x.shape[0]):
            add_four(out[c, at:], w0, w1, w2, w3, x[c, p0:], x[c, p1:], x[c, p2:], x[c, p3:], n)
    for k in range(taps - taps % 4, taps):
        p = at + sign * shifts[k]
        for c in range(x.shape[0]):
            add_one(out[c, at:], weights[k], x[c, p:], n)


@inner
def replicate_block(s: Any, x: Any, mean: Any, at: int, n: int) -> None:
    """x <- R_s x = s (x - <s, x>) on n places from ``at`` (LAF (2.4a)); s, x (C, length), mean (n,)."""
    for i in range(n):
        mean[i] = 0
    for c in range(x.shape[0]):
        add_one(mean, s[c, at:], x[c, at:], n)
    for c in range(x.shape[0]):
        row, own = x[c, at:], s[c, at:]
        for i in range(n):
            row[i] = own[i] * (row[i] - mean[i])


@inner
def dot(u: Any, v: Any, n: int) -> float:
    """Inner product of n numbers in their own precision."""
    total = u.dtype.type(0)
    for i in range(n):
        total += u[i] * v[i]
    return total


def run_images(items: int, pixels: int, work: Callable[[int, Runner], object]) -> None:
    """Call ``work(item, run)``: small pictures side by side, a large one with helpers.

    ``run(kernel, arguments)`` runs a kernel that takes last whether it leads, and its crew.
    """
    threads = torch.get_num_threads()
    helpers = 0 if items >= threads or pixels < _SMALL else threads - 1

    def run(kernel: Any, arguments: tuple[Any, ...]) -> Any:
        return run_crew(kernel, arguments, helpers)

    if helpers:
        for n in range(items):
            work(n, run)
    else:
        run_items(lambda n: work(n, run), items)
