"""Numba kernels of connected components: union-find, over pixels or over the runs of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.layout import offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.threads import run_items
from flowcut.kernels.workspace import fresh, workspace


@inner
def _root(parent: Any, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@inner
def _join(parent: Any, i: int, j: int) -> None:
    """The root of a tree is its smallest node."""
    if parent[i] == parent[j]:
        return
    i, j = _root(parent, i), _root(parent, j)
    parent[max(i, j)] = min(i, j)


@inner
def _number(labels: Any, background: bool, parent: Any, out: Any) -> None:
    """Numbers in the order of the roots: a parent stands before its children and has its number already."""
    count = 1 if background else 0
    for i in range(len(labels)):
        if background and labels[i] == 0:
            out[i] = 0
        elif parent[i] == i:
            out[i] = count
            count += 1
        else:
            out[i] = out[parent[i]]


@jit
def _grid(labels: Any, weights: Any, ahead: Any, shift: Any, background: bool, parent: Any, out: Any) -> None:
    """Pixel by pixel: labels (R, W), weights (K or 0, R, W), out (R W,)."""
    (rows, width), ties = labels.shape, len(ahead)
    for i in range(len(parent)):
        parent[i] = i
    for r in range(rows):
        for k in range(ties):
            q, s = ahead[k, r], shift[k, r]
            if q < 0:
                continue
            for i in range(max(0, -s), min(width, width - s)):
                tied = len(weights) == 0 or weights[k, r, i] > 0
                counts = not background or labels[r, i] != 0
                if tied and counts and labels[r, i] == labels[q, i + s]:
                    _join(parent, r * width + i, q * width + i + s)
    _number(labels.reshape(-1), background, parent, out)


@inner
def _find_runs(labels: Any, background: bool, starts: Any, first: Any, kept: Any, kept_first: Any) -> int:
    """Where runs of equal label begin in the flat picture; ``kept`` lists those that are no background."""
    rows, width = labels.shape
    count, keeps = 0, 0
    for r in range(rows):
        first[r], kept_first[r] = count, keeps
        row, base = labels[r], r * width
        starts[count] = base
        count += 1
        for i in range(1, width):  # without a branch: in noise nobody could foresee it
            starts[count] = base + i
            count += row[i] != row[i - 1]
        for run in range(first[r], count):
            kept[keeps] = run
            keeps += not (background and row[starts[run] - base] == 0)
    first[rows], kept_first[rows], starts[count] = count, keeps, rows * width
    return count


@inner
def _join_runs(flat: Any, r: int, q: int, move: int, starts: Any, kept: Any, first: Any, parent: Any) -> None:
    """Join the runs of row r with those of row q that they touch after a move in the flat picture."""
    x, y = first[r], first[q]
    while x < first[r + 1] and y < first[q + 1]:
        a, b = kept[x], kept[y]
        end, other = starts[a + 1] + move, starts[b + 1]
        touch = max(starts[a] + move, starts[b]) < min(end, other)
        if touch and flat[starts[a]] == flat[starts[b]] and parent[a] != parent[b]:
            i, j = _root(parent, a), _root(parent, b)
            root = min(i, j)
            parent[max(i, j)] = root
            parent[a], parent[b] = root, root
        x, y = x + (end < other), y + (end >= other)


@jit
def _runs(labels: Any, ahead: Any, shift: Any, along: int, background: bool, work: Any, out: Any) -> None:
    """Run by run, where tie ``along`` joins pixels to the next of their row; out (R, W)."""
    starts, first, kept, kept_first, parent = work
    rows, width = labels.shape
    count = _find_runs(labels, background, starts, first, kept, kept_first)
    flat = labels.reshape(-1)
    for i in range(count):
        parent[i] = i
    for r in range(rows):
        for k in range(len(ahead)):
            if k != along and ahead[k, r] >= 0:
                move = (ahead[k, r] - r) * width + shift[k, r]
                _join_runs(flat, r, ahead[k, r], move, starts, kept, kept_first, parent)
    number = 1 if background else 0
    for i in range(count):
        if background and flat[starts[i]] == 0:
            parent[i] = 0
        elif parent[i] == i:
            parent[i] = number
            number += 1
        else:
            parent[i] = parent[parent[i]]
    for r in range(rows):
        run = first[r]
        out[r, 0] = parent[run]
        for i in range(1, width):
            run += labels[r, i] != labels[r, i - 1]
            out[r, i] = parent[run]


@jit
def _graph(labels: Any, weights: Any, pairs: Any, background: bool, parent: Any, out: Any) -> None:
    for i in range(len(parent)):
        parent[i] = i
    for e in range(len(pairs)):
        i, j = pairs[e, 0], pairs[e, 1]
        if labels[i] == labels[j] and (len(weights) == 0 or weights[e] > 0):
            _join(parent, i, j)
    _number(labels, background, parent, out)


def grid_components_cpu(labels: Tensor, weights: Tensor, offsets: list[int], background: bool) -> Tensor:
    """``grid_components`` by Numba."""
    spatial = tuple(labels.shape[1:])
    out = fresh(labels.shape, torch.int64)
    if not out.numel():
        return out
    table = offsets_from_flat(list(offsets), len(spatial))
    tables, (rows, width) = row_tables(spatial, table), rows_and_columns(spatial)
    x, w, y = (rows_view(t, lead, spatial) for t, lead in ((_narrow(labels), 1), (weights, 2), (out, 1)))
    next_in_row = (*(0,) * (len(spatial) - 1), 1)
    along = table.index(next_in_row) if next_in_row in table and not weights.shape[1] else -1
    size = rows * width

    def run(n: int) -> None:
        if along < 0:
            (parent,) = workspace([((size,), np.int32)])
            _grid(x[n], w[n % len(w)], *tables[::2], background, parent, y[n].reshape(-1))
            return
        lengths = (size + 1, rows + 1, size + 1, rows + 1, size)
        work = workspace([((length,), np.int32) for length in lengths])
        _runs(x[n], *tables[::2], along, background, tuple(work), y[n])

    run_items(run, len(labels))
    return out


def graph_components_cpu(labels: Tensor, weights: Tensor, pairs: Tensor, background: bool) -> Tensor:
    """``graph_components`` by Numba."""
    out = torch.empty(labels.shape, dtype=torch.int64)
    if not out.numel():
        return out
    x, w, ends, y = (t.contiguous().numpy() for t in (_narrow(labels), weights, pairs, out))

    def run(n: int) -> None:
        (parent,) = workspace([((labels.shape[1],), np.int32)])
        _graph(x[n], w[n % len(w)], ends, background, parent, y[n])

    run_items(run, len(labels))
    return out


def _narrow(labels: Tensor) -> Tensor:
    """One of the three types that the kernels are compiled for."""
    if labels.dtype == torch.bool:
        return labels.view(torch.uint8)
    if labels.dtype == torch.uint8:
        return labels
    return labels.to(torch.float64 if labels.dtype.is_floating_point else torch.int64)
