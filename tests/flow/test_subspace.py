"""The factors of the gradient and of the solution are those of the gradient and of the solution."""

from __future__ import annotations

import pytest
import torch

from flowcut.flow.linear import integrate_linear_flow
from flowcut.flow.subspace import gradient_subspace
from flowcut.flow.weights import softmax_weights


def inputs(dtype: torch.dtype = torch.float64):
    g = torch.Generator().manual_seed(1)
    distances = torch.rand(2, 3, 5, 6, generator=g, dtype=dtype)
    weights = softmax_weights(torch.randn(2, 9, 5, 6, generator=g, dtype=dtype))
    return distances, weights, torch.randn(2, 3, 5, 6, generator=g, dtype=dtype)


def test_solution_and_gradient_come_back_from_their_factors() -> None:
    distances, weights, grad = inputs()
    found = gradient_subspace(distances, weights, grad, rho=0.5, time=3.0, krylov_dim=30, rank=None)
    leaf = weights.clone().requires_grad_()
    value = integrate_linear_flow(distances, leaf, rho=0.5, time=3.0, krylov_dim=30)
    torch.testing.assert_close(found.solution, value.detach())
    truth = torch.autograd.grad((value * grad).sum(), leaf)[0]
    torch.testing.assert_close(found.weights_gradient, truth)
    flat = found.basis.flatten(2)
    torch.testing.assert_close(flat @ flat.mT, torch.eye(30, dtype=torch.float64).expand(2, -1, -1))


def test_factors_fall_and_few_suffice() -> None:
    distances, weights, grad = inputs()
    full = gradient_subspace(distances, weights, grad, rho=0.5, time=3.0, krylov_dim=10, rank=10)
    norms = full.left.flatten(2).norm(dim=2)
    assert (norms.diff(dim=1) <= 0).all()
    right = full.right.flatten(2)
    torch.testing.assert_close(right @ right.mT, torch.eye(10, dtype=torch.float64).expand(2, -1, -1))
    errors = []
    for rank in (1, 2, 4):
        few = gradient_subspace(distances, weights, grad, rho=0.5, time=3.0, krylov_dim=10, rank=rank)
        errors.append((few.weights_gradient - full.weights_gradient).norm() / full.weights_gradient.norm())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_a_gradient_of_another_shape_is_refused() -> None:
    distances, weights, grad = inputs()
    with pytest.raises(ValueError, match="grad: expected shape"):
        gradient_subspace(distances, weights, grad[:1])
