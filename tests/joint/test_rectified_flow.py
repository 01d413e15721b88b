"""Derivatives of the rectified S-flow: finite differences, any number of times, and autograd's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from flowcut.joint.adjoint import rectified_logits
from flowcut.kernels.rectified_reference import rectified_reference

EPSILON = 1e-2
STEPS = [0.2, 0.3, 0.1]
N = 3
PAIRS = torch.tensor(list(itertools.combinations(range(N), 2))).T.contiguous()


def _inputs(channels: int, samples: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    g = torch.Generator().manual_seed(channels)
    shapes = (channels, N, samples), (PAIRS.shape[1], samples), (N, samples)
    return [torch.randn(s, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def _flow(*inputs: Tensor) -> Tensor:
    return rectified_logits(*inputs, PAIRS, EPSILON, STEPS)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_first_and_second_derivatives(channels: int) -> None:
    inputs = _inputs(channels)
    assert (torch.cat(inputs[1:]) < 0).any()
    assert gradcheck(_flow, inputs)
    assert gradgradcheck(_flow, inputs)


@pytest.mark.parametrize("channels", [1, 3])
def test_third_derivatives(channels: int) -> None:
    start, ties, diagonal = _inputs(channels, samples=1)

    def gradient(v: Tensor) -> Tensor:
        return torch.autograd.grad(_flow(v, ties, diagonal).cos().sum(), v, create_graph=True)[0]

    assert gradgradcheck(gradient, (start,))


@pytest.mark.parametrize("channels", [1, 3])
def test_hessian_products_are_those_of_autograd_alone(channels: int) -> None:
    inputs = _inputs(channels, samples=65)
    g = torch.Generator().manual_seed(9)
    directions = [torch.randn(t.shape, generator=g, dtype=t.dtype) for t in inputs]
    found = []
    for flow in (_flow, lambda *x: rectified_reference(*x, PAIRS, EPSILON, STEPS)[0]):
        value = flow(*inputs).sin().sum()
        first = torch.autograd.grad(value, inputs, create_graph=True)
        along = sum((a * d).sum() for a, d in zip(first, directions, strict=True))
        found.append((*first, *torch.autograd.grad(along, inputs)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_gradients_of_some_inputs_only() -> None:
    inputs = _inputs(3)
    everything = torch.autograd.grad(_flow(*inputs).sin().sum(), inputs)
    for position in range(3):
        some = [t if k == position else t.detach() for k, t in enumerate(inputs)]
        (found,) = torch.autograd.grad(_flow(*some).sin().sum(), some[position])
        assert torch.equal(found, everything[position])
    with torch.no_grad():
        assert not _flow(*inputs).requires_grad


def test_expanded_and_scrambled_inputs() -> None:
    """A start that all samples share, and couplings with samples first in memory."""
    start, ties, diagonal = _inputs(3, samples=5)
    shared = start.detach()[..., :1].clone().requires_grad_()
    turned = [t.detach().T.contiguous().requires_grad_() for t in (ties, diagonal)]
    out = _flow(shared.expand(-1, -1, 5), *(t.T for t in turned))
    expected = _flow(shared.detach().repeat(1, 1, 5), ties, diagonal)
    assert torch.equal(out, expected)
    u = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).cos()
    to_shared, *to_turned = torch.autograd.grad((out * u).sum(), (shared, *turned))
    whole = start.detach()[..., :1].repeat(1, 1, 5).requires_grad_()
    by_whole, *by_rest = torch.autograd.grad(
        (_flow(whole, ties, diagonal) * u).sum(), (whole, ties, diagonal)
    )
    torch.testing.assert_close(to_shared, by_whole.sum(dim=-1, keepdim=True))
    for a, b in zip(to_turned, by_rest, strict=True):
        torch.testing.assert_close(a.T, b)


def test_single_precision_and_the_end_of_the_mask() -> None:
    """Types stay, and an entry of X at 0 has the gradient 0 however often it is differentiated."""
    start, ties, diagonal = _inputs(3, dtype=torch.float32)
    with torch.no_grad():
        ties[0] = 0.0
        diagonal[1] = -0.0
    value = _flow(start, ties, diagonal)
    assert value.dtype == torch.float32
    first = torch.autograd.grad(value.sin().sum(), (start, ties, diagonal), create_graph=True)
    assert [t.dtype for t in first] == [torch.float32] * 3
    assert not first[1][0].any()
    assert not first[2][1].any()
