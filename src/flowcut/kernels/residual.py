"""The true residual of A x = b and the error bound it certifies, as one operation.

    grid_residual(edges, leak, rhs, x, offsets) -> r, norm, bound
    graph_residual(edge_index, edges, leak, rhs, x) -> r, norm, bound

r = b - A x in double precision and difference form. Rows of A sum to ``leak``, so where it is positive

    max |x - x*| <= bound = max_i (|r_i| + rounding of r_i) / leak_i;

a pixel with leak 0 and a residual makes the bound infinite.

Shapes: rhs, x, r (N, C, *spatial), x and r float64; norm ||r|| / ||b|| and bound (N, C).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.cg import incident
from flowcut.kernels.graph import graph_product
from flowcut.kernels.grid import grid_product
from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.layout import offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.residual_cpu import judge_image
from flowcut.kernels.threads import run_items

Judged = tuple[Tensor, Tensor, Tensor]
_EPS = 2.2e-16


def _judge(r: Tensor, size: Tensor, leak: Tensor, b: Tensor) -> Judged:
    """Norm and bound from a residual whose terms have the magnitude ``size``."""
    error = r.abs() + 8 * _EPS * size
    ratio = torch.where(error == 0, 0, error / leak).flatten(2)
    bound = ratio.amax(dim=2) if ratio.shape[2] else ratio.sum(dim=2)
    r = r.contiguous()
    norm, scale = r.flatten(2).norm(dim=2), b.flatten(2).norm(dim=2)
    return r, torch.where(scale > 0, norm / scale, norm), bound


def _grid_reference(edges: Tensor, leak: Tensor, rhs: Tensor, x: Tensor, offsets: list[int]) -> Judged:
    """Plain-PyTorch ``grid_residual``."""
    w, d, b = edges.double(), leak.double(), rhs.double()
    r = b - grid_product(w, d, x, list(offsets))
    diagonal = d + incident(w, offsets_from_flat(list(offsets), rhs.ndim - 2))
    return _judge(r, b.abs() + 2 * diagonal * x.abs(), d, b)


def _grid_fake(edges: Tensor, leak: Tensor, rhs: Tensor, x: Tensor, offsets: list[int]) -> Judged:
    report = [x.new_empty(x.shape[:2]) for _ in range(2)]
    return torch.empty_like(x, memory_format=torch.contiguous_format), report[0], report[1]


def _grid_cpu(edges: Tensor, leak: Tensor, rhs: Tensor, x: Tensor, offsets: list[int]) -> Judged:
    """``grid_residual`` by Numba."""
    spatial = tuple(rhs.shape[2:])
    tables = row_tables(spatial, offsets_from_flat(list(offsets), len(spatial)))
    r = torch.empty(x.shape, dtype=torch.float64)
    report = np.zeros((*rhs.shape[:2], 2))
    if x.numel():
        e, d, b, v, out = (
            rows_view(t.double(), lead, spatial)
            for t, lead in ((edges, 3), (leak, 2), (rhs, 2), (x, 2), (r, 2))
        )
        width, channels = rows_and_columns(spatial)[1], rhs.shape[1]

        def run(image: int) -> None:
            n, c = divmod(image, channels)
            own = d[n % d.shape[0], c % d.shape[1]]
            report[n, c] = judge_image(e[n, c % e.shape[1]], own, b[n, c], v[n, c], out[n, c], tables, width)

        run_items(run, rhs.shape[0] * channels)
    table = torch.from_numpy(report)
    scale = rhs.double().flatten(2).norm(dim=2)
    norm = table[..., 0].sqrt()
    return r, torch.where(scale > 0, norm / scale, norm), table[..., 1].clone()


def _graph_reference(edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, x: Tensor) -> Judged:
    """Plain-PyTorch ``graph_residual``."""
    w, d, b = edges.double(), leak.double(), rhs.double()
    r = b - graph_product(edge_index, w, d, x)
    ends = w.new_zeros((*w.shape[:2], leak.shape[-1]))
    diagonal = d + ends.index_add(-1, edge_index[0], w).index_add(-1, edge_index[1], w)
    return _judge(r, b.abs() + 2 * diagonal * x.abs(), d, b)


def _graph_fake(edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, x: Tensor) -> Judged:
    return _grid_fake(edges, leak, rhs, x, [])


grid_residual = operation("grid_residual", _grid_reference, _grid_fake)
grid_residual.register_kernel("cpu", _grid_cpu)
fold_batches(grid_residual, tensors=4)

graph_residual = operation("graph_residual", _graph_reference, _graph_fake)
fold_batches(graph_residual, tensors=5, batched=(1, 2, 3, 4))
