r"""Total variation on lines, exactly, and the isotonic fit: what the thesis' peers are made of.

    lines_total_variation(scores, weights): (M, L), (M, L) -> (M, L)

minimises 1/2 ||z - x||^2 + sum_i w_i |z_i - z_{i+1}| on every line (the last weight of a line is never read),
by dynamic programming (Johnson 2013, "A dynamic programming algorithm for the fused lasso"): with

    d_1(b) = 1/2 (b - x_1)^2,    d_{i+1}(b) = 1/2 (b - x_{i+1})^2 + min_c d_i(c) + w_i |b - c|,

the derivative of the inner minimum is d_i' cut off at -w_i and w_i. So d_{i+1}' is piecewise linear,
increasing, and kept as knots; every step takes knots away at both ends and adds two, where d_i' = -w_i and
d_i' = w_i. Then z_L is the root of d_L', and z_i is z_{i+1} cut off at those two places.

    isotonic_fit(values): (M, n) -> (M, n)

is the closest picture whose rows never rise (pool adjacent violators).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.threads import run_items
from flowcut.kernels.total_variation_reference import grid_total_variation_reference
from flowcut.kernels.workspace import workspace

# Lines that are worth handing to a thread.
_LINES = 32


def lines_reference(scores: Tensor, weights: Tensor) -> Tensor:
    """Plain-PyTorch ``lines_total_variation``: a line is a grid of one axis."""
    return grid_total_variation_reference(scores[:, None], weights[:, None, None], [1], False)[0][:, 0]


@jit
def _lines(x: Any, w: Any, z: Any, work: Any, first: int, last: int) -> None:
    for m in range(first, last):
        _line(x[m], w[m], z[m], work)


@inner
def _line(x: Any, w: Any, z: Any, work: Any) -> None:
    """d' is slope * b + offset between knots; ``work``: knots, changes there, and the places cut off."""
    knot, slopes, offsets, low, high = work
    count = len(x)
    least, most = x[0], x[0]
    for i in range(count):
        least, most = min(least, x[i]), max(most, x[i])
    cap = (most - least) * count  # more than any tie has to carry; larger ones would cost digits
    begin, end = count, count  # knots begin to end - 1
    shift = 0.0  # d' is b - x_i - shift left of all knots, and b - x_i + shift right of all
    for i in range(count - 1):
        weight = min(w[i], cap)
        slope, offset = 1.0, -x[i] - shift
        while begin < end and slope * knot[begin] + offset <= -weight:
            slope, offset = slope + slopes[begin], offset + offsets[begin]
            begin += 1
        low[i] = (-weight - offset) / slope
        up_slope, up_offset = 1.0, -x[i] + shift
        while begin < end and up_slope * knot[end - 1] + up_offset >= weight:
            end -= 1
            up_slope, up_offset = up_slope - slopes[end], up_offset - offsets[end]
        high[i] = (weight - up_offset) / up_slope
        begin -= 1
        knot[begin], slopes[begin], offsets[begin] = low[i], slope, offset + weight
        knot[end], slopes[end], offsets[end] = high[i], -up_slope, weight - up_offset
        end += 1
        shift = weight
    slope, offset = 1.0, -x[count - 1] - shift
    while begin < end and slope * knot[begin] + offset <= 0:
        slope, offset = slope + slopes[begin], offset + offsets[begin]
        begin += 1
    z[count - 1] = -offset / slope
    for i in range(count - 2, -1, -1):
        z[i] = min(max(z[i + 1], low[i]), high[i])


def lines_cpu(scores: Tensor, weights: Tensor) -> Tensor:
    """``lines_total_variation`` by Numba."""
    out = torch.empty(scores.shape, dtype=torch.float64)
    if not out.numel():
        return out
    x, w, z = (t.contiguous().numpy() for t in (scores, weights, out))
    (count, length), pieces = x.shape, -(-len(x) // _LINES)

    def run(piece: int) -> None:
        shapes: list[tuple[tuple[int, ...], Any]] = [((2 * length,), np.float64)] * 3
        work = workspace([*shapes, ((length,), np.float64), ((length,), np.float64)])
        _lines(x, w, z, tuple(work), piece * _LINES, min(count, piece * _LINES + _LINES))

    run_items(run, pieces)
    return out


def isotonic_reference(values: Tensor) -> Tensor:
    """Plain-PyTorch ``isotonic_fit``: min over a <= i of max over b >= i of the mean from a to b."""
    count = values.shape[1]
    if not values.numel():
        return values.clone()
    sums = torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))
    ends = torch.arange(count, device=values.device)
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / (ends[None] - ends[:, None] + 1).clamp(min=1)
    means = means.masked_fill(ends[None] < ends[:, None], float("-inf"))
    best = means.flip(2).cummax(dim=2).values.flip(2)  # over b >= i
    # At place i only a <= i count.
    return best.cummin(dim=1).values.diagonal(dim1=1, dim2=2).clone()


@jit
def _fit(y: Any, means: Any, ends: Any, out: Any) -> None:
    """Keep blocks with falling means; a new value joins the blocks before it that it reaches."""
    count = 0
    for i in range(len(y)):
        mean, size = y[i], 1
        while count > 0 and means[count - 1] <= mean:
            count -= 1
            begin = ends[count - 1] if count > 0 else 0
            before = ends[count] - begin
            mean += (means[count] - mean) * (before / (before + size))
            size += before
        means[count], ends[count] = mean, i + 1
        count += 1
    begin = 0
    for b in range(count):
        total = 0.0
        for i in range(begin, ends[b]):
            total += y[i]
        for i in range(begin, ends[b]):
            out[i] = total / (ends[b] - begin)
        begin = ends[b]


def isotonic_cpu(values: Tensor) -> Tensor:
    """``isotonic_fit`` by Numba."""
    out = torch.empty(values.shape, dtype=torch.float64)
    if not out.numel():
        return out
    y, z = (t.contiguous().numpy() for t in (values, out))

    def run(m: int) -> None:
        means, ends = workspace([((y.shape[1],), np.float64), ((y.shape[1],), np.int64)])
        _fit(y[m], means, ends, z[m])

    run_items(run, len(y))
    return out


def isotonic_cuda(values: Tensor) -> Tensor:
    """One pass over numbers in order: no work for a GPU."""
    return isotonic_cpu(values.cpu()).to(values.device)


def lines_cuda(scores: Tensor, weights: Tensor) -> Tensor:
    """On the CPU."""
    return lines_cpu(scores.cpu(), weights.cpu()).to(scores.device)


lines_total_variation = operation("lines_total_variation", lines_reference, lambda x, w: torch.empty_like(x))
lines_total_variation.register_kernel("cpu", lines_cpu)
lines_total_variation.register_kernel("cuda", lines_cuda)
fold_batches(lines_total_variation, tensors=2)

isotonic_fit = operation("isotonic_fit", isotonic_reference, lambda y: torch.empty_like(y))
isotonic_fit.register_kernel("cpu", isotonic_cpu)
isotonic_fit.register_kernel("cuda", isotonic_cuda)
fold_batches(isotonic_fit, tensors=1)
