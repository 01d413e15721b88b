"""Couplings from vectors of numbers: dense matrices, and the S-flow of the flow room."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import flowcut as fc
from flowcut.flow.integrators import GeometricEuler
from flowcut.joint.dynamics import ConvolutionDynamics, PairDynamics

STEPS = [0.1, 0.12, 0.144]
_FAR = fc.Neighborhood(((-1, 1), (0, 2), (5, 0)))  # 5, 0 leaves the picture
_GRAPH = fc.Graph(torch.tensor([[0, 3, 1, 0], [1, 1, 2, 2]]), 5)
_CASES = {
    "all pairs, two labels": ((2, 2, 3), None),
    "all pairs, three labels": ((3, 2, 2), None),
    "one pixel": ((4, 1), None),
    "line": ((3, 5), fc.Neighborhood.edges(1)),
    "8 neighbours": ((2, 3, 4), fc.Neighborhood.edges(2, 2)),
    "far": ((3, 2, 4), _FAR),
    "graph": ((3, 5), _GRAPH),
    "volume": ((2, 2, 2, 2), fc.Neighborhood.edges(3)),
}
_ALL = pytest.mark.parametrize("name", list(_CASES))


def _numbers(dynamics, pixels: int, samples: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    start = torch.randn(dynamics.channels, pixels, samples, generator=g, dtype=torch.float64)
    if dynamics.channels > 1:
        start = start - start.mean(dim=0)
    return start, torch.randn(dynamics.size, samples, generator=g, dtype=torch.float64)


def _tied(spatial: tuple[int, ...], couplings) -> list[tuple[int, int]]:
    """Pairs of pixels in the order of the numbers: offset by offset, pixels in row-major order."""
    count = math.prod(spatial)
    if couplings is None:
        return list(itertools.combinations(range(count), 2))
    if isinstance(couplings, fc.Graph):
        return [tuple(pair) for pair in couplings.edge_index.T.tolist()]
    numbers = torch.arange(count).reshape(spatial)
    found = []
    for offset in couplings.offsets:
        for pixel in itertools.product(*map(range, spatial)):
            other = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            if all(0 <= o < s for o, s in zip(other, spatial, strict=True)):
                found.append((int(numbers[pixel]), int(numbers[other])))
    return found


def _matrices(name: str, x: Tensor, epsilon: float) -> Tensor:
    """(M, n, n) from (D, M): max(X, 0) + epsilon I, X = Z + Z^T."""
    (_, *spatial), couplings = _CASES[name]
    pairs, n = _tied(tuple(spatial), couplings), math.prod(spatial)
    omega = torch.zeros(x.shape[1], n, n, dtype=x.dtype)
    for e, (i, j) in enumerate(pairs):
        # All pairs may stand in any order; each of the others has its place.
        omega[:, i, j] += x[e].clamp_min(0)
        omega[:, j, i] += x[e].clamp_min(0)
    for i in range(n):
        omega[:, i, i] = x[len(pairs) + i].clamp_min(0) + epsilon
    return omega


def _in_order(dynamics: PairDynamics, name: str, x: Tensor) -> Tensor:
    """The same numbers with all pairs in the order of combinations."""
    shape, couplings = _CASES[name]
    if couplings is not None:
        return x
    ours = {tuple(sorted(pair)): e for e, pair in enumerate(dynamics.pairs.T.tolist())}
    order = [ours[pair] for pair in _tied(shape[1:], None)]
    return torch.cat([x[order], x[len(order) :]])


@_ALL
def test_pairs_are_those_that_are_tied(name: str) -> None:
    shape, couplings = _CASES[name]
    dynamics = PairDynamics(shape, couplings, 1e-3)
    found = [tuple(pair) for pair in dynamics.pairs.T.tolist()]
    expected = _tied(shape[1:], couplings)
    assert dynamics.pairs.shape == (2, len(expected))
    assert dynamics.pairs.dtype == torch.int64
    assert dynamics.size == len(expected) + math.prod(shape[1:])
    assert dynamics.channels == (1 if shape[0] == 2 else shape[0])
    if couplings is None:
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    else:
        assert found == expected


@_ALL
def test_run_is_the_s_flow_with_these_matrices(name: str) -> None:
    shape, couplings = _CASES[name]
    dynamics = PairDynamics(shape, couplings, 0.05)
    pixels = math.prod(shape[1:])
    start, x = _numbers(dynamics, pixels)
    steps = [0.1 * 1.2**k for k in range(6)]
    found = dynamics.run(start, x, steps)
    assert found.shape == start.shape
    omega = fc.DenseCouplings(_matrices(name, _in_order(dynamics, name, x), 0.05))
    logits = start if shape[0] > 2 else torch.cat([-start / 2, start / 2])
    integrator = GeometricEuler(0.1, growth=1.2)
    s = fc.s_flow(None, omega, sum(steps), integrator, initial_logits=logits.permute(2, 0, 1))
    ours = found.softmax(dim=0) if shape[0] > 2 else torch.cat([-found, found]).sigmoid()
    torch.testing.assert_close(ours.permute(2, 0, 1), s, rtol=1e-10, atol=1e-12)


@_ALL
def test_the_limit_is_that_of_the_s_flow(name: str) -> None:
    shape, couplings = _CASES[name]
    dynamics = PairDynamics(shape, couplings, 0.05)
    start, x = _numbers(dynamics, math.prod(shape[1:]), samples=30)
    labels, taken = dynamics.limit(start, x, 0.1, 1.1, 400)
    assert labels.dtype == torch.uint8
    assert labels.shape == start.shape[1:]
    assert (taken >= 0).all()
    omega = fc.DenseCouplings(_matrices(name, _in_order(dynamics, name, x), 0.05))
    logits = (start if shape[0] > 2 else torch.cat([-start / 2, start / 2])).permute(2, 0, 1)
    s = fc.s_flow(None, omega, 1e5, GeometricEuler(0.1, growth=1.1), initial_logits=logits)
    assert s.amax(dim=1).min() > 0.999
    assert torch.equal(labels.T.long(), s.argmax(dim=1))


@pytest.mark.parametrize("name", ["all pairs, two labels", "line", "graph"])
def test_gradients_of_run(name: str) -> None:
    shape, couplings = _CASES[name]
    dynamics = PairDynamics(shape, couplings, 0.05)
    start, x = (t.requires_grad_() for t in _numbers(dynamics, math.prod(shape[1:]), 2))
    assert gradcheck(lambda v, y: dynamics.run(v, y, STEPS), (start, x))


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 5), (3, 2, 2, 2)], ids=str)
def test_a_convolution_is_that_of_the_flow_room(shape: tuple[int, ...]) -> None:
    dynamics = ConvolutionDynamics(shape, 3)
    pixels = math.prod(shape[1:])
    assert dynamics.size == shape[0] ** 2 * 3 ** (len(shape) - 1)
    assert dynamics.channels == shape[0]
    start, x = _numbers(dynamics, pixels)
    start = start + 0.3  # whatever the start, its mean over the labels stays
    found = dynamics.run(start, x, STEPS)
    kernel = x.T.reshape(4, shape[0], shape[0], *(3,) * (len(shape) - 1))
    first = start.permute(2, 0, 1).reshape(4, *shape)
    s = fc.s_flow(
        None,
        fc.ConvolutionCouplings(kernel),
        sum(STEPS),
        GeometricEuler(0.1, growth=1.2),
        initial_logits=first,
    )
    ours = found.softmax(dim=0).permute(2, 0, 1).reshape(4, *shape)
    torch.testing.assert_close(ours, s, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.mean(dim=0), start.mean(dim=0))


def test_a_convolution_by_hand() -> None:
    """RAF (3): one step of two labels on three pixels, entry by entry, with asymmetric kernels."""
    dynamics = ConvolutionDynamics((2, 3), 3)
    start, x = _numbers(dynamics, 3, samples=1)
    s, kernel = start[..., 0].softmax(dim=0), x[:, 0].reshape(2, 2, 3)
    slope = torch.zeros(2, 3, dtype=torch.float64)
    for j, l, i, k in itertools.product(range(2), range(2), range(3), range(3)):
        if 0 <= i + k - 1 < 3:
            slope[j, i] += kernel[j, l, k] * s[l, i + k - 1]
    expected = start[..., 0] + 0.4 * (slope - slope.mean(dim=0))
    torch.testing.assert_close(dynamics.run(start, x, [0.4])[..., 0], expected)


def test_gradients_of_a_convolution() -> None:
    dynamics = ConvolutionDynamics((3, 2, 2), 3)
    start, x = (t.requires_grad_() for t in _numbers(dynamics, 4, 2))
    assert gradcheck(lambda v, y: dynamics.run(v, y, STEPS), (start, x))


def test_the_limit_of_a_convolution() -> None:
    """Kernels that pull towards equal labels end; one that repels stays undecided."""
    shape = (2, 4)
    dynamics = ConvolutionDynamics(shape, 3)
    start, _ = _numbers(dynamics, 4, samples=3)
    alike = torch.eye(2, dtype=torch.float64)[:, :, None] * torch.tensor([0.5, 1.0, 0.5]).double()
    kernels = torch.stack([alike, 2 * alike, -alike])
    labels, taken = dynamics.limit(start, kernels.flatten(1).T, 0.1, 1.0, 400)
    assert labels.dtype == torch.uint8
    assert labels.shape == (4, 3)
    assert (taken[:2] > 0).all()
    assert taken[2] == -1
    growing, _ = dynamics.limit(start[..., :2], kernels[:2].flatten(1).T, 0.1, 1.1, 400)
    assert torch.equal(growing, labels[:, :2])
    s = fc.s_flow(
        None,
        fc.ConvolutionCouplings(kernels[:2]),
        80.0,
        GeometricEuler(0.05),
        initial_logits=start.permute(2, 0, 1)[:2],
    )
    assert torch.equal(labels.T[:2].long(), s.argmax(dim=1))
