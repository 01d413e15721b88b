r"""Derivatives of products with Omega and of the linear flow: where this room meets autograd.

u^T Omega v = sum_i sum_k omega_ik <u_i, v_k> is linear in each of its three factors, so

    d / d omega_ik = <u_i, v_k>,      d / d u = Omega v,      d / d v = Omega^T u,

and the three operations below are each other's derivatives: any order follows.

One step of the linear flow, Y -> Y + tau phi(tau A) (b + A Y), has the gradients that
:mod:`flowcut.flow.factors` derives from M = dL/dA and m = dL/db; with a start Y_0, b + A Y_0 takes the place
of b, and so <m, d(A Y_0)> adds one more factor m Y_0^T to M, and dL/dY_0 = g + A^T m.

For derivatives of higher order the same gradients are computed once more from differentiable products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from flowcut.core.neighborhood import Offset
from flowcut.flow.convolution import convolution_factors
from flowcut.flow.exact_gradient import exact_factors, exact_solution
from flowcut.flow.factors import Factors, gradients_from_factors, gradients_from_spaces
from flowcut.flow.krylov import Options, images, krylov_space, solution_coefficients
from flowcut.flow.linearization import Linearization, Products, linearize
from flowcut.flow.paper_gradient import paper_factors
from flowcut.flow.window import Window
from flowcut.kernels.krylov_reference import Krylov

Index = Tensor | None
Offsets = tuple[Offset, ...]


class _Average(Function):
    """Omega x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, x: Tensor, index: Index, offsets: Offsets, num_nodes: int) -> Tensor:
        return Window(offsets, index, num_nodes).product(weights, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights, x, index, ctx.offsets, ctx.num_nodes = inputs
        ctx.save_for_backward(weights, x, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        weights, x, index = ctx.saved_tensors
        window = Window(ctx.offsets, index, ctx.num_nodes)
        needs = ctx.needs_input_grad
        return (
            correlate(window, grad, x) if needs[0] else None,
            average_transpose(window, weights, grad) if needs[1] else None,
            *(None,) * 3,
        )


class _AverageTranspose(Function):
    """Omega^T u."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor, u: Tensor, index: Index, offsets: Offsets, num_nodes: int) -> Tensor:
        return Window(offsets, index, num_nodes).transpose(weights, u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights, u, index, ctx.offsets, ctx.num_nodes = inputs
        ctx.save_for_backward(weights, u, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        weights, u, index = ctx.saved_tensors
        window = Window(ctx.offsets, index, ctx.num_nodes)
        needs = ctx.needs_input_grad
        return (
            correlate(window, u, grad) if needs[0] else None,
            average(window, weights, grad) if needs[1] else None,
            *(None,) * 3,
        )


class _Correlate(Function):
    """<u_i, v_k> for every weight."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, v: Tensor, index: Index, offsets: Offsets, num_nodes: int) -> Tensor:
        return Window(offsets, index, num_nodes).gradient(u, v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, v, index, ctx.offsets, ctx.num_nodes = inputs
        ctx.save_for_backward(u, v, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        u, v, index = ctx.saved_tensors
        window = Window(ctx.offsets, index, ctx.num_nodes)
        needs = ctx.needs_input_grad
        return (
            average(window, grad, v) if needs[0] else None,
            average_transpose(window, grad, u) if needs[1] else None,
            *(None,) * 3,
        )


class _Likelihood(Function):
    """-D / rho, checked."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        distances: Tensor, weights: Tensor, index: Index, offsets: Offsets, num_nodes: int, rho: float
    ) -> Tensor:
        return Window(offsets, index, num_nodes).likelihood(distances, weights, rho)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.rho = inputs[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return (grad / -ctx.rho, *(None,) * 5)


def likelihood(window: Window, distances: Tensor, weights: Tensor, rho: float) -> Tensor:
    """-D / rho, differentiable in the distances; refuses bad values of distances and weights."""
    value: Tensor = _Likelihood.apply(distances, weights, window.pairs, window.offsets, window.num_nodes, rho)
    return value


def average(window: Window, weights: Tensor, x: Tensor) -> Tensor:
    """Omega x, differentiable in weights and x."""
    y: Tensor = _Average.apply(weights, x, window.pairs, window.offsets, window.num_nodes)
    return y


def average_transpose(window: Window, weights: Tensor, u: Tensor) -> Tensor:
    """Omega^T u, differentiable in weights and u."""
    z: Tensor = _AverageTranspose.apply(weights, u, window.pairs, window.offsets, window.num_nodes)
    return z


def correlate(window: Window, u: Tensor, v: Tensor) -> Tensor:
    """<u_i, v_k> for every weight omega_ik, differentiable in u and v."""
    g: Tensor = _Correlate.apply(u, v, window.pairs, window.offsets, window.num_nodes)
    return g


class Differentiable(NamedTuple):
    """The products of a window, differentiable."""

    window: Window

    def product(self, weights: Tensor, x: Tensor) -> Tensor:
        """Omega x."""
        return average(self.window, weights, x)

    def transpose(self, weights: Tensor, u: Tensor) -> Tensor:
        """Omega^T u."""
        return average_transpose(self.window, weights, u)

    def gradient(self, u: Tensor, v: Tensor) -> Tensor:
        """<u_i, v_k> for every weight."""
        return correlate(self.window, u, v)


def source(flow: Linearization, start: Tensor | None) -> Tensor:
    """b + A Y_0."""
    return flow.source if start is None else flow.source + flow.product(start)


class _Step(Function):
    """Y(tau) from Y(0), with the Krylov space that it was found in."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        weights: Tensor, evidence: Tensor, start: Tensor | None, index: Index, offsets: Offsets,
        num_nodes: int, time: float, options: Options,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        flow = linearize(Window(offsets, index, num_nodes), weights, evidence)
        if options.gradient == "exact":
            value = exact_solution(flow, start, time)
            # Nothing to hand on: a space that is exhausted at once.
            space = krylov_space(flow, torch.zeros_like(evidence), Options(1), time, transpose=False)
        else:
            space = krylov_space(flow, source(flow, start), options, time, transpose=False)
            value = images(flow, space, solution_coefficients(space, time))[:, 0]
            value = value if start is None else start + value
        return value, flow.similarity, *space

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        weights, evidence, start, index, ctx.offsets, ctx.num_nodes, ctx.time, ctx.options = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(weights, evidence, start, index, *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
        weights, evidence, start, index, value, similarity, *space = ctx.saved_tensors
        window = Window(ctx.offsets, index, ctx.num_nodes)
        needs = ctx.needs_input_grad
        products: Products = window
        flow = Linearization(window, weights, similarity)
        forward: Krylov | None = Krylov(*space)
        if torch.is_grad_enabled():
            products = Differentiable(window)
            flow, forward = linearize(products, weights, evidence), None
        to_weights, gamma, to_start = step_gradients(
            flow, evidence, start, value, forward, grad, ctx.time, ctx.options
        )
        return (
            to_weights if needs[0] else None,
            products.transpose(weights, gamma) if needs[1] else None,
            to_start if needs[2] else None,
            *(None,) * 5,
        )


def step_gradients(
    flow: Linearization, evidence: Tensor, start: Tensor | None, value: Tensor, forward: Krylov | None,
    grad: Tensor, time: float, options: Options,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """dL/dOmega, gamma and dL/dY_0 of one step; without ``forward`` its space is built again."""
    rhs = source(flow, start)
    moved = value if start is None else value - start
    if options.gradient == "exact":
        return _from_factors(flow, evidence, start, exact_factors(flow, rhs, grad, time), grad)
    if options.gradient == "paper":
        return _from_factors(
            flow, evidence, start, paper_factors(flow, rhs, moved, grad, time, options), grad
        )
    if forward is None:
        forward = krylov_space(flow, rhs, options, time, transpose=False)
    adjoint, small = convolution_factors(flow, forward, grad, time, options)
    weights, gamma = gradients_from_spaces(flow, evidence, adjoint, forward, small)
    if start is None:
        return weights, gamma, None
    mean = images(flow, adjoint, small.mean)[:, 0]
    more, gamma_more, to_start = _from_start(flow, evidence, start, mean, grad)
    return weights + more, gamma + gamma_more, to_start


def _from_factors(
    flow: Linearization, evidence: Tensor, start: Tensor | None, factors: Factors, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    weights, gamma = gradients_from_factors(flow, evidence, factors)
    if start is None:
        return weights, gamma, None
    more, gamma_more, to_start = _from_start(flow, evidence, start, factors.mean, grad)
    return weights + more, gamma + gamma_more, to_start


def _from_start(
    flow: Linearization, evidence: Tensor, start: Tensor, mean: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What <m, d(A Y_0)> adds, and dL/dY_0."""
    factors = Factors(mean[:, None], start[:, None], flow.product(start)[:, None], torch.zeros_like(mean))
    weights, gamma = gradients_from_factors(flow, evidence, factors)
    return weights, gamma, grad + flow.transpose(mean)


def step(
    window: Window, weights: Tensor, evidence: Tensor, start: Tensor | None, time: float, options: Options
) -> tuple[Tensor, Tensor]:
    """One step of the linear flow and the estimate (N,) of its error, differentiable in the tensors."""
    found = _Step.apply(
        weights, evidence, start, window.pairs, window.offsets, window.num_nodes, time, options
    )
    return found[0], found[-1]
