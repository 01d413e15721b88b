"""SoftCut against closed forms of the circuit, and every kind of bad input."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flowcut as fc
from tests.truths.dense import dense_soft_cut

EXACT = fc.CG(rtol=1e-13)


def _random(spatial=(6, 7), items=2, channels=2, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(items, channels, *spatial, generator=g).to(dtype)
    return scores, (3 * torch.rand(items, len(spatial), *spatial, generator=g)).to(dtype)


@pytest.mark.parametrize("conductance", [0.0, 0.3, 1.0, 1e6])
def test_two_pixels(conductance: float) -> None:
    """Thesis (24): V_1 = (G (I_1 + I_2) + I_1) / (2 G + 1)."""
    first, second = 2.0, -0.5
    scores = torch.tensor([[[first, second]]], dtype=torch.float64)
    edges = torch.tensor([[[conductance, math.nan]]], dtype=torch.float64)
    x = fc.soft_cut(scores, edges, solver=EXACT).flatten()
    total = conductance * (first + second)
    expected = torch.tensor([total + first, total + second], dtype=torch.float64) / (2 * conductance + 1)
    torch.testing.assert_close(x, expected)


def test_a_strong_region_takes_its_mean() -> None:
    """Thesis, Fig. 10: zero resistance averages the scores of the pixels it connects."""
    scores = torch.randn(1, 1, 4, 6, dtype=torch.float64)
    edges = torch.full((1, 2, 4, 6), 1e9, dtype=torch.float64)
    edges[:, 1, :, 2] = 0  # a wall between columns 2 and 3
    x = fc.soft_cut(scores, edges, solver=fc.Cholesky())
    for part in (slice(0, 3), slice(3, 6)):
        mean = scores[..., part].mean()
        torch.testing.assert_close(x[..., part], mean.expand_as(x[..., part]), rtol=0, atol=1e-6)


def test_a_line_between_two_pins_is_straight() -> None:
    """Pinned ends, no confidence between: the potential of equal resistors in series."""
    n = 9
    scores = torch.zeros(1, 1, n, dtype=torch.float64)
    scores[..., 0], scores[..., -1] = 1.0, 3.0
    confidence = torch.zeros(1, 1, n, dtype=torch.float64)
    confidence[..., 0] = confidence[..., -1] = math.inf
    edges = torch.full((1, 1, n), 0.7, dtype=torch.float64)
    for solver in (EXACT, fc.Cholesky(), fc.Auto(rtol=1e-13)):
        x = fc.soft_cut(scores, edges, confidence, solver=solver)
        torch.testing.assert_close(x[0, 0], torch.linspace(1, 3, n, dtype=torch.float64))


def test_a_pin_is_the_limit_of_a_large_confidence() -> None:
    scores, edges = _random(dtype=torch.float64)
    pinned, large = torch.ones(2, 1, 6, 7).double(), torch.ones(2, 1, 6, 7).double()
    pinned[:, :, 2:4, 3], large[:, :, 2:4, 3] = math.inf, 1e9
    scores.requires_grad_(), edges.requires_grad_()
    x, y = (fc.soft_cut(scores, edges, c, solver=fc.Cholesky()) for c in (pinned, large))
    torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    assert torch.equal(x[:, :, 2:4, 3], scores[:, :, 2:4, 3])
    for a, b in zip(
        torch.autograd.grad(x.square().sum(), (scores, edges)),
        torch.autograd.grad(y.square().sum(), (scores, edges)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_pinned_pixels_pass_gradcheck_and_compile() -> None:
    scores, edges = _random((3, 4), dtype=torch.float64)
    confidence = 0.5 + torch.rand(2, 1, 3, 4).double()
    pins = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    pins[0, 0, 0, 0] = pins[1, 0, 2, 1] = pins[1, 0, 2, 2] = True

    def call(s: torch.Tensor, e: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return fc.soft_cut(s, e, torch.where(pins, math.inf, c), solver=EXACT)

    inputs = tuple(t.requires_grad_() for t in (scores, edges, confidence))
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), call(*inputs))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    contrast=st.floats(0, 4),
    seed=st.integers(0, 2**16),
    connectivity=st.sampled_from([1, 2]),
)
def test_maximum_principle_and_bound(
    height: int, width: int, contrast: float, seed: int, connectivity: int
) -> None:
    """min s <= x <= max s, and no answer is further from the truth than its bound."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, 1, height, width, generator=g, dtype=torch.float64)
    offsets = fc.Neighborhood.edges(2, connectivity).offsets
    edges = (contrast * torch.randn(1, 1, len(offsets), height, width, generator=g).double()).exp()
    operator = fc.GridOperator(edges, neighborhood=fc.Neighborhood(offsets))
    solution = fc.solve(operator, scores, solver=fc.CG(rtol=1e-4))
    truth = dense_soft_cut(scores, edges, torch.ones_like(scores), offsets)
    assert (solution.value - truth).abs().max() <= solution.error_bound.item() + 1e-13
    slack = solution.error_bound.item()
    assert solution.value.max() <= scores.max() + slack
    assert solution.value.min() >= scores.min() - slack


def test_softmax_of_two_labels_is_sigmoid_of_their_difference() -> None:
    """With shared edges a common shift of the scores does not matter."""
    scores, edges = _random(dtype=torch.float64)
    both = fc.soft_cut(scores, edges, solver=EXACT)
    one = fc.soft_cut(scores[:, 1:] - scores[:, :1], edges, solver=EXACT)
    torch.testing.assert_close(both.softmax(dim=1)[:, 1:], one.sigmoid())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_solved_in_single(dtype: torch.dtype) -> None:
    scores, edges = _random((20, 21))
    edges = 1000 * edges
    x = fc.soft_cut(scores.to(dtype), edges.to(dtype))
    single = fc.soft_cut(scores.to(dtype).float(), edges.to(dtype).float())
    assert x.dtype == dtype
    assert torch.equal(x, single.to(dtype))


def test_autocast_and_gradient_scaling() -> None:
    scores, edges = _random()
    leaf = scores.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = fc.soft_cut(leaf * 1.0, torch.nn.functional.softplus(edges))
    (x.float().square().mean() * 65536.0).backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_module_and_function_agree_and_the_module_pickles() -> None:
    import copy
    import pickle

    scores, edges = _random()
    head = fc.SoftCut(solver=fc.CG(rtol=1e-6))
    for other in (head, copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(other(scores, edges), fc.soft_cut(scores, edges, solver=fc.CG(rtol=1e-6)))
    assert "CG(rtol=1e-06" in repr(head)


def test_entries_that_leave_the_picture_have_no_influence_and_no_gradient() -> None:
    scores, edges = _random(dtype=torch.float64)
    outside = ~fc.Neighborhood.edges(2).inside((6, 7)).expand_as(edges)
    spoiled = torch.where(outside, math.nan, edges).requires_grad_()
    x = fc.soft_cut(scores, spoiled, solver=EXACT)
    assert torch.equal(x, fc.soft_cut(scores, edges, solver=EXACT))
    x.square().sum().backward()
    assert spoiled.grad is not None
    assert (spoiled.grad[outside] == 0).all()
    assert (spoiled.grad[~outside] != 0).any()


def test_the_thesis_rule_ruins_gradients_and_a_relative_one_does_not() -> None:
    """Under the mean over a batch of 32 x 256 x 256, the thesis' adjoint stops after a step or two."""
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(8, 1, 48, 48, generator=g, dtype=torch.float64)
    edges = 20 * torch.rand(8, 2, 48, 48, generator=g, dtype=torch.float64)
    target = torch.randn(8, 1, 48, 48, generator=g, dtype=torch.float64)

    def gradient(solver) -> torch.Tensor:
        leaf = scores.clone().requires_grad_()
        loss = (fc.soft_cut(leaf, edges, solver=solver) - target).square().sum() / (32 * 256 * 256)
        return torch.autograd.grad(loss, leaf)[0]

    truth = gradient(fc.Cholesky())
    thesis, relative = gradient(fc.ThesisCG()), gradient(fc.CG(rtol=1e-4))
    assert (relative - truth).norm() < 5e-3 * truth.norm()
    assert (thesis - truth).norm() > 0.5 * truth.norm()


def _bad(change):
    scores, edges = _random((4, 5), items=1, channels=1)
    arguments = {"scores": scores, "edges": edges, "confidence": torch.ones(1, 1, 4, 5)}
    change(arguments)
    return arguments


def _set(name: str, value: float):
    def change(arguments) -> None:
        arguments[name].view(-1)[7] = value

    return change


def _replace(**values):
    return lambda arguments: arguments.update(values)


BAD_INPUT = {
    "nan scores": (_set("scores", math.nan), ValueError, "scores: .*finite.*nan"),
    "infinite scores": (_set("scores", math.inf), ValueError, "scores: .*finite.*inf"),
    "nan edge": (_set("edges", math.nan), ValueError, "edges: .*nan"),
    "infinite edge": (_set("edges", math.inf), ValueError, "edges: .*inf"),
    "negative edge": (_set("edges", -0.5), ValueError, r"edges: .*>= 0.*-0\.5"),
    "negative confidence": (_set("confidence", -2.0), ValueError, r"confidence: .*>= 0.*-2\.0"),
    "nan confidence": (_set("confidence", math.nan), ValueError, "confidence: .*nan"),
    "no confidence": (_replace(confidence=0.0), ValueError, "confidence: .*piece of 20 pixels"),
    "negative number": (_replace(confidence=-1.0), ValueError, "confidence: .*-1.0"),
    "minus infinity": (_set("confidence", -math.inf), ValueError, "confidence: .*-inf"),
    "integer scores": (_replace(scores=torch.ones(1, 1, 4, 5).long()), TypeError, "scores: .*int64"),
    "integer edges": (_replace(edges=torch.ones(1, 2, 4, 5).int()), TypeError, "edges: .*int32"),
    "integer confidence": (
        _replace(confidence=torch.ones(1, 1, 4, 5).long()),
        TypeError,
        "confidence: .*int64",
    ),
    "an array": (_replace(scores=torch.ones(1, 1, 4, 5).numpy()), TypeError, "scores: .*tensor.*ndarray"),
    "rank": (_replace(scores=torch.ones(4, 5)), ValueError, r"scores: .*\(N, C, \*spatial\).*\(4, 5\)"),
    "connectivity": (
        _replace(edges=torch.ones(1, 3, 4, 5)),
        ValueError,
        "edges: expected 2, 4 channels.*got 3",
    ),
    "edges of another size": (_replace(edges=torch.ones(1, 2, 4, 6)), ValueError, r"\(4, 6\)|confidence"),
    "edges of another batch": (
        _replace(edges=torch.ones(3, 2, 4, 5), confidence=1.0),
        ValueError,
        "scores: .*3",
    ),
    "edge groups": (
        _replace(edges=torch.ones(1, 3, 2, 4, 5)),
        ValueError,
        "edges: expected 1 or 1 channels.*got 3",
    ),
    "confidence shape": (_replace(confidence=torch.ones(4, 5)), ValueError, r"confidence: .*\(4, 5\)"),
}


@pytest.mark.parametrize(
    "solver", [fc.CG(), fc.Cholesky(), fc.Auto(), fc.ThesisCG()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_clear_line(case: str, solver) -> None:
    change, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=message) as caught:
        fc.soft_cut(**_bad(change), solver=solver)
    assert "\n" not in str(caught.value)


def test_neighborhood_that_does_not_fit() -> None:
    scores, edges = _random((4, 5))
    with pytest.raises(ValueError, match=re.escape("scores: expected 3 spatial axes")):
        fc.soft_cut(scores, edges, neighborhood=fc.Neighborhood.edges(3))
    with pytest.raises(ValueError, match="edges: expected shape"):
        fc.soft_cut(scores, edges, neighborhood=fc.Neighborhood.edges(2, 2))


def test_failure_inside_a_compiled_program_is_reported() -> None:
    scores, edges = _random((16, 16))
    hasty = fc.CG(rtol=1e-6, max_steps=1)
    compiled = torch.compile(
        lambda s, e: fc.soft_cut(s, 100 * e, solver=hasty, on_failure="raise"),
        fullgraph=True,
        backend="aot_eager",
    )
    with pytest.raises(fc.NotConvergedError, match="max_steps"):
        compiled(scores, edges)


def test_inductor_smoke() -> None:
    scores, edges = _random((5, 6))
    leaf = scores.clone().requires_grad_()
    compiled = torch.compile(lambda s, e: fc.soft_cut(s.tanh(), e.exp(), solver=fc.CG(1e-6)), fullgraph=True)
    x = compiled(leaf, edges)
    torch.testing.assert_close(x, fc.soft_cut(scores.tanh(), edges.exp(), solver=fc.CG(1e-6)))
    x.sum().backward()
    assert torch.isfinite(leaf.grad).all()


def test_spatial_axes_of_length_zero() -> None:
    assert fc.soft_cut(torch.ones(2, 1, 0, 5), torch.ones(2, 2, 0, 5)).shape == (2, 1, 0, 5)
