"""Every operation keeps the promises of torch.library: schema, fake shapes, batching rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.cg import graph_cg, grid_cg
from flowcut.kernels.graph import (
    graph_edge_gradient,
    graph_product,
    graph_window_gradient,
    graph_window_product,
)
from flowcut.kernels.grid import grid_edge_gradient, grid_product
from flowcut.kernels.residual import graph_residual, grid_residual
from flowcut.kernels.thesis_cg import thesis_cg
from flowcut.kernels.window import window_product, window_product_transpose, window_weight_gradient
from tests.kernels.dense import positive, random, scrambled

_FLAT, _WINDOW = Neighborhood.edges(2, 2).flat, Neighborhood.window(2, 3).flat
_INDEX = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 0, 2, 3, 1]])
_STOP: tuple[Any, ...] = (1e-9, 200, "scores", "raise")


class Call(NamedTuple):
    """An operation, how its tensors are made for a seed, and what follows them."""

    operation: Callable[..., Any]
    tensors: Callable[[int], tuple[Tensor, ...]]
    rest: tuple[Any, ...] = ()
    index: tuple[Tensor, ...] = ()
    batched: bool = True


def _edges(s: int) -> Tensor:
    return positive(2, 3, 4, 4, 5, seed=s)


def _leak(s: int) -> Tensor:
    return positive(2, 1, 4, 5, seed=s + 1)


def _x(s: int) -> Tensor:
    return random(2, 3, 4, 5, seed=s + 2)


def _graph(s: int) -> tuple[Tensor, Tensor, Tensor]:
    return positive(2, 1, 6, seed=s), positive(2, 1, 6, seed=s + 1), random(2, 3, 6, seed=s + 2)


CALLS = {
    "grid_product": Call(grid_product, lambda s: (_edges(s), _leak(s), _x(s)), (_FLAT,)),
    "grid_edge_gradient": Call(grid_edge_gradient, lambda s: (_x(s), _x(s + 9)), (_FLAT, 3)),
    "grid_edge_gradient_shared": Call(grid_edge_gradient, lambda s: (_x(s), _x(s + 9)), (_FLAT, 1)),
    "window_product": Call(window_product, lambda s: (positive(2, 9, 4, 5, seed=s), _x(s)), (_WINDOW,)),
    "window_product_transpose": Call(
        window_product_transpose, lambda s: (positive(2, 9, 4, 5, seed=s), _x(s)), (_WINDOW,)
    ),
    "window_weight_gradient": Call(window_weight_gradient, lambda s: (_x(s), _x(s + 9)), (_WINDOW,)),
    "graph_product": Call(graph_product, _graph, index=(_INDEX,)),
    "graph_edge_gradient": Call(
        graph_edge_gradient, lambda s: (_graph(s)[2], _graph(s + 9)[2]), (3,), (_INDEX,)
    ),
    "graph_window_product": Call(
        graph_window_product, lambda s: (positive(2, 6, seed=s), _graph(s)[2]), (), (_INDEX,)
    ),
    "graph_window_gradient": Call(
        graph_window_gradient, lambda s: (_graph(s)[2], _graph(s + 9)[2]), (), (_INDEX,)
    ),
    "grid_cg": Call(grid_cg, lambda s: (_edges(s), _leak(s), _x(s)), (_FLAT, *_STOP)),
    "graph_cg": Call(graph_cg, _graph, _STOP, (_INDEX,)),
    "grid_residual": Call(grid_residual, lambda s: (_edges(s), _leak(s), _x(s), _x(s + 9)), (_FLAT,)),
    "graph_residual": Call(graph_residual, lambda s: (*_graph(s), _graph(s + 9)[2]), (), (_INDEX,)),
    # One stopping rule for the whole batch: mapping over it would be another algorithm.
    "thesis_cg": Call(thesis_cg, lambda s: (_edges(s), _leak(s), _x(s)), (_FLAT, *_STOP), batched=False),
}
_CALLS = pytest.mark.parametrize("name", CALLS)


def _outputs(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)


@_CALLS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("arrange", [torch.Tensor.contiguous, scrambled], ids=["contiguous", "scrambled"])
def test_opcheck(name: str, dtype: torch.dtype, arrange: Callable[[Tensor], Tensor]) -> None:
    call = CALLS[name]
    rest = (
        tuple(1e-4 if isinstance(v, float) else v for v in call.rest) if dtype == torch.float32 else call.rest
    )
    tensors = call.tensors(0)
    # What the residual judges is double by contract.
    keep = {3} if "residual" in name else set()
    inputs = (arrange(t if n in keep else t.to(dtype)) for n, t in enumerate(tensors))
    torch.library.opcheck(call.operation, (*call.index, *inputs, *rest))


@_CALLS
def test_empty_batches_have_the_fake_shapes(name: str) -> None:
    call = CALLS[name]
    args = (*call.index, *(t[:0] for t in call.tensors(0)), *call.rest)
    torch.library.opcheck(call.operation, args, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.batched])
def test_vmap_is_a_loop(name: str) -> None:
    call = CALLS[name]
    samples = [call.tensors(100 * s) for s in range(3)]
    loop = [_outputs(call.operation(*call.index, *sample, *call.rest)) for sample in samples]
    count = len(samples[0])
    for where in (0, 1, -1):  # the mapped axis may be anywhere
        stacked = [torch.stack([s[a] for s in samples], dim=where) for a in range(count)]
        mapped = torch.vmap(lambda *t: call.operation(*call.index, *t, *call.rest), in_dims=where)(*stacked)
        for n, output in enumerate(_outputs(mapped)):
            expected = torch.stack([out[n] for out in loop])
            torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    # One argument alone may be mapped, the others are shared.
    for alone in range(count):
        in_dims = tuple(0 if a == alone else None for a in range(count))
        inputs = [torch.stack([s[a] for s in samples]) if a == alone else samples[0][a] for a in range(count)]
        mapped = torch.vmap(lambda *t: call.operation(*call.index, *t, *call.rest), in_dims=in_dims)(*inputs)
        for s, sample in enumerate(samples):
            own = [sample[a] if a == alone else samples[0][a] for a in range(count)]
            for output, expected in zip(
                _outputs(mapped), _outputs(call.operation(*call.index, *own, *call.rest)), strict=True
            ):
                torch.testing.assert_close(output[s], expected, rtol=1e-12, atol=1e-12)


def test_vmap_twice_and_with_a_shared_leak() -> None:
    edges, x = positive(4, 3, 2, 1, 4, 4, 5), random(4, 3, 2, 3, 4, 5)
    leak = positive(1, 1, 4, 5)
    mapped = torch.vmap(torch.vmap(lambda e, v: grid_product(e, leak, v, _FLAT)))(edges, x)
    for i in range(4):
        for j in range(3):
            expected = grid_product(edges[i, j], leak, x[i, j], _FLAT)
            torch.testing.assert_close(mapped[i, j], expected, rtol=1e-14, atol=1e-14)


def test_edge_indices_cannot_be_mapped() -> None:
    edges, leak, x = _graph(0)
    with pytest.raises(NotImplementedError, match="argument 0 cannot be mapped"):
        torch.vmap(lambda i: graph_product(i, edges, leak, x))(torch.stack([_INDEX, _INDEX]))
