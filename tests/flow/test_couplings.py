"""Couplings against dense matrices."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import flowcut as fc
from flowcut.flow.couplings import ConvolutionCouplings, DenseCouplings, WindowCouplings
from tests.truths.flows import dense_omega


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _dense(couplings, labels: int, spatial: tuple[int, ...]) -> Tensor:
    """(M, J n, J n), column by column."""
    basis = torch.eye(labels * math.prod(spatial), dtype=torch.float64)
    columns = [couplings.apply(e.reshape(1, labels, *spatial)).flatten(1) for e in basis]
    return torch.stack(columns, dim=2)


def test_dense_couplings_multiply() -> None:
    matrix, s = _randn(3, 12, 12), _randn(3, 2, 3, 4, seed=1)
    truth = torch.einsum("mik,mjk->mji", matrix, s.flatten(2)).reshape(s.shape)
    torch.testing.assert_close(DenseCouplings(matrix).apply(s), truth)
    shared = DenseCouplings(matrix[:1])
    torch.testing.assert_close(shared.apply(s)[1], DenseCouplings(matrix[0:1]).apply(s[1:2])[0])
    torch.testing.assert_close(DenseCouplings(matrix).apply(s[:1])[0], truth[0])


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 2), (1, 1)])
@pytest.mark.parametrize("diagonal", ["number", "picture"])
def test_window_couplings_are_a_symmetric_matrix(spatial: tuple[int, ...], diagonal: str) -> None:
    where = fc.Neighborhood.edges(len(spatial), connectivity=len(spatial))
    edges = _randn(2, len(where), *spatial)
    own = 0.3 if diagonal == "number" else _randn(2, *spatial, seed=1)
    spoiled = torch.where(where.inside(spatial), edges, math.nan)
    couplings = WindowCouplings(spoiled, own, where)
    matrix = _dense(couplings, 1, spatial)
    for m in range(2):
        upper = dense_omega(edges[m], where.offsets)
        part = (
            own * torch.eye(math.prod(spatial)).double() if diagonal == "number" else own[m].flatten().diag()
        )
        torch.testing.assert_close(matrix[m], upper + upper.T + part)


def test_window_couplings_infer_their_neighborhood() -> None:
    edges = _randn(1, 4, 3, 5)
    assert WindowCouplings(edges).neighborhood == fc.Neighborhood.edges(2, 2)
    assert WindowCouplings(edges[:, :2]).neighborhood == fc.Neighborhood.edges(2)


def test_graph_couplings() -> None:
    graph = fc.Graph(torch.tensor([[0, 3, 1], [1, 0, 2]]), 4)
    edges, own = _randn(2, 3), _randn(2, 4, seed=1)
    matrix = _dense(WindowCouplings(edges, own, graph), 1, (4,))
    for m in range(2):
        truth = own[m].diag()
        for (i, j), w in zip(graph.edge_index.T.tolist(), edges[m], strict=True):
            truth[i, j] += w
            truth[j, i] += w
        torch.testing.assert_close(matrix[m], truth)


@pytest.mark.parametrize(("spatial", "window"), [((5,), (3,)), ((3, 4), (3, 5)), ((2, 3, 2), (3, 1, 3))])
@pytest.mark.parametrize("samples", [None, 1, 3])
def test_convolution_is_the_sum_over_the_window(
    spatial: tuple[int, ...], window: tuple[int, ...], samples: int | None
) -> None:
    lead = () if samples is None else (samples,)
    kernel, s = _randn(*lead, 2, 2, *window), _randn(3, 2, *spatial, seed=1)
    ours = ConvolutionCouplings(kernel).apply(s)
    assert ours.shape == s.shape
    offsets = tuple(itertools.product(*(range(-(w // 2), w // 2 + 1) for w in window)))
    for m in range(3):
        own = kernel if samples is None else kernel[m % samples]
        for j in range(2):
            truth = torch.zeros(math.prod(spatial), dtype=torch.float64)
            for l in range(2):
                taps = own[j, l].reshape(-1, *(1,) * len(spatial)).expand(-1, *spatial)
                truth += dense_omega(taps, offsets) @ s[m, l].flatten()
            torch.testing.assert_close(ours[m, j].flatten(), truth)


def test_a_kernel_symmetric_under_exchange_gives_a_symmetric_operator() -> None:
    kernel = _randn(2, 2, 3, 3)
    matrix = _dense(ConvolutionCouplings(kernel + kernel.transpose(0, 1).flip(2, 3)), 2, (3, 4))
    torch.testing.assert_close(matrix, matrix.mT)
    plain = _dense(ConvolutionCouplings(kernel), 2, (3, 4))
    assert not torch.allclose(plain, plain.mT)


def _window(edges: Tensor, own: Tensor, s: Tensor) -> Tensor:
    return WindowCouplings(edges, own).apply(s)


@pytest.mark.parametrize(
    ("call", "inputs"),
    [
        (lambda m, s: DenseCouplings(m).apply(s), (_randn(2, 4, 4), _randn(2, 2, 2, 2, seed=1))),
        (lambda m, s: DenseCouplings(m).apply(s), (_randn(1, 4, 4), _randn(2, 2, 4, seed=1))),
        (_window, (_randn(2, 2, 2, 3), _randn(2, 2, 3, seed=2), _randn(2, 2, 2, 3, seed=1))),
        (_window, (_randn(1, 2, 2, 3), _randn(1, 2, 3, seed=2), _randn(2, 1, 2, 3, seed=1))),
        (_window, (_randn(2, 2, 2, 3), _randn(1, 2, 3, seed=2), _randn(1, 1, 2, 3, seed=1))),
        (lambda k, s: ConvolutionCouplings(k).apply(s), (_randn(2, 2, 3), _randn(2, 2, 4, seed=1))),
        (lambda k, s: ConvolutionCouplings(k).apply(s), (_randn(2, 2, 2, 3), _randn(2, 2, 4, seed=1))),
    ],
    ids=["dense", "dense shared", "window", "window shared", "window start shared", "kernel", "kernels"],
)
def test_first_and_second_derivatives(call, inputs: tuple[Tensor, ...]) -> None:
    inputs = tuple(t.clone().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DenseCouplings(torch.ones(3, 3)), ValueError, r"matrix: expected shape \(M, n, n\)"),
        (lambda: DenseCouplings(torch.ones(1, 3, 4)), ValueError, r"matrix: .*\(1, 3, 4\)"),
        (lambda: DenseCouplings(torch.ones(1, 3, 3).int()), TypeError, "matrix: .*int32"),
        (lambda: WindowCouplings(torch.ones(1, 3, 4, 4)), ValueError, "edges: expected 2, 4 channels"),
        (lambda: WindowCouplings(torch.ones(3)), ValueError, "edges: expected shape"),
        (lambda: WindowCouplings(torch.ones(1, 2, 4, 4).int()), TypeError, "edges: .*int32"),
        (
            lambda: WindowCouplings(torch.ones(1, 2, 4, 4), torch.ones(1).int()),
            TypeError,
            "diagonal: .*int32",
        ),
        (
            lambda: WindowCouplings(torch.ones(1, 2, 4), neighborhood=fc.Neighborhood.edges(2)),
            ValueError,
            r"edges: expected shape \(M, 2, 2 spatial axes\)",
        ),
        (
            lambda: WindowCouplings(torch.ones(1, 2), neighborhood=fc.Graph(torch.tensor([[0], [1]]), 2)),
            ValueError,
            r"edges: expected shape \(M, 1\), got \(1, 2\)",
        ),
        (lambda: ConvolutionCouplings(torch.ones(2, 3, 3)), ValueError, r"kernel: expected shape \(J, J"),
        (lambda: ConvolutionCouplings(torch.ones(2, 2, 3).int()), TypeError, "kernel: .*int32"),
    ],
)
def test_bad_couplings_get_one_clear_line(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def _with(value: float, *shape: int) -> Tensor:
    bad = torch.ones(shape)
    bad.view(-1)[0] = value
    return bad


@pytest.mark.parametrize(
    ("couplings", "message"),
    [
        (DenseCouplings(torch.ones(1, 5, 5)), "matrix: expected 12 rows"),
        (DenseCouplings(_with(math.inf, 1, 12, 12)), "matrix: expected finite values, got inf"),
        (WindowCouplings(torch.ones(1, 2, 4, 3)), r"edges: expected pixels \(3, 4\).*got \(4, 3\)"),
        (WindowCouplings(_with(math.nan, 1, 2, 3, 4)), "edges: .*nan"),
        (WindowCouplings(torch.ones(1, 2, 3, 4), torch.ones(1, 12)), "diagonal: expected a number or shape"),
        (WindowCouplings(torch.ones(3, 2, 3, 4), torch.ones(2, 3, 4)), r"diagonal: .*\(3 or 1, 3, 4\)"),
        (WindowCouplings(torch.ones(1, 2, 3, 4), _with(math.nan, 1, 3, 4)), "diagonal: .*nan"),
        (ConvolutionCouplings(torch.ones(3, 3, 3, 3)), r"kernel: expected shape \(\[M,\] 2, 2"),
        (ConvolutionCouplings(torch.ones(2, 2, 3, 4)), "kernel: expected odd window sides"),
        (ConvolutionCouplings(torch.ones(2, 2, 3)), "kernel: expected shape"),
        (ConvolutionCouplings(_with(math.nan, 2, 2, 3, 3)), "kernel: .*nan"),
    ],
)
def test_couplings_that_do_not_fit_the_assignments(couplings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        couplings.prepared((1, 2, 3, 4), torch.float32)


def test_four_axes_have_no_convolution() -> None:
    with pytest.raises(ValueError, match="kernel: expected 1 to 3 spatial axes, got 4"):
        ConvolutionCouplings(torch.ones(2, 2, 1, 1, 1, 1)).prepared((1, 2, 2, 2, 2, 2), torch.float32)
