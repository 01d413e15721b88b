"""Derivatives of the S-flow with rectified couplings: where this room meets autograd.

The formulas stand at :func:`flowcut.kernels.rectified_reference.rectified_adjoint_reference`. First
derivatives run in a kernel; where derivatives of these are wanted, the same is computed from
differentiable products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from flowcut.kernels.rectified import rectified_flow, rectified_flow_adjoint
from flowcut.kernels.rectified_reference import rectified_adjoint_reference, rectified_reference


class _RectifiedFlow(Function):
    """Logits after Euler steps of dv/dt = (max(X, 0) + epsilon I) s(v)."""

    @staticmethod
    def forward(
        logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
    ) -> tuple[Tensor, Tensor]:
        logits, tape = rectified_flow(logits, ties, diagonal, pairs, epsilon, steps)
        return logits, tape

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, ties, diagonal, pairs, ctx.epsilon, ctx.steps = inputs
        ctx.save_for_backward(logits, ties, diagonal, pairs, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        logits, ties, diagonal, pairs, tape = ctx.saved_tensors
        if torch.is_grad_enabled():  # derivatives of the gradient are wanted
            tape = rectified_reference(logits, ties, diagonal, pairs, ctx.epsilon, ctx.steps)[1]
            found = rectified_adjoint_reference(tape, ties, diagonal, pairs, grads[0], ctx.epsilon, ctx.steps)
        else:
            found = rectified_flow_adjoint(tape, ties, diagonal, pairs, grads[0], ctx.epsilon, ctx.steps)
        return (*found, None, None, None)


def rectified_logits(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
) -> Tensor:
    """The S-flow of many samples of couplings, differentiable in the start and the couplings.

    Parameters
    ----------
    logits
        (C, n, M): the start; one channel is the difference of two labels' logits.
    ties, diagonal
        (E, M) and (n, M): X, rectified here.
    pairs
        (2, E) int64: the pixels that ties couple.
    epsilon
        Added to the diagonal.
    steps
        Lengths of the Euler steps.

    Returns
    -------
    Tensor
        (C, n, M).
    """
    shaped = (t.contiguous() for t in (logits, ties, diagonal))
    found: Tensor = _RectifiedFlow.apply(*shaped, pairs, epsilon, steps)[0]
    return found
