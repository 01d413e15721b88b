"""Gradients of the linear assignment flow as a PyTorch user would have them: autograd does it all.

A product with Omega, (Omega x)_i = sum_k w_ik x_{i + offset k}, can be written in several ways, and which is
fastest depends on window and machine, so there are several here. Each takes the weights once, as autograd
then has to split them once, and gives the product. A sparse matrix is not among them: PyTorch makes the
gradient of a CSR or COO product through a dense matrix of pixels times pixels.

Shapes: weights (1, K, H, W) on a full window, zero where the neighbour lies outside; x (1, J, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from flowcut.core.neighborhood import Neighborhood, Offset, source_slices, target_slices
from flowcut.flow.krylov import Options, images, krylov_space, solution_coefficients
from flowcut.flow.linearization import linearize

Map = Callable[[Tensor], Tensor]
Formulation = Callable[[Tensor], Map]


def slices(weights: Tensor) -> Map:
    """Added in place where both pixels are inside: nothing is computed twice, nothing is padded."""
    parts, offsets = [w[:, None] for w in weights.unbind(1)], _offsets(weights)
    places = [(source_slices(o, _spatial(weights)), target_slices(o, _spatial(weights))) for o in offsets]

    def product(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for w, (here, there) in zip(parts, places, strict=True):
            out[(..., *here)] += w[(..., *here)] * x[(..., *there)]
        return out

    return product


def padded(weights: Tensor) -> Map:
    """One frame of zeros, then windows of full size."""
    parts, reach = [w[:, None] for w in weights.unbind(1)], _side(weights) // 2
    offsets, (height, width) = _offsets(weights), _spatial(weights)

    def product(x: Tensor) -> Tensor:
        framed = functional.pad(x, (reach,) * 4)
        out = torch.zeros_like(x)
        for w, (i, j) in zip(parts, offsets, strict=True):
            top, left = reach + i, reach + j
            out = out + w * framed[..., top : top + height, left : left + width]
        return out

    return product


def padded_in_place(weights: Tensor) -> Map:
    """The same with fused multiply-adds."""
    parts, reach = [w[:, None] for w in weights.unbind(1)], _side(weights) // 2
    offsets, (height, width) = _offsets(weights), _spatial(weights)

    def product(x: Tensor) -> Tensor:
        framed = functional.pad(x, (reach,) * 4)
        out = torch.zeros_like(x)
        for w, (i, j) in zip(parts, offsets, strict=True):
            top, left = reach + i, reach + j
            out.addcmul_(w, framed[..., top : top + height, left : left + width])
        return out

    return product


def row_by_row(weights: Tensor) -> Map:
    """The columns of the window side by side, its rows one after another."""
    side, (height, width) = _side(weights), _spatial(weights)
    rows = weights.view(len(weights), 1, side, side, height, width).unbind(2)

    def product(x: Tensor) -> Tensor:
        framed = functional.pad(x, (side // 2,) * 4)
        shifted = torch.stack([framed[..., j : j + width] for j in range(side)], dim=2)
        out = torch.zeros_like(x)
        for i, row in enumerate(rows):
            out = out + (row * shifted[..., i : i + height, :]).sum(dim=2)
        return out

    return product


def unfold(weights: Tensor) -> Map:
    """All neighbours of all pixels at once."""
    side, count = _side(weights), weights.shape[1]

    def product(x: Tensor) -> Tensor:
        shape = (len(x), x.shape[1], count, *x.shape[2:])
        neighbours = functional.unfold(x, side, padding=side // 2).view(shape)
        return (neighbours * weights[:, None]).sum(dim=2)

    return product


class _Written(torch.autograd.Function):
    """The product with its derivatives written out by hand, in slices."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weights, x)
        out = torch.zeros_like(x)
        for k, o in enumerate(_offsets(weights)):
            here, there = (..., *source_slices(o, _spatial(x))), (..., *target_slices(o, _spatial(x)))
            out[here].addcmul_(weights[:, k : k + 1][here], x[there])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        weights, x = ctx.saved_tensors
        to_weights, to_x = torch.zeros_like(weights), torch.zeros_like(x)
        for k, o in enumerate(_offsets(weights)):
            here, there = (..., *source_slices(o, _spatial(x))), (..., *target_slices(o, _spatial(x)))
            torch.sum(grad[here] * x[there], dim=1, out=to_weights[:, k][here])
            to_x[there].addcmul_(weights[:, k : k + 1][here], grad[here])
        return to_weights, to_x


def written(weights: Tensor) -> Map:
    """With derivatives by hand: no longer autograd alone, but what somebody in need of speed would do."""

    def product(x: Tensor) -> Tensor:
        out: Tensor = _Written.apply(weights, x)
        return out

    return product


@cache
def _compiled_product() -> Callable[[Tensor, Tensor], Tensor]:
    def product(weights: Tensor, x: Tensor) -> Tensor:
        return padded(weights)(x)

    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(product, dynamic=False)
    return compiled


def inductor(weights: Tensor) -> Map:
    """:func:`padded` through ``torch.compile``, which needs a C++ compiler."""
    return partial(_compiled_product(), weights)


# Eager PyTorch and autograd alone.
EAGER: dict[str, Formulation] = {
    "slices": slices,
    "padded": padded,
    "padded, in place": padded_in_place,
    "row by row": row_by_row,
    "unfold": unfold,
}
# What takes more than that.
BEYOND: dict[str, Formulation] = {"derivatives by hand": written, "torch.compile": inductor}


class Task(NamedTuple):
    """One gradient: of <cotangent, Y(time)> with respect to the weights.

    Attributes
    ----------
    weights
        (1, K, H, W).
    evidence
        -D / rho, (1, J, H, W).
    cotangent
        (1, J, H, W).
    time
        T.
    steps
        Euler steps, or dimension of the Krylov space.
    """

    weights: Tensor
    evidence: Tensor
    cotangent: Tensor
    time: float
    steps: int


def euler(formulation: Formulation, task: Task) -> tuple[Tensor, Tensor]:
    """Y and dL/dOmega by autograd through explicit Euler steps (LAF (3.16))."""
    weights = task.weights.detach().requires_grad_()
    product = formulation(weights)
    s = product(task.evidence).softmax(dim=1)
    source = s - 1 / s.shape[1]
    y = torch.zeros_like(s)
    for _ in range(task.steps):
        z = product(y)
        y = y + task.time / task.steps * (source + s * (z - (s * z).sum(dim=1, keepdim=True)))
    return _backward(y, weights, task)


class _Forward(NamedTuple):
    """Products with Omega for :func:`linearize`; autograd supplies those with its transpose."""

    apply: Map

    def product(self, weights: Tensor, x: Tensor) -> Tensor:
        return self.apply(x)

    def transpose(self, weights: Tensor, u: Tensor) -> Tensor:
        raise NotImplementedError("transpose: expected to be left to autograd")

    def gradient(self, u: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError("gradient: expected to be left to autograd")


def arnoldi(formulation: Formulation, task: Task) -> tuple[Tensor, Tensor]:
    """Y and dL/dOmega by autograd through the Krylov approximation (LAF (2.10))."""
    weights = task.weights.detach().requires_grad_()
    flow = linearize(_Forward(formulation(weights)), weights, task.evidence)
    space = krylov_space(flow, flow.source, Options(task.steps), task.time, transpose=False)
    y = images(flow, space, solution_coefficients(space, task.time))[:, 0]
    return _backward(y, weights, task)


def _backward(y: Tensor, weights: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    y.backward(task.cotangent)
    assert weights.grad is not None
    return y.detach(), weights.grad


def _side(weights: Tensor) -> int:
    return math.isqrt(weights.shape[1])


def _offsets(weights: Tensor) -> tuple[Offset, ...]:
    return Neighborhood.window(2, _side(weights)).offsets


def _spatial(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]
