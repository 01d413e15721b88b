"""Numba kernels of the window products."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.grid_cpu import rows_view, run_pieces
from flowcut.kernels.jit import jit
from flowcut.kernels.layout import common_type, offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.taps_cpu import SLOTS, add_one, copy_row, gather_row
from flowcut.kernels.workspace import workspace


@jit
def _product_rows(
    weights: Any, x: Any, out: Any, rows: Any, shift: Any, transpose: bool, row: Any, slots: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Rows of Omega x, or of its transpose (gathered too, so that rows are independent), of one item."""
    for r in range(start, stop):
        gather_row(weights, x, row, rows, shift, r, transpose, slots)
        for c in range(x.shape[0]):
            copy_row(out[c, r], row[c])


@jit
def _gradient_rows(u: Any, v: Any, out: Any, forward: Any, shift: Any, start: int, stop: int) -> None:
    """out_k(i) = sum_c u_i v_{i+k} for the rows of one item; u, v (C, R, W)."""
    width = u.shape[2]
    for k in range(out.shape[0]):
        for r in range(start, stop):
            out[k, r] = 0
            q = forward[k, r]
            if q < 0:
                continue
            s = shift[k, r]
            lo = max(0, -s)
            n = min(width, width - s) - lo
            for c in range(u.shape[0]):
                add_one(out[k, r, lo:], u[c, r, lo:], v[c, q, lo + s :], n)


def _image_product(weights: Tensor, x: Tensor, offsets: list[int], transpose: bool) -> Tensor:
    spatial = tuple(x.shape[2:])
    dtype = common_type(weights, x)
    tables = row_tables(spatial, offsets_from_flat(offsets, len(spatial)))
    rows = tables.backward if transpose else tables.forward
    out = torch.empty(x.shape, dtype=dtype)
    w, v, y = (rows_view(t.to(dtype), 2, spatial) for t in (weights, x, out))

    def run(n: int, start: int, stop: int) -> None:
        row, slots = workspace([((x.shape[1], v.shape[-1]), v.dtype), (SLOTS, np.int64)])
        _product_rows(w[n], v[n], y[n], rows, tables.shift, transpose, row, slots, start, stop)

    if x.shape[1]:
        run_pieces(x.shape[0], *rows_and_columns(spatial), run)
    return out.to(x.dtype)


def product_cpu(weights: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """``window_product`` by Numba."""
    return _image_product(weights, x, offsets, transpose=False)


def transpose_cpu(weights: Tensor, u: Tensor, offsets: list[int]) -> Tensor:
    """``window_product_transpose`` by Numba."""
    return _image_product(weights, u, offsets, transpose=True)


def gradient_cpu(u: Tensor, v: Tensor, offsets: list[int]) -> Tensor:
    """``window_weight_gradient`` by Numba."""
    spatial = tuple(u.shape[2:])
    dtype = common_type(u, v)
    table = offsets_from_flat(offsets, len(spatial))
    tables = row_tables(spatial, table)
    out = torch.empty((u.shape[0], len(table), *spatial), dtype=dtype)
    a, b, g = (rows_view(t.to(dtype), 2, spatial) for t in (u, v, out))

    def run(n: int, start: int, stop: int) -> None:
        _gradient_rows(a[n], b[n], g[n], tables.forward, tables.shift, start, stop)

    run_pieces(u.shape[0], *rows_and_columns(spatial), run)
    return out.to(u.dtype)
