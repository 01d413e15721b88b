"""Numba kernels of the products with a grid's Laplacian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.cg_cpu import apply_row
from flowcut.kernels.jit import jit
from flowcut.kernels.layout import common_type, offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.threads import run_items

# Pixels of one piece of work: large enough to outweigh its hand-over to a thread.
_PIECE = 1 << 15


@jit
def _product_rows(
    edges: Any, leak: Any, x: Any, out: Any, forward: Any, backward: Any, shift: Any, start: int, stop: int
) -> None:
    for r in range(start, stop):
        apply_row(leak, edges, forward, backward, shift, x, r, out[r])


@jit
def _edge_gradient_rows(u: Any, v: Any, out: Any, forward: Any, shift: Any, start: int, stop: int) -> None:
    """out (K, R, W) = sum over the channels of u, v (C, R, W)."""
    width = u.shape[2]
    for k in range(out.shape[0]):
        for r in range(start, stop):
            row = out[k, r]
            row[:] = 0
            q = forward[k, r]
            if q < 0:
                continue
            s = shift[k, r]
            lo = max(0, -s)
            n = min(width, width - s) - lo
            target = row[lo:]
            for c in range(u.shape[0]):
                u_here, u_there = u[c, r, lo:], u[c, q, lo + s :]
                v_here, v_there = v[c, r, lo:], v[c, q, lo + s :]
                for i in range(n):
                    target[i] += (u_here[i] - u_there[i]) * (v_here[i] - v_there[i])


def rows_view(value: Tensor, leading: int, spatial: tuple[int, ...]) -> NDArray[Any]:
    """A contiguous NumPy view with the spatial axes as (rows, columns)."""
    rows, width = rows_and_columns(spatial)
    array: NDArray[Any] = value.detach().contiguous().numpy()
    return array.reshape(*value.shape[:leading], rows, width)


def run_pieces(images: int, rows: int, width: int, run: Callable[[int, int, int], object]) -> None:
    """Call ``run(image, first row, last row)`` for pieces of all images, on several threads."""
    pieces = max(1, min(rows, rows * width // _PIECE))

    def piece(index: int) -> None:
        image, part = divmod(index, pieces)
        run(image, rows * part // pieces, rows * (part + 1) // pieces)

    if rows * width:
        run_items(piece, images * pieces)


def product_cpu(edges: Tensor, leak: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """``grid_product`` by Numba."""
    spatial = tuple(x.shape[2:])
    dtype = common_type(edges, leak, x)
    tables = row_tables(spatial, offsets_from_flat(offsets, len(spatial)))
    out = torch.empty(x.shape, dtype=dtype)
    e, d, v, y = (
        rows_view(t.to(dtype), lead, spatial) for t, lead in ((edges, 3), (leak, 2), (x, 2), (out, 2))
    )
    channels = x.shape[1]

    def run(image: int, start: int, stop: int) -> None:
        n, c = divmod(image, channels)
        own = d[n % d.shape[0], c % d.shape[1]]
        _product_rows(e[n, c % e.shape[1]], own, v[n, c], y[n, c], *tables, start, stop)

    run_pieces(x.shape[0] * channels, *rows_and_columns(spatial), run)
    return out.to(x.dtype)


def edge_gradient_cpu(u: Tensor, v: Tensor, offsets: list[int], groups: int) -> Tensor:
    """``grid_edge_gradient`` by Numba."""
    spatial = tuple(u.shape[2:])
    dtype = common_type(u, v)
    table = offsets_from_flat(offsets, len(spatial))
    tables = row_tables(spatial, table)
    out = torch.empty((u.shape[0], groups, len(table), *spatial), dtype=dtype)
    a, b, g = (rows_view(t.to(dtype), lead, spatial) for t, lead in ((u, 2), (v, 2), (out, 3)))

    def run(image: int, start: int, stop: int) -> None:
        n, group = divmod(image, groups)
        channels = np.s_[:] if groups == 1 else np.s_[group : group + 1]
        _edge_gradient_rows(
            a[n, channels], b[n, channels], g[n, group], tables.forward, tables.shift, start, stop
        )

    run_pieces(u.shape[0] * groups, *rows_and_columns(spatial), run)
    return out.to(u.dtype)
