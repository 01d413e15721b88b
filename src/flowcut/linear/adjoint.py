r"""Derivatives of products and solves: the one place where this room meets autograd.

With A = diag(d) + L_w, u^T A v = sum_i d_i u_i v_i + sum_k,i w_k(i) (u_i - u_{i+k}) (v_i - v_{i+k}), so

    d(u^T A v) / d w_k(i) = (u_i - u_{i+k}) (v_i - v_{i+k}),      d(u^T A v) / d d_i = u_i v_i.

For x = A^{-1} b and an incoming gradient g, let A^T lambda = g (SoftCut thesis (20), A = A^T). Then

    dL/db = lambda,   dL/dw = -d(lambda^T A x)/dw,   dL/dd = -lambda * x.

Every backward is made of these same three functions, so derivatives of any order follow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from flowcut.core.neighborhood import Offset
from flowcut.linear.solver import Solver, State
from flowcut.linear.system import Solved, System

Index = Tensor | None


class _Product(Function):
    """y = A x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(edges: Tensor, leak: Tensor, x: Tensor, index: Index, offsets: tuple[Offset, ...]) -> Tensor:
        return System(edges, leak, index, offsets).product(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        edges, leak, x, index, ctx.offsets = inputs
        ctx.save_for_backward(edges, leak, x, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        edges, leak, x, index = ctx.saved_tensors
        system = System(edges, leak, index, ctx.offsets)
        needs = ctx.needs_input_grad
        return (
            edge_gradient(system, grad, x) if needs[0] else None,
            _to_leak(grad * x, leak) if needs[1] else None,
            product(system, grad) if needs[2] else None,
            None,
            None,
        )


class _EdgeGradient(Function):
    """g_k(i) = sum_c (u_i - u_{i+k}) (v_i - v_{i+k}): bilinear, each factor's derivative is L_h."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, v: Tensor, index: Index, offsets: tuple[Offset, ...], groups: int) -> Tensor:
        return System(u, u, index, offsets).edge_gradient(u, v, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, v, index, ctx.offsets, _ = inputs
        ctx.save_for_backward(u, v, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        u, v, index = ctx.saved_tensors
        laplacian = System(grad, torch.zeros_like(u[:, :1]), index, ctx.offsets)
        needs = ctx.needs_input_grad
        return (
            product(laplacian, v) if needs[0] else None,
            product(laplacian, u) if needs[1] else None,
            None,
            None,
            None,
        )


class _Solve(Function):
    """x = A^{-1} b by any solver, with its verdict."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        edges: Tensor,
        leak: Tensor,
        rhs: Tensor,
        handle: Tensor,
        index: Index,
        offsets: tuple[Offset, ...],
        solver: Solver,
        check: str,
        on_failure: str,
    ) -> Solved:
        state = State(System(edges, leak, index, offsets), handle)
        return solver.compute(state, rhs, check, on_failure)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Solved) -> None:
        edges, leak, _, handle, index, ctx.offsets, ctx.solver, _, ctx.on_failure = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(edges, leak, handle, index, output[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
        edges, leak, handle, index, x = ctx.saved_tensors
        state = State(System(edges, leak, index, ctx.offsets), handle)
        # Unchecked: a gradient scaler sends infinities through on purpose.
        adjoint = solve_state(ctx.solver, ctx.solver.transpose(state), grad, "", ctx.on_failure)[0]
        needs = ctx.needs_input_grad
        return (
            -edge_gradient(state.system, adjoint, x) if needs[0] else None,
            -_to_leak(adjoint * x, leak) if needs[1] else None,
            adjoint if needs[2] else None,
            *(None,) * 6,
        )


def product(system: System, x: Tensor) -> Tensor:
    """A x, differentiable in edges, leak and x."""
    y: Tensor = _Product.apply(system.edges, system.leak, x, system.edge_index, system.offsets)
    return y


def edge_gradient(system: System, u: Tensor, v: Tensor) -> Tensor:
    """d(u^T A v) / d edges, of the shape of edges, differentiable in u and v."""
    groups = system.edges.shape[1]
    g: Tensor = _EdgeGradient.apply(u, v, system.edge_index, system.offsets, groups)
    return g


def solve_state(solver: Solver, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
    """x = A^{-1} rhs with the solver's verdict; x is differentiable in edges, leak and rhs."""
    edges, leak, index, offsets = state.system
    solved: Solved = _Solve.apply(edges, leak, rhs, state.handle, index, offsets, solver, check, on_failure)
    return solved


def _to_leak(value: Tensor, leak: Tensor) -> Tensor:
    """Sum (N, C, *spatial) over the axes that ``leak`` shares."""
    if leak.shape[1] == 1:
        value = value.sum(dim=1, keepdim=True)
    if leak.shape[0] == 1 and value.shape[0] != 1:
        value = value.sum(dim=0, keepdim=True)
    return value.to(leak.dtype)
