"""Numba kernels of the products on a graph: one pass over the ties for each image."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.kernels.jit import jit
from flowcut.kernels.layout import common_type
from flowcut.kernels.threads import run_items


@jit
def add_graph_flow(index: Any, edges: Any, x: Any, out: Any) -> None:
    """out += L x."""
    for e in range(index.shape[1]):
        i, j = index[0, e], index[1, e]
        flow = edges[e] * (x[i] - x[j])
        out[i] += flow
        out[j] -= flow


@jit
def _edge_gradient(index: Any, u: Any, v: Any, out: Any) -> None:
    for e in range(index.shape[1]):
        i, j = index[0, e], index[1, e]
        total = u.dtype.type(0)
        for c in range(u.shape[0]):
            total += (u[c, i] - u[c, j]) * (v[c, i] - v[c, j])
        out[e] = total


@jit
def _window_product(index: Any, weights: Any, x: Any, out: Any) -> None:
    out[:] = 0
    for e in range(index.shape[1]):
        out[index[0, e]] += weights[e] * x[index[1, e]]


@jit
def _window_gradient(index: Any, u: Any, v: Any, out: Any) -> None:
    for e in range(index.shape[1]):
        total = u.dtype.type(0)
        for c in range(u.shape[0]):
            total += u[c, index[0, e]] * v[c, index[1, e]]
        out[e] = total


def flat_view(value: Tensor) -> NDArray[Any]:
    """A contiguous NumPy view."""
    array: NDArray[Any] = value.detach().contiguous().numpy()
    return array


def product_cpu(edge_index: Tensor, edges: Tensor, leak: Tensor, x: Tensor) -> Tensor:
    """``graph_product`` by Numba."""
    dtype = common_type(edges, leak, x)
    out = (leak.to(dtype) * x.to(dtype)).contiguous()
    index, w, v, y = (flat_view(t) for t in (edge_index, edges.to(dtype), x.to(dtype), out))
    channels = x.shape[1]

    def run(image: int) -> None:
        n, c = divmod(image, channels)
        add_graph_flow(index, w[n, c % w.shape[1]], v[n, c], y[n, c])

    run_items(run, x.shape[0] * channels)
    return out.to(x.dtype)


def edge_gradient_cpu(edge_index: Tensor, u: Tensor, v: Tensor, groups: int) -> Tensor:
    """``graph_edge_gradient`` by Numba."""
    dtype = common_type(u, v)
    out = torch.empty((u.shape[0], groups, edge_index.shape[1]), dtype=dtype)
    index, a, b, g = (flat_view(t) for t in (edge_index, u.to(dtype), v.to(dtype), out))

    def run(image: int) -> None:
        n, group = divmod(image, groups)
        first, last = (0, a.shape[1]) if groups == 1 else (group, group + 1)
        _edge_gradient(index, a[n, first:last], b[n, first:last], g[n, group])

    run_items(run, u.shape[0] * groups)
    return out.to(u.dtype)


def window_product_cpu(edge_index: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    """``graph_window_product`` by Numba."""
    dtype = common_type(weights, x)
    out = torch.empty(x.shape, dtype=dtype)
    index, w, v, y = (flat_view(t) for t in (edge_index, weights.to(dtype), x.to(dtype), out))
    channels = x.shape[1]

    def run(image: int) -> None:
        n, c = divmod(image, channels)
        _window_product(index, w[n], v[n, c], y[n, c])

    run_items(run, x.shape[0] * channels)
    return out.to(x.dtype)


def window_gradient_cpu(edge_index: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``graph_window_gradient`` by Numba."""
    dtype = common_type(u, v)
    out = torch.empty((u.shape[0], edge_index.shape[1]), dtype=dtype)
    index, a, b, g = (flat_view(t) for t in (edge_index, u.to(dtype), v.to(dtype), out))
    run_items(lambda n: _window_gradient(index, a[n], b[n], g[n]), u.shape[0])
    return out.to(u.dtype)
