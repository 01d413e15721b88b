"""The door through which data enter a flow: -D / rho, with the values of distances and weights checked.

The checks stand inside an operation whose result is needed, so that compiled programs keep them.

Shapes: distances (N, J, *spatial); weights (N, K, *spatial), or (N, W) with an index (2, W) on a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_finite
from flowcut.kernels.grid_cpu import rows_view, run_pieces
from flowcut.kernels.jit import jit
from flowcut.kernels.layout import offsets_from_flat, row_tables, rows_and_columns
from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.window_reference import product_reference

# How far the sum of a pixel's weights may be from one: what rounding of the type can leave, and a little.
SLACK = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def _reference(distances: Tensor, weights: Tensor, offsets: list[int], rho: float, slack: float) -> Tensor:
    check_finite("distances", distances)
    with torch.no_grad():
        # Minimum and sum by products with one: weights without a neighbour are not read.
        ones = torch.ones_like(weights[:, :1])
        sums = product_reference(weights, ones, offsets)
        _judge(sums, -product_reference((-weights).clamp_min(0), ones, offsets), slack)
    return distances / -rho


def _graph_reference(distances: Tensor, weights: Tensor, index: Tensor, rho: float, slack: float) -> Tensor:
    check_finite("distances", distances)
    with torch.no_grad():
        sums = weights.new_zeros(weights.shape[0], distances.shape[-1]).index_add(1, index[0], weights)
        if weights.numel() and not (bool(weights.min() >= 0) and bool((sums - 1).abs().max() <= slack)):
            low = float(weights.min())
            far = float(sums.flatten()[(sums - 1).abs().argmax()])
            raise ValueError(_sentence(low, far, "node"))
    return distances / -rho


def _judge(sums: Tensor, negative: Tensor, slack: float) -> None:
    if not sums.numel():
        return
    deviation = (sums - 1).abs().amax()
    if not (bool(deviation <= slack) and bool(negative.amin() >= 0)):
        place = torch.where(torch.isnan(sums), torch.inf, (sums - 1).abs()).argmax()
        raise ValueError(_sentence(float(negative.amin()), float(sums.flatten()[place]), "pixel"))


def _sentence(low: float, far: float, what: str) -> str:
    got = f"a weight {low:.3g}" if low < 0 else f"a sum {far:.3g}"
    return (
        f"weights: expected numbers >= 0 that sum to 1 over the neighbours of each {what} "
        f"(see flowcut.normalize_weights), got {got}"
    )


@jit
def _row_sums(weights, out, low, forward, shift, start, stop):  # type: ignore[no-untyped-def]
    """out (R, W): sum of the weights that have a neighbour; low (R,): the least of a row."""
    width = out.shape[1]
    for r in range(start, stop):
        out[r] = 0
        least = weights.dtype.type(0)
        for k in range(weights.shape[0]):
            if forward[k, r] >= 0:
                s = shift[k, r]
                lo, hi = max(0, -s), min(width, width - s)
                for i in range(lo, hi):
                    value = weights[k, r, i]
                    out[r, i] += value
                    least = min(least, value)
        low[r] = least


def _cpu(distances: Tensor, weights: Tensor, offsets: list[int], rho: float, slack: float) -> Tensor:
    if weights.dtype not in (torch.float32, torch.float64) or not weights.numel():
        return _reference(distances, weights, offsets, rho, slack)
    check_finite("distances", distances)
    spatial = tuple(weights.shape[2:])
    tables = row_tables(spatial, offsets_from_flat(list(offsets), len(spatial)))
    rows, width = rows_and_columns(spatial)
    sums, low = weights.new_empty(len(weights), 1, *spatial), weights.new_empty(len(weights), rows)
    w, y, least = rows_view(weights, 2, spatial), rows_view(sums, 2, spatial), low.numpy()

    def run(n: int, start: int, stop: int) -> None:
        _row_sums(w[n], y[n, 0], least[n], tables.forward, tables.shift, start, stop)

    run_pieces(len(weights), rows, width, run)
    _judge(sums, low, slack)
    return distances / -rho


def _fake(distances: Tensor, weights: Tensor, offsets: list[int], rho: float, slack: float) -> Tensor:
    return torch.empty_like(distances)


def _graph_fake(distances: Tensor, weights: Tensor, index: Tensor, rho: float, slack: float) -> Tensor:
    return torch.empty_like(distances)


grid_likelihood = operation("grid_likelihood", _reference, _fake)
grid_likelihood.register_kernel("cpu", _cpu)
fold_batches(grid_likelihood, tensors=2)

graph_likelihood = operation("graph_likelihood", _graph_reference, _graph_fake)
fold_batches(graph_likelihood, tensors=3, batched=(0, 1))
