"""Derivatives of total variation: finite differences, blocks or values, kinks, shared edges, twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.total_variation import solve_total_variation, total_variation


def _problem(where: Neighborhood | Graph, spatial: tuple[int, ...], groups: int, items: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(len(where))
    ties = (len(where), *spatial) if isinstance(where, Neighborhood) else (len(where),)
    scores = torch.randn((2, 2, *spatial), generator=g, dtype=torch.float64)
    edges = 0.7 * torch.rand((items, groups, *ties), generator=g, dtype=torch.float64)
    return [scores.requires_grad_(), edges.requires_grad_()]


_CASES = [
    (Neighborhood.edges(1), (30,), 2, 2),
    (Neighborhood.edges(2), (9, 8), 1, 2),
    (Neighborhood.edges(2, 2), (6, 8), 2, 1),
    (Neighborhood.edges(3, 3), (3, 4, 4), 1, 1),
    (Neighborhood(((0, 9), (0, 1), (0, -1), (7, -7), (2, 1))), (4, 5), 1, 2),
    (Graph(torch.tensor([[0, 1, 2, 3, 0, 4, 5], [1, 2, 3, 0, 2, 5, 6]]), 8), (8,), 1, 2),
]


@pytest.mark.parametrize(("where", "spatial", "groups", "items"), _CASES)
@pytest.mark.parametrize("method", ["exact", "iterative"])
def test_gradients_are_finite_differences(where, spatial, groups, items, method) -> None:
    inputs = _problem(where, spatial, groups, items)
    weights = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(scores: Tensor, edges: Tensor) -> Tensor:
        return (weights * total_variation(scores, edges, where, method=method)).sum()

    gradients = torch.autograd.grad(loss(*inputs), inputs)
    step = 1e-7 * float(inputs[0].detach().abs().max())
    g = torch.Generator().manual_seed(1)
    exact = lambda a, b: (weights * total_variation(a, b, where)).sum()  # noqa: E731
    with torch.no_grad():
        for which, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            for place in torch.randint(value.numel(), (25,), generator=g):
                moved = [[t.clone() for t in inputs] for _ in range(2)]
                moved[0][which].view(-1)[place] += step
                moved[1][which].view(-1)[place] -= step
                slope = (exact(*moved[0]) - exact(*moved[1])) / (2 * step)
                torch.testing.assert_close(slope, gradient.flatten()[place], rtol=1e-6, atol=1e-6)


def test_two_pixels_by_hand() -> None:
    scores = torch.tensor([[[0.0, 4.0]]], requires_grad=True)
    edges = torch.tensor([[[1.0, 7.0]]], requires_grad=True)
    out = total_variation(scores, edges)
    assert out.tolist() == [[[1.0, 3.0]]]
    out.backward(torch.tensor([[[2.0, 5.0]]]))
    assert scores.grad.tolist() == [[[2.0, 5.0]]]
    # One unit more of weight moves the pixels towards each other: 2 - 5.
    assert edges.grad.tolist() == [[[-3.0, 0.0]]]
    scores.grad = edges.grad = None
    total_variation(scores, 3 * edges).backward(torch.tensor([[[2.0, 5.0]]]))
    assert scores.grad.tolist() == [[[3.5, 3.5]]]
    assert edges.grad.tolist() == [[[0.0, 0.0]]]


def test_blocks_or_values() -> None:
    # Pixels 0 and 3 end at the same value and do not touch.
    scores = torch.tensor([[[1.0, 9.0, 9.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    edges = torch.ones(1, 1, 4, dtype=torch.float64)
    g = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]], dtype=torch.float64)
    for gradient, expected in (("blocks", [1.0, 3.0, 3.0, 8.0]), ("values", [4.5, 3.0, 3.0, 4.5])):
        out = total_variation(scores, edges, gradient=gradient)
        assert out.tolist() == [[[2.0, 8.0, 8.0, 2.0]]]
        assert torch.autograd.grad(out, scores, g)[0].tolist() == [[expected]]


@pytest.mark.parametrize("method", ["exact", "iterative", "alternating"])
def test_second_derivatives_are_those_of_a_linear_backward(method) -> None:
    scores, edges = _problem(Neighborhood.edges(2), (3, 4), 1, 2)
    g = torch.randn(scores.shape, dtype=torch.float64, requires_grad=True)
    out = total_variation(scores, edges, method=method)
    first = torch.autograd.grad(out, (scores, edges), g, create_graph=True)
    u = [torch.randn_like(f) for f in first]
    back = torch.autograd.grad(first, g, u)[0]
    # <u, J^T g> is linear in g: its derivative is J u, seen by a forward difference of z along u.
    h = 1e-7
    with torch.no_grad():
        ahead = total_variation(scores + h * u[0], edges + h * u[1])
        behind = total_variation(scores - h * u[0], edges - h * u[1])
    if method != "alternating":
        torch.testing.assert_close(back, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda v: torch.autograd.grad(out, scores, v, create_graph=True)[0], (g,))


def test_a_tied_picture_of_bytes_gets_a_derivative_of_some_piece() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(256, (1, 1, 20, 20), generator=g).double().requires_grad_()
    edges = (40 * torch.rand((1, 2, 20, 20), generator=g, dtype=torch.float64)).floor().requires_grad_()
    solution = solve_total_variation(scores, edges)
    assert (solution.error_bound < 1e-10).all()
    out = torch.randn(scores.shape, generator=g, dtype=torch.float64)
    gradients = torch.autograd.grad(solution.value, (scores, edges), out)
    # Means over blocks keep the sum; edges inside of blocks do not matter.
    torch.testing.assert_close(gradients[0].sum(), out.sum())
    same = solution.blocks[0, 0, :, 1:] == solution.blocks[0, 0, :, :-1]
    assert (gradients[1][0, 1, :, :-1][same] == 0).all()


def test_edges_outside_get_no_gradient() -> None:
    scores, edges = _problem(Neighborhood.edges(2, 2), (4, 5), 1, 2)
    inside = Neighborhood.edges(2, 2).inside((4, 5))
    with torch.no_grad():
        edges[:, :, ~inside] = float("nan")
    total_variation(scores, edges).square().sum().backward()
    assert (edges.grad[:, :, ~inside] == 0).all()
    assert edges.grad[:, :, inside].isfinite().all()


def test_infinite_gradients_pass() -> None:
    # A gradient scaler sends them on purpose.
    scores, edges = _problem(Neighborhood.edges(2), (4, 5), 1, 2)
    out = total_variation(scores, edges)
    gradient = torch.autograd.grad(out, scores, torch.full_like(out, float("inf")))[0]
    assert gradient.isinf().all()
