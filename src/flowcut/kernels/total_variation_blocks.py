"""Means over blocks: plain PyTorch, and Numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.jit import jit
from flowcut.kernels.threads import run_items
from flowcut.kernels.workspace import workspace


def block_means_reference(values: Tensor, blocks: Tensor) -> Tensor:
    """Plain-PyTorch ``block_means``: (N, C, *spatial); block numbers below the number of pixels."""
    if not values.numel():
        return values.clone()
    v, b = values.double().flatten(2), blocks.flatten(2)
    zeros = torch.zeros_like(v)
    sums, counts = zeros.scatter_add(2, b, v), zeros.scatter_add(2, b, torch.ones_like(v))
    return (sums.gather(2, b) / counts.gather(2, b)).reshape(values.shape).to(values.dtype)


@jit
def _means(values: Any, blocks: Any, sums: Any, counts: Any, out: Any) -> None:
    for i in range(len(values)):
        sums[i], counts[i] = 0, 0
    for i in range(len(values)):
        sums[blocks[i]] += values[i]
        counts[blocks[i]] += 1
    for i in range(len(values)):
        out[i] = sums[blocks[i]] / counts[blocks[i]]


def block_means_cpu(values: Tensor, blocks: Tensor) -> Tensor:
    """``block_means`` by Numba."""
    out = torch.empty(values.shape, dtype=torch.float64)
    if not out.numel():
        return out.to(values.dtype)
    channels = values.shape[1]
    v, b, y = (t.flatten(2).contiguous().numpy() for t in (values.detach().double(), blocks, out))
    nodes = v.shape[2]

    def run(item: int) -> None:
        n, c = divmod(item, channels)
        sums, counts = workspace([((nodes,), np.float64), ((nodes,), np.int64)])
        _means(v[n, c], b[n, c], sums, counts, y[n, c])

    run_items(run, values.shape[0] * channels)
    return out.to(values.dtype) if values.dtype != torch.float64 else out
