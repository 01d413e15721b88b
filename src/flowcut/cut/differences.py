"""Differences of pixels along ties."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from flowcut.core.neighborhood import Offset, source_slices, target_slices

# (2, E) ends of the ties of a graph; None for a grid.
Index = Tensor | None


def differences(values: Tensor, index: Index, offsets: tuple[Offset, ...]) -> Tensor:
    """v_i - v_j over all ties: (N, C, K, *spatial), zero outside the picture, or (N, C, E)."""
    if index is not None:
        return values[..., index[0]] - values[..., index[1]]
    spatial = tuple(values.shape[2:])
    parts = []
    for offset in offsets:
        here: tuple[Any, ...] = source_slices(offset, spatial)
        there: tuple[Any, ...] = target_slices(offset, spatial)
        step = values[(..., *here)] - values[(..., *there)]
        # Differences stay where pixel i is. Pads come last axis first.
        starts = [min(s.start, n) for s, n in zip(here, spatial, strict=True)]
        room = [(b, n - b - m) for b, n, m in zip(starts, spatial, step.shape[2:], strict=True)]
        parts.append(pad(step, [side for pair in reversed(room) for side in pair]))
    return torch.stack(parts, dim=2)
