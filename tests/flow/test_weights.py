"""Weights on the simplex, on grids and graphs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.weights import (
    gaussian_weights,
    normalize_weights,
    softmax_weights,
    uniform_weights,
    weights_entropy,
)
from flowcut.flow.window import Window, graph_window

GRAPH = Graph(torch.tensor([[0, 1, 0], [1, 2, 3]]), 5)  # node 4 has no ties


def _random(spatial: tuple[int, ...], count: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, *spatial, generator=g, dtype=torch.float64)


def _sums(weights: Tensor, neighborhood: Neighborhood | Graph) -> Tensor:
    if isinstance(neighborhood, Graph):
        return graph_window(neighborhood).row_sums(weights)
    return Window(neighborhood.offsets).row_sums(weights)


@pytest.mark.parametrize("spatial", [(5,), (4, 6), (1, 1), (3, 2, 4)])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_rows_are_on_the_simplex_and_zero_outside(spatial: tuple[int, ...], size: int) -> None:
    where = Neighborhood.window(len(spatial), size)
    logits = _random(spatial, len(where))
    outside = ~where.inside(spatial)
    for weights in (
        uniform_weights(spatial, size, items=2),
        gaussian_weights(spatial, 1.3, size, items=2),
        softmax_weights(logits),
        normalize_weights(logits.exp()),
    ):
        assert weights.shape == (2, size ** len(spatial), *spatial)
        assert (weights >= 0).all()
        assert (weights[:, outside] == 0).all()
        sums = weights.sum(dim=1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_uniform_weights_count_the_neighbours() -> None:
    weights = uniform_weights((4, 5), dtype=torch.float64)
    corner, border, middle = weights[0, :, 0, 0], weights[0, :, 0, 2], weights[0, :, 2, 2]
    for row, count in ((corner, 4), (border, 6), (middle, 9)):
        assert (row[row > 0] == 1 / count).all()
        assert int((row > 0).sum()) == count


def test_gaussian_weights_know_the_spacing() -> None:
    where = Neighborhood.window(2, 3, spacing=(1.0, 2.0))
    weights = gaussian_weights((5, 5), 1.5, neighborhood=where, dtype=torch.float64)[0, :, 2, 2]
    truth = torch.tensor([math.exp(-(y**2 + (2 * x) ** 2) / 4.5) for y, x in where.offsets]).double()
    torch.testing.assert_close(weights, truth / truth.sum())


def test_softmax_equals_torch_s_over_a_row_inside() -> None:
    logits = _random((5, 5), 9)
    torch.testing.assert_close(softmax_weights(logits)[:, :, 2, 3], logits[:, :, 2, 3].softmax(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_softmax_of_extreme_logits(dtype: torch.dtype) -> None:
    """What stands outside is never read; large numbers do not overflow."""
    where = Neighborhood.window(2, 3)
    outside = ~where.inside((3, 4)).expand(2, 9, 3, 4)
    logits = (1e4 * _random((3, 4), 9)).to(dtype)
    spoiled = torch.where(outside, math.nan, logits).requires_grad_()
    weights = softmax_weights(spoiled)
    assert weights.dtype == dtype
    assert torch.equal(weights, softmax_weights(torch.where(outside, 3e4, logits).to(dtype)))
    torch.testing.assert_close(weights.sum(dim=1).float(), torch.ones(2, 3, 4), rtol=0, atol=1e-2)
    (weights * torch.arange(9.0).reshape(9, 1, 1).to(dtype)).sum().backward()
    assert torch.isfinite(spoiled.grad).all()
    assert (spoiled.grad[outside] == 0).all()


def test_graph_rows_are_on_the_simplex() -> None:
    logits = _random((), 2 * 3 + 5)
    for weights in (
        uniform_weights((5,), neighborhood=GRAPH, items=2),
        gaussian_weights((5,), 1.0, neighborhood=GRAPH, items=2),
        softmax_weights(logits, GRAPH),
        softmax_weights(1e4 * logits.float(), GRAPH),
        normalize_weights(logits.exp(), GRAPH),
    ):
        sums = _sums(weights, GRAPH)
        torch.testing.assert_close(sums, torch.ones_like(sums))
    # Node 0 averages nodes 1, 3 and itself: entries 0, 2 and 6.
    own = logits[:, [0, 2, 6]].softmax(dim=1)
    torch.testing.assert_close(softmax_weights(logits, GRAPH)[:, [0, 2, 6]], own)
    lonely = softmax_weights(logits, GRAPH)[:, -1]
    torch.testing.assert_close(lonely, torch.ones_like(lonely))


def test_entropy_of_weights() -> None:
    counts = weights_entropy(uniform_weights((4, 5), dtype=torch.float64)).exp()
    assert counts.shape == (1, 4, 5)
    assert counts[0, 0, 0].item() == pytest.approx(4)
    assert counts[0, 2, 2].item() == pytest.approx(9)
    one_hot = torch.zeros(1, 9, 4, 5, requires_grad=True)
    with torch.no_grad():
        one_hot[:, 4] = 1
    flat = weights_entropy(one_hot)
    assert (flat == 0).all()
    flat.sum().backward()
    assert torch.isfinite(one_hot.grad).all()
    on_graph = weights_entropy(uniform_weights((5,), neighborhood=GRAPH, dtype=torch.float64), GRAPH).exp()
    torch.testing.assert_close(on_graph, torch.tensor([[3.0, 3, 2, 2, 1]], dtype=torch.float64))


@pytest.mark.parametrize("where", [None, GRAPH], ids=["grid", "graph"])
def test_derivatives_compile_and_vmap(where: Graph | None) -> None:
    logits = (_random((2, 3), 9) if where is None else _random((), 11))[:1].requires_grad_()
    for call in (softmax_weights, lambda x, w: normalize_weights(x.exp(), w)):
        assert gradcheck(lambda x, call=call: call(x, where), logits)
        assert gradgradcheck(lambda x, call=call: call(x, where), logits)
        compiled = torch.compile(lambda x, call=call: call(x, where), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(logits), call(logits, where))
        mapped = torch.vmap(lambda x, call=call: call(x, where))(torch.stack([logits, 2 * logits]))
        torch.testing.assert_close(mapped[1], call(2 * logits, where))


def _spoiled(value: float) -> Tensor:
    weights = torch.ones(1, 9, 3, 4)
    weights[0, 4, 1, 2] = value
    return weights


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_weights((4, 4), 2), "size: expected an odd window side >= 1, got 2"),
        (lambda: gaussian_weights((4, 4), 1.0, 4), "size: expected an odd window side >= 1, got 4"),
        (lambda: gaussian_weights((4, 4), 0.0), "sigma: expected a finite number > 0, got 0.0"),
        (lambda: gaussian_weights((4, 4), math.nan), "sigma: .*nan"),
        (lambda: uniform_weights((4,), neighborhood=Neighborhood.window(2, 3)), "spatial: expected 2 axes"),
        (lambda: uniform_weights((4,), neighborhood=GRAPH), r"spatial: expected \(5,\)"),
        (lambda: uniform_weights((1, 3), neighborhood=Neighborhood(((1, 0),))), "weights: .*every pixel"),
        (
            lambda: normalize_weights(_spoiled(-1.0)),
            r"weights: expected .*>= 0.*got -1 at index \(0, 4, 1, 2",
        ),
        (lambda: normalize_weights(_spoiled(math.nan)), "weights: .*got nan"),
        (lambda: normalize_weights(_spoiled(math.inf)), "weights: .*got inf"),
        (lambda: normalize_weights(torch.zeros(1, 9, 3, 4)), "weights: expected a weight > 0 .*got 0"),
        (lambda: normalize_weights(torch.ones(1, 4, 3, 4)), "weights: expected K = size.*got 4"),
        (lambda: normalize_weights(torch.ones(1, 10), GRAPH), r"weights: expected shape \(N, 11\)"),
        (lambda: normalize_weights(torch.ones(())), "weights: expected shape"),
        (lambda: softmax_weights(_spoiled(math.nan)), "logits: .*got nan"),
        (lambda: softmax_weights(_spoiled(-math.inf)), "logits: .*got -inf"),
    ],
)
def test_bad_input_gets_one_clear_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_integers_are_refused() -> None:
    for call in (normalize_weights, softmax_weights, weights_entropy):
        with pytest.raises(TypeError, match=r"^(weights|logits): .*int64"):
            call(torch.ones(1, 9, 3, 4, dtype=torch.int64))
