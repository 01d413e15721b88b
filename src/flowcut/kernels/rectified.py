"""Operations of the S-flow with rectified couplings; shapes and formulas are in the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels import rectified_reference as reference
from flowcut.kernels.operation import operation
from flowcut.kernels.rectified_cpu import rectified_adjoint_cpu, rectified_cpu
from flowcut.kernels.rectified_limit_cpu import limit_cpu


def _flow_fake(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
) -> tuple[Tensor, Tensor]:
    return logits.new_empty(logits.shape), logits.new_empty(len(steps), *logits.shape)


def _adjoint_fake(
    tape: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    grad: Tensor,
    epsilon: float,
    steps: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    return grad.new_empty(grad.shape), ties.new_empty(ties.shape), diagonal.new_empty(diagonal.shape)


def _limit_fake(
    logits: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    epsilon: float,
    step: float,
    growth: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    labels = logits.new_empty(logits.shape[1:], dtype=torch.uint8)
    return labels, logits.new_empty(logits.shape[2:], dtype=torch.int64)


rectified_flow = operation("rectified_flow", reference.rectified_reference, _flow_fake)
rectified_flow.register_kernel("cpu", rectified_cpu)

rectified_flow_adjoint = operation(
    "rectified_flow_adjoint", reference.rectified_adjoint_reference, _adjoint_fake
)
rectified_flow_adjoint.register_kernel("cpu", rectified_adjoint_cpu)

rectified_limit = operation("rectified_limit", reference.limit_reference, _limit_fake)
rectified_limit.register_kernel("cpu", limit_cpu)
