"""The linear assignment flow and all its gradients against dense matrix exponentials."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError
from flowcut.core.warnings import FlowcutWarning
from flowcut.flow.linear import LinearAssignmentFlow, integrate_linear_flow, linear_assignment_flow
from flowcut.flow.weights import softmax_weights, uniform_weights
from tests.truths.flows import _one_linear_flow, dense_linear_flow, dense_omega, window_offsets

RHO = 0.5
_ALL = 25  # dimensions of the space of the picture below: 2 a pixel (sum zero over the labels), and the start
_KRYLOV = ("convolution", "paper", "exact", "autograd-arnoldi")


def _random(
    spatial: tuple[int, ...] = (3, 4), labels: int = 3, items: int = 2, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, weights and logits of a start."""
    g = torch.Generator().manual_seed(0)
    distances = torch.rand(items, labels, *spatial, generator=g, dtype=torch.float64)
    weights = softmax_weights(
        torch.randn(items, 3 ** len(spatial), *spatial, generator=g, dtype=torch.float64)
    )
    logits = torch.randn(items, labels, *spatial, generator=g, dtype=torch.float64)
    return distances.to(dtype), weights.to(dtype), logits.to(dtype)


def _with_gradients(flow: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Value, and gradients of a loss that is not linear in the direction of the value."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    value = flow(*leaves)
    lead = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).sin().reshape(value.shape)
    loss = (value.double().softmax(dim=1) * lead).sum() + 0.1 * (value.double() * lead.cos()).sum()
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return [value.detach(), *gradients]


def _error(ours: Tensor, truth: Tensor) -> float:
    """Relative to the truth, in the Euclidean norm."""
    return float((ours.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("gradient", _KRYLOV)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["barycenter", "elsewhere"])
@pytest.mark.parametrize("time", [1.0, 5.0, 20.0])
def test_value_and_gradients_are_those_of_the_dense_exponential(time, elsewhere, gradient) -> None:
    distances, weights, logits = _random()
    inputs = (distances, weights, logits) if elsewhere else (distances, weights)

    def ours(d: Tensor, w: Tensor, z: Tensor | None = None) -> Tensor:
        return integrate_linear_flow(d, w, RHO, time, _ALL, initial_logits=z, gradient=gradient)

    def dense(d: Tensor, w: Tensor, z: Tensor | None = None) -> Tensor:
        return dense_linear_flow(d, w, RHO, time, z)

    # The paper's form too: what it loses by carrying the loss's derivative to time 0 and back again, it loses
    # in spaces that are too small (below).
    found, truth = _with_gradients(ours, *inputs), _with_gradients(dense, *inputs)
    assert _error(found[0], truth[0]) < 1e-10
    for a, b in zip(found[1:], truth[1:], strict=True):
        assert _error(a, b) < 1e-10


@pytest.mark.parametrize(
    ("spatial", "labels"), [((6,), 4), ((2, 2, 3), 2), ((2, 1, 2, 2), 3), ((1, 5), 3), ((5, 1), 1)]
)
@pytest.mark.parametrize("gradient", ["convolution", "paper", "autograd-arnoldi"])
def test_other_numbers_of_axes_and_labels(spatial, labels: int, gradient) -> None:
    distances, weights, logits = _random(spatial, labels)
    found, truth = (
        _with_gradients(flow, distances, weights, logits)
        for flow in (
            lambda d, w, z: integrate_linear_flow(d, w, RHO, 2.0, 25, initial_logits=z, gradient=gradient),
            lambda d, w, z: dense_linear_flow(d, w, RHO, 2.0, z),
        )
    )
    for a, b in zip(found, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_tangent_vectors_and_logits_tell_the_same() -> None:
    """V = R_{W_0} Y, W = Exp_{W_0}(V) = W_0 e^{V / W_0} / sum (2.4b); J V at the barycenter."""
    distances, weights, logits = _random()
    moved = integrate_linear_flow(distances, weights, RHO, 2.0)
    torch.testing.assert_close(3 * linear_assignment_flow(distances, weights, RHO, 2.0), moved)
    initial = logits.softmax(dim=1)
    moved = integrate_linear_flow(distances, weights, RHO, 2.0, initial_logits=logits)
    v = linear_assignment_flow(distances, weights, RHO, 2.0, initial=initial)
    torch.testing.assert_close(v.sum(dim=1), torch.zeros_like(v[:, 0]), rtol=0, atol=1e-14)
    w = initial * (v / initial).exp()
    torch.testing.assert_close(w / w.sum(dim=1, keepdim=True), (logits + moved).softmax(dim=1))
    one = initial[:1].expand_as(initial)
    for start in (initial[:1], one):
        shared = linear_assignment_flow(distances, weights, RHO, 2.0, initial=start)
        torch.testing.assert_close(shared[0], v[0])


def test_a_start_at_a_vertex_stays_there() -> None:
    distances, weights, _ = _random()
    vertex = torch.zeros_like(distances)
    vertex[:, 1] = 1
    v = linear_assignment_flow(distances, weights, RHO, 2.0, initial=vertex)
    assert torch.isfinite(v).all()
    assert v.abs().max() < 1e-100


def _dense_euler(distances: Tensor, weights: Tensor, time: float, count: int) -> Tensor:
    """Explicit Euler steps of dY/dt = S - 1/J + R_S Omega Y with matrices; (3.16)."""
    out = []
    for d, w in zip(distances, weights, strict=True):
        omega = dense_omega(w, window_offsets(2, 3))
        s = (omega @ (-d.flatten(1).T / RHO)).softmax(dim=1)
        y = torch.zeros_like(s)
        for _ in range(count):
            u = omega @ y
            y = y + time / count * (s - 1 / s.shape[1] + s * (u - (s * u).sum(dim=1, keepdim=True)))
        out.append(y.T.reshape(d.shape))
    return torch.stack(out)


def test_all_five_gradients_in_one_comparison() -> None:
    distances, weights, _ = _random()
    time, found = 3.0, {}
    for gradient in (*_KRYLOV, "autograd-euler"):
        found[gradient] = _with_gradients(
            lambda d, w, g=gradient: integrate_linear_flow(d, w, RHO, time, _ALL, gradient=g),
            distances,
            weights,
        )
    truth = _with_gradients(lambda d, w: dense_linear_flow(d, w, RHO, time), distances, weights)
    euler = _with_gradients(lambda d, w: _dense_euler(d, w, time, _ALL), distances, weights)
    for gradient, values in found.items():
        for ours, exact, stepped in zip(values, truth, euler, strict=True):
            if gradient == "autograd-euler":
                assert _error(ours, stepped) < 1e-13
                # Of first order: near the flow, but not the flow.
                assert 1e-3 < _error(ours, exact) < 0.3
            else:
                assert _error(ours, exact) < 1e-10
    split = integrate_linear_flow(distances, weights, RHO, time, 5, steps=3, gradient="autograd-euler")
    torch.testing.assert_close(split, _dense_euler(distances, weights, time, 15))


def _dense_parts(d: Tensor, w: Tensor, time: float, influence: bool) -> Tensor:
    """The flow at the barycenter, from b and S, with or without their dependence on the weights."""
    omega = dense_omega(w, window_offsets(2, 3))
    s = (omega @ (-d.flatten(1).T / RHO)).softmax(dim=1)
    s = s if influence else s.detach()
    r = torch.diag_embed(s) - s[:, :, None] * s[:, None, :]
    n, labels = s.shape
    a = torch.einsum("ijl,ik->ijkl", r, omega).reshape(n * labels, n * labels)
    whole = torch.nn.functional.pad(torch.cat([a, (s - 1 / labels).reshape(-1, 1)], dim=1), (0, 0, 0, 1))
    return torch.linalg.matrix_exp(time * whole)[:-1, -1].reshape(n, labels).T.reshape(d.shape)[None]


def test_the_influence_of_parameters_on_b_and_s_is_not_small() -> None:
    """A gradient without it (LAF section 4) is another one; ours is with it."""
    distances, weights, _ = _random(items=1)
    ours, whole, without = (
        _with_gradients(flow, weights)[1]
        for flow in (
            lambda w: integrate_linear_flow(distances, w, RHO, 3.0, _ALL),
            lambda w: _dense_parts(distances[0], w[0], 3.0, True),
            lambda w: _dense_parts(distances[0], w[0], 3.0, False),
        )
    )
    assert _error(ours, whole) < 1e-10
    assert _error(without, whole) > 0.3


@pytest.mark.parametrize("gradient", ["convolution", "paper", "exact", "autograd-arnoldi"])
def test_several_steps_are_one(gradient) -> None:
    inputs = _random()
    once, steps = (
        _with_gradients(
            lambda d, w, z, n=n: integrate_linear_flow(
                d, w, RHO, 6.0, _ALL, steps=n, initial_logits=z, gradient=gradient
            ),
            *inputs,
        )
        for n in (1, 3)
    )
    for a, b in zip(once, steps, strict=True):
        assert _error(a, b) < 1e-10


def test_many_steps_in_small_spaces_reach_long_times() -> None:
    inputs = _random()[:2]
    truth = _with_gradients(lambda d, w: dense_linear_flow(d, w, RHO, 20.0), *inputs)
    errors = []
    for steps in (1, 4, 16):
        found = _with_gradients(
            lambda d, w, n=steps: integrate_linear_flow(d, w, RHO, 20.0, 5, steps=n), *inputs
        )
        errors.append([_error(a, b) for a, b in zip(found, truth, strict=True)])
    for one, four, sixteen in zip(*errors, strict=True):
        assert sixteen < 0.1 * four
        assert four < 0.1 * one
        assert sixteen < 1e-4


def test_relinearizing_is_starting_again_where_the_flow_came_to() -> None:
    distances, weights, logits = _random()

    def at_once(d: Tensor, w: Tensor, z: Tensor) -> Tensor:
        return integrate_linear_flow(d, w, RHO, 2.0, _ALL, initial_logits=z, relinearizations=2)

    def by_hand(d: Tensor, w: Tensor, z: Tensor) -> Tensor:
        y = z
        for _ in range(3):
            y = y + dense_linear_flow(d, w, RHO, 2.0, y)
        return y - z

    inputs = (distances, weights, logits)
    for a, b in zip(_with_gradients(at_once, *inputs), _with_gradients(by_hand, *inputs), strict=True):
        assert _error(a, b) < 1e-9
    assignment = torch.full_like(distances, 1 / 3)
    for _ in range(3):
        v = linear_assignment_flow(distances, weights, RHO, 2.0, _ALL, initial=assignment)
        lifted = assignment * (v / assignment).exp()
        assignment = lifted / lifted.sum(dim=1, keepdim=True)
    again = LinearAssignmentFlow(RHO, 2.0, _ALL, relinearizations=2)(distances, weights)
    torch.testing.assert_close(again.softmax(dim=1), assignment)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("gradient", ["convolution", "autograd-arnoldi"])
def test_a_tolerance_chooses_the_dimension(tolerance: float, steps: int, gradient) -> None:
    inputs = _random()[:2]
    found, truth = (
        _with_gradients(flow, *inputs)
        for flow in (
            lambda d, w: integrate_linear_flow(
                d, w, RHO, 5.0, 24, tolerance=tolerance, steps=steps, gradient=gradient, on_failure="raise"
            ),
            lambda d, w: dense_linear_flow(d, w, RHO, 5.0),
        )
    )
    assert 1e-3 * tolerance < _error(found[0], truth[0]) < 3 * tolerance
    for a, b in zip(found[1:], truth[1:], strict=True):
        # Nobody estimates the gradient's error, but both spaces are as good as asked for.
        assert _error(a, b) < 100 * tolerance


def test_a_tolerance_that_is_missed_is_reported_as_asked() -> None:
    distances, weights, _ = _random()
    settings: dict[str, Any] = {"rho": RHO, "time": 10.0, "krylov_dim": 2, "tolerance": 1e-6}
    text = r"2 of 2 linear flows: tolerance 1e-06 was not met within krylov_dim: .*item 0: estimated relative"
    with pytest.warns(FlowcutWarning, match=text):
        linear_assignment_flow(distances, weights, **settings)
    with pytest.raises(NotConvergedError, match=text):
        linear_assignment_flow(distances, weights, **settings, on_failure="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_assignment_flow(distances, weights, **settings, on_failure="ignore")
        LinearAssignmentFlow(**settings, on_failure="ignore")(distances, weights)
    distances[0] = 1.0  # nothing to do for this item
    with pytest.warns(FlowcutWarning, match="1 of 2 linear flows: .*item 1"):
        linear_assignment_flow(distances, weights, **settings)


def test_a_time_that_overflows_is_not_a_tolerance_met() -> None:
    distances, weights, _ = _random()
    with pytest.raises(NotConvergedError, match="linear flows: tolerance"):
        linear_assignment_flow(distances, weights, 0.1, 1e4, 20, tolerance=1e-3, on_failure="raise")


@functools.cache
def _truncation(time: float, rho: float) -> Callable[..., float]:
    """Relative error of the gradient of the weights on a picture of 8 x 8 pixels, by m, form and rank."""
    distances, weights, _ = _random((8, 8), items=1)
    truth = _with_gradients(lambda d, w: dense_linear_flow(d, w, rho, time), distances, weights)

    def error(dim: int, gradient: Any = "convolution", rank: int | None = None) -> float:
        found = _with_gradients(
            lambda d, w: integrate_linear_flow(d, w, rho, time, dim, rank=rank, gradient=gradient),
            distances,
            weights,
        )
        return _error(found[1], truth[1])

    return error


@pytest.mark.parametrize("gradient", ["convolution", "paper"])
def test_the_error_falls_with_the_dimension(gradient) -> None:
    error = _truncation(5.0, 0.2)
    errors = [error(dim, gradient) for dim in (3, 5, 8, 10)]
    for larger, smaller in itertools.pairwise(errors):
        assert smaller < 0.2 * larger
    for found, bound in zip(errors, (0.1, 5e-3, 1e-5, 1e-7), strict=True):
        assert found < bound


def test_the_convolution_is_better_conditioned_than_the_paper_s_form() -> None:
    """The longer the time, the more: errors of the paper's form grow like exp(T / 2)."""
    short, long = _truncation(5.0, 0.2), _truncation(20.0, 0.2)
    for dim in (5, 8, 10):
        assert short(dim, "paper") > 2 * short(dim)
        assert long(dim, "paper") > 20 * long(dim)
    # At T = 20 and m = 5 the paper's form is wrong altogether.
    assert long(5, "paper") > 1
    assert long(5) < 0.3
    assert long(8) < 1e-2


@pytest.mark.parametrize("gradient", ["convolution", "paper"])
def test_the_error_falls_with_the_rank(gradient) -> None:
    error = _truncation(5.0, 0.2)
    errors = [error(10, gradient, rank) for rank in (1, 2, 3, 10)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-3
    assert errors[3] == error(10, gradient)


def _as_graph(spatial: tuple[int, ...], weights: Tensor) -> tuple[Graph, Tensor, Tensor]:
    """The graph of a grid with window 3, its weights, and the dense Omega of each item."""
    offsets = window_offsets(len(spatial), 3)
    omega = torch.stack([dense_omega(w, offsets) for w in weights])
    n = omega.shape[1]
    touching = dense_omega(Neighborhood.window(len(spatial), 3).inside(spatial).double(), offsets) > 0
    i, k = torch.triu(touching, diagonal=1).nonzero().T
    loops = torch.arange(n)
    listed = torch.cat([omega[:, i, k], omega[:, k, i], omega[:, loops, loops]], dim=1)
    return Graph(torch.stack([i, k]), n), listed, omega


@pytest.mark.parametrize("gradient", [*_KRYLOV, "autograd-euler"])
def test_a_graph_is_the_grid_it_came_from(gradient) -> None:
    distances, weights, _ = _random()
    graph, listed, _ = _as_graph((3, 4), weights)
    settings = {"rho": RHO, "time": 2.0, "krylov_dim": 6, "gradient": gradient, "steps": 2}
    on_grid = _with_gradients(lambda d, w: integrate_linear_flow(d, w, **settings), distances, weights)
    on_graph = _with_gradients(
        lambda d, w: integrate_linear_flow(d, w, neighborhood=graph, **settings).reshape(distances.shape),
        distances.flatten(2),
        listed,
    )
    offsets = window_offsets(2, 3)
    ties = graph.edge_index.T.tolist()
    pairs = [*ties, *(tie[::-1] for tie in ties), *([i, i] for i in range(12))]
    gradients = torch.stack([dense_omega(g, offsets) for g in on_grid[2]])
    torch.testing.assert_close(on_graph[0], on_grid[0], rtol=0, atol=1e-11)
    torch.testing.assert_close(on_graph[1].reshape(distances.shape), on_grid[1], rtol=0, atol=1e-11)
    torch.testing.assert_close(
        on_graph[2], torch.stack([gradients[:, i, k] for i, k in pairs], dim=1), rtol=0, atol=1e-11
    )


def test_a_graph_with_a_lonely_node_against_the_dense_exponential() -> None:
    graph, n = Graph(torch.tensor([[0, 0, 1, 3], [1, 2, 3, 2]]), 5), 5
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 2 * 4 + n, generator=g, dtype=torch.float64)
    distances = torch.rand(1, 3, n, generator=g, dtype=torch.float64)
    ties = graph.edge_index.T.tolist()
    i, k = torch.tensor([*ties, *(tie[::-1] for tie in ties), *([i, i] for i in range(n))]).T

    def dense(d: Tensor, w: Tensor) -> Tensor:
        omega = torch.zeros(n, n, dtype=torch.float64).index_put((i, k), w[0], accumulate=True)
        return _one_linear_flow(d[0], omega, RHO, 4.0, torch.zeros_like(d[0]))[None]

    weights = softmax_weights(logits, graph)
    for gradient in _KRYLOV:
        found = _with_gradients(
            lambda d, w, g=gradient: integrate_linear_flow(
                d, w, RHO, 4.0, 12, gradient=g, neighborhood=graph
            ),
            distances,
            weights,
        )
        for a, b in zip(found, _with_gradients(dense, distances, weights), strict=True):
            assert _error(a, b) < 1e-10


@pytest.mark.parametrize("gradient", [*_KRYLOV, "autograd-euler"])
@pytest.mark.parametrize("what", ["constant", "one label", "one pixel", "empty"])
def test_edge_cases_have_finite_values_and_gradients(what: str, gradient) -> None:
    distances, weights, _ = _random()
    if what == "constant":
        distances = torch.full_like(distances, 0.7)
    elif what == "one label":
        distances = distances[:, :1]
    elif what == "one pixel":
        distances, weights = distances[..., :1, :1], uniform_weights((1, 1), items=2, dtype=torch.float64)
    else:
        distances, weights = distances[:0], weights[:0]
    value, *gradients = _with_gradients(
        lambda d, w: integrate_linear_flow(d, w, RHO, 3.0, gradient=gradient, krylov_dim=10),
        distances,
        weights,
    )
    assert value.shape == distances.shape
    for tensor in (value, *gradients):
        assert torch.isfinite(tensor).all()
    if what in ("constant", "one label"):
        assert not value.any()
    if what == "one label":
        assert not any(g.any() for g in gradients)
    if what == "one pixel" and gradient != "autograd-euler":
        torch.testing.assert_close(value, dense_linear_flow(distances, weights, RHO, 3.0))


def test_constant_data_are_not_constant_in_their_derivative() -> None:
    """b = 0 and Y = 0 there, but dY/dD is not: the forward space is empty, the gradient is not."""
    distances, weights, _ = _random()
    constant = torch.full_like(distances, 0.7)
    found, truth = (
        _with_gradients(flow, constant, weights)
        for flow in (
            lambda d, w: integrate_linear_flow(d, w, RHO, 3.0, _ALL),
            lambda d, w: dense_linear_flow(d, w, RHO, 3.0),
        )
    )
    assert truth[1].norm() > 0.1
    assert _error(found[1], truth[1]) < 1e-10
    torch.testing.assert_close(found[2], truth[2], rtol=0, atol=1e-12)


def test_a_loss_without_any_labelled_pixel_has_no_gradient() -> None:
    distances, weights, _ = _random()
    for gradient in (*_KRYLOV, "autograd-euler"):
        leaves = [distances.clone().requires_grad_(), weights.clone().requires_grad_()]
        value = integrate_linear_flow(*leaves, RHO, 3.0, gradient=gradient)
        for g in torch.autograd.grad((value * 0).sum(), leaves):
            assert not g.any()


def test_weights_without_a_neighbour_get_no_gradient_and_are_never_read() -> None:
    distances, weights, _ = _random()
    inside = Neighborhood.window(2, 3).inside((3, 4))
    junk = torch.where(inside, weights, torch.nan)
    for gradient in (*_KRYLOV, "autograd-euler"):

        def flow(d: Tensor, w: Tensor, g: Any = gradient) -> Tensor:
            return integrate_linear_flow(d, w, RHO, 3.0, steps=2, gradient=g)

        found, expected = _with_gradients(flow, distances, junk), _with_gradients(flow, distances, weights)
        assert not found[2][:, ~inside].any()
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gradient", [*_KRYLOV, "autograd-euler"])
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_loss_s_infinity_passes_through(gradient, rank: int | None, number: float) -> None:
    """Loss scaling looks for it behind the backward pass; other items keep their gradients."""
    distances, weights, _ = _random()
    leaves = [distances.clone().requires_grad_(), weights.clone().requires_grad_()]
    value = integrate_linear_flow(*leaves, RHO, 2.0, rank=rank, gradient=gradient)
    lead = torch.ones_like(value)
    lead[0, 0, 0, 0] = number
    for g in torch.autograd.grad(value, leaves, lead):
        assert not torch.isfinite(g[0]).all()
        assert torch.isfinite(g[1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", [*_KRYLOV, "autograd-euler"])
def test_other_types(dtype: torch.dtype, gradient) -> None:
    distances, weights, _ = _random(dtype=dtype)
    small = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}[dtype]

    def flow(d: Tensor, w: Tensor) -> Tensor:
        moved = linear_assignment_flow(d, w, RHO, 2.0, 30, gradient=gradient)
        assert moved.dtype == dtype
        return 3 * moved

    def dense(d: Tensor, w: Tensor) -> Tensor:
        if gradient == "autograd-euler":
            return _dense_euler(d, w, 2.0, 30)
        return dense_linear_flow(d, w, RHO, 2.0)

    found = _with_gradients(flow, distances, weights)
    truth = _with_gradients(dense, distances.double(), weights.double())
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == dtype
        assert _error(a, b) < small


def test_mixed_types_are_integrated_in_double_precision() -> None:
    distances, weights, _ = _random()
    mixed = linear_assignment_flow(distances.float(), weights, RHO, 2.0)
    assert mixed.dtype == torch.float32
    truth = linear_assignment_flow(distances.float().double(), weights, RHO, 2.0)
    assert torch.equal(mixed, truth.float())


def test_exact_is_for_small_problems() -> None:
    weights = uniform_weights((20, 20))
    with pytest.raises(
        ValueError, match=r'^gradient: expected at most 1024 .* for "exact", got 3 \* 400; use "conv'
    ):
        linear_assignment_flow(torch.rand(1, 3, 20, 20), weights, gradient="exact")


def test_an_item_does_not_depend_on_its_batch_nor_on_where_it_lies() -> None:
    distances, weights, _ = _random(items=3, dtype=torch.float32)
    flow = lambda d, w: integrate_linear_flow(d, w, RHO, 3.0, steps=2)  # noqa: E731
    together = _with_gradients(flow, distances, weights)
    alone = _with_gradients(flow, distances[1:2].transpose(2, 3).contiguous().transpose(2, 3), weights[1:2])
    assert torch.equal(together[0][1], alone[0][0])


def test_pictures_of_any_size_pass_one_compiled_program() -> None:
    """After the second size, torch compiles for sizes that are symbols."""

    def flow(d: Tensor, w: Tensor) -> Tensor:
        return integrate_linear_flow(d, w, RHO, 2.0, 3)

    compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
    for items, spatial in ((1, (3, 4)), (2, (5, 6)), (3, (40, 70))):
        distances, weights, _ = _random(spatial, items=items, dtype=torch.float32)
        for a, b in zip(
            _with_gradients(compiled, distances, weights),
            _with_gradients(flow, distances, weights),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_the_module_says_what_it_is() -> None:
    layer = LinearAssignmentFlow(rho=0.5, time=2.0)
    assert repr(layer) == "LinearAssignmentFlow(rho=0.5, time=2.0, krylov_dim=5, gradient='convolution')"
    assert not list(layer.parameters())
    distances, weights, _ = _random()
    assert torch.equal(layer(distances, weights), integrate_linear_flow(distances, weights, 0.5, 2.0))
