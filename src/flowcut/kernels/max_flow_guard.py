"""A check of ties that survives compilation and looks only at ties inside the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.layout import offsets_from_flat
from flowcut.kernels.operation import fold_batches, operation


def _reference(value: Tensor, low: float, expected: str, offsets: list[int]) -> Tensor:
    if value.numel():
        least, most = torch.aminmax(value)
        # Nearly always everything is in order, outside the picture too, and one pass tells.
        if not (bool(least >= low) and bool(most < float("inf"))):
            bad = ~((value >= low) & (value < float("inf")))
            if offsets:
                spatial = tuple(value.shape[2:])
                inside = Neighborhood(offsets_from_flat(list(offsets), len(spatial))).inside(spatial)
                bad &= inside.to(bad.device)
            if bool(bad.any()):
                index = tuple(int(i) for i in bad.nonzero()[0])
                raise ValueError(f"{expected}, got {float(value[index]):.6g} at index {index}")
    return value.new_zeros(value.shape[0])


def _fake(value: Tensor, low: float, expected: str, offsets: list[int]) -> Tensor:
    return value.new_empty(value.shape[0])


# (N, K, *spatial) with offsets, or (N, E) without -> (N,) zeros. What depends on the check adds them.
guard_ties = operation("guard_ties", _reference, _fake)
fold_batches(guard_ties, tensors=1)
