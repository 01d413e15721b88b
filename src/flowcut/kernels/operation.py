"""How an operation joins the kernel door: reference, shapes, batching rule.

``torch.library.custom_op`` gets the plain-PyTorch reference as its body, so every device
works; ``register_kernel`` adds Numba for the CPU and Triton for CUDA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef

NAMESPACE = "flowcut"


def operation(name: str, reference: Callable[..., Any], fake: Callable[..., Any]) -> CustomOpDef:
    """Register ``flowcut::name`` with its reference and shape function."""
    op = torch.library.custom_op(f"{NAMESPACE}::{name}", reference, mutates_args=())
    op.register_fake(fake)
    return op


def fold_batches(
    op: CustomOpDef, tensors: int, batched: Sequence[int] = (), batched_output: bool = True
) -> None:
    """Batching rule: a vmapped axis is folded into the leading (item) axis.

    The first ``tensors`` arguments are tensors. Those in ``batched`` (default: all) have the item
    axis N first, possibly of length 1 where it is shared; the others cannot be vmapped. An output
    that stands for all items at once (a handle) is not batched.
    """
    folded = tuple(batched) or tuple(range(tensors))

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        size = info.batch_size
        for position, dim in enumerate(in_dims[:tensors]):
            if dim is not None and position not in folded:
                raise NotImplementedError(f"{op}: argument {position} cannot be mapped over by vmap")
        # A shared item axis (length 1) has to grow before it can be folded.
        items = max(_item_count(args[i], in_dims[i]) for i in folded)
        flat = [_fold(a, in_dims[i], size, items) if i in folded else a for i, a in enumerate(args)]
        out = op(*flat)
        if not batched_output:
            return out, None
        if isinstance(out, Tensor):
            return out.reshape(size, items, *out.shape[1:]), 0
        split = tuple(o.reshape(size, items, *o.shape[1:]) for o in out)
        return split, (0,) * len(split)

    op.register_vmap(rule)


def _item_count(value: Tensor, dim: int | None) -> int:
    return value.shape[0] if dim is None else value.movedim(dim, 0).shape[1]


def _fold(value: Tensor, dim: int | None, size: int, items: int) -> Tensor:
    value = value.unsqueeze(0) if dim is None else value.movedim(dim, 0)
    value = value.expand(size, items, *value.shape[2:])
    return value.reshape(math.prod((size, items)), *value.shape[2:])
