"""Perturbed cuts against closed forms, integrals over enumerated labelings, and the spread of many estimates.

Item n of a batch has noise of its own, so a batch of equal items is as many independent estimates, whose
spread says how far from the truth their mean may be.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import norm, qmc
from torch import Tensor

import flowcut as fc
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.perturbed import CUTS, Perturbed, PerturbedCut, perturbed
from tests.truths.dense import grid_ties

_SIZES = [(1, 2), (2, 2), (2, 3)]


def _problem(spatial: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, 1, *spatial, generator=g, dtype=torch.float64)
    return scores, 0.2 + torch.rand(1, len(spatial), *spatial, generator=g, dtype=torch.float64)


def _nodes(axes: int) -> tuple[Tensor, Tensor]:
    """Nodes (Q, axes) and weights (Q,) for expectations over standard normal numbers."""
    if axes == 1:  # the trapezoidal rule
        z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
        p = (-z.square() / 2).exp()
        return z[:, None], p / p.sum()
    points = qmc.Sobol(axes, rng=0).random(2**13)
    return torch.special.ndtri(torch.from_numpy(points)), torch.full((2**13,), 2.0**-13, dtype=torch.float64)


def _exact(scores: Tensor, edges: Tensor, a: float, b: float = 0.0) -> Tensor:
    """E[label] (1, 1, *spatial) of the cheapest labeling by enumeration, differentiable.

    Given all other noise, pixel i is labeled 1 when its own perturbed score is above the threshold
    t = min over labelings with m_i = 1 of the rest of the energy - the same with m_i = 0, so with probability
    Phi((s_i - t) / a). What is left is an expectation over the others, continuous in them.
    """
    spatial = tuple(scores.shape[2:])
    ties = grid_ties(spatial, Neighborhood.edges(len(spatial)).offsets)
    s, w = scores.flatten(), torch.stack([edges[(0, k, *pixel)] for k, pixel, _, _ in ties])
    count = len(s)
    z, p = _nodes(count - 1 + (len(ties) if b else 0))
    weights = w * (b * z[:, count - 1 :]).exp() if b else w.expand(len(z), -1)
    found = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        v = s[others] + a * z[:, : count - 1]
        best = [torch.full((len(z),), math.inf, dtype=torch.float64)] * 2
        for m in itertools.product((0, 1), repeat=count):
            energy = -(v * torch.tensor([m[j] for j in others], dtype=torch.float64)).sum(dim=1)
            cut = torch.tensor([m[c] != m[d] for _, _, c, d in ties])
            best[m[i]] = torch.minimum(best[m[i]], energy + weights[:, cut].sum(dim=1))
        found.append((p * torch.special.ndtr((s[i] - best[1] + best[0]) / a)).sum())
    return torch.stack(found).reshape(scores.shape)


def _estimates(cut: Perturbed, scores: Tensor, edges: Tensor, many: int, g: Tensor) -> list[Tensor]:
    """Expected labels and the gradients of <g, labels> of ``many`` equal items; those that there are."""
    s, w = (t.expand(many, *t.shape[1:]).clone() for t in (scores, edges))
    wanted = [s.requires_grad_()] if cut.on != "edges" else []
    wanted += [w.requires_grad_()] if cut.by_levels or cut.on != "scores" else []
    out = cut(s, w)
    return [out.detach(), *torch.autograd.grad((out * g).sum(), wanted)]


def _agree(estimates: Tensor, truth: Tensor, slack: float = 1e-9) -> None:
    """The mean over the items is within five standard errors (and what the truth's own error may be)."""
    error = (estimates.mean(dim=0) - truth.squeeze(0)).abs()
    assert (error <= 5 * estimates.std(dim=0) / len(estimates) ** 0.5 + slack).all()


@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_one_pixel_is_the_normal_distribution(gradient: str) -> None:
    scores, edges = torch.tensor([[[0.7]]], dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)
    cut = perturbed("max_flow", 4, 1.3, gradient=gradient, variance="leave-one-out")
    s = scores.expand(400, 1, 1).clone().requires_grad_()
    out = cut(s, edges.expand(400, 1, 1))
    (slope,) = torch.autograd.grad(out.sum(), s)
    value, density = norm.cdf(0.7 / 1.3), norm.pdf(0.7 / 1.3) / 1.3
    if gradient == "levels":
        assert (out - value).abs().max() < 1e-15
        assert (slope - density).abs().max() < 1e-15
    _agree(out.detach(), torch.full_like(scores, value))
    _agree(slope, torch.full_like(scores, density))


@pytest.mark.parametrize("spatial", _SIZES)
@pytest.mark.parametrize("gradient", ["levels", "scores"])
@pytest.mark.parametrize("variance", ["antithetic", "leave-one-out", "none"])
def test_labels_and_derivatives_have_no_bias(spatial, gradient: str, variance: str) -> None:
    scores, edges = (t.requires_grad_() for t in _problem(spatial))
    g = torch.linspace(-1, 2, scores.numel(), dtype=torch.float64).reshape(scores.shape)
    expected = _exact(scores, edges, 0.8)
    truths = [expected.detach(), *torch.autograd.grad((expected * g).sum(), (scores, edges))]
    cut = perturbed("max_flow", 4, 0.8, gradient=gradient, variance=variance)
    for found, truth in zip(_estimates(cut, scores.detach(), edges.detach(), 250, g), truths, strict=False):
        _agree(found, truth, 1e-6 if spatial == (1, 2) else 1e-3)


@pytest.mark.parametrize("spatial", _SIZES[:2])
@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_noise_on_scores_and_log_edges(spatial, gradient: str) -> None:
    scores, edges = (t.requires_grad_() for t in _problem(spatial, 1))
    g = torch.linspace(1, -2, scores.numel(), dtype=torch.float64).reshape(scores.shape)
    expected = _exact(scores, edges, 0.8, 0.5)
    truths = [expected.detach(), *torch.autograd.grad((expected * g).sum(), (scores, edges))]
    cut = perturbed("max_flow", 4, (0.8, 0.5), on="both", gradient=gradient)
    estimates = _estimates(cut, scores.detach(), edges.detach(), 400, g)
    for found, truth in zip(estimates, truths, strict=True):
        _agree(found, truth, 2e-3)


@pytest.mark.parametrize("variance", ["antithetic", "leave-one-out"])
def test_log_normal_edges_alone(variance: str) -> None:
    """Scores 2 and -1: the second pixel joins the first when the tie is above 1, so with Phi(log w / b)."""
    scores, edges = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[1.5, math.nan]]])
    cut = perturbed("max_flow", 4, 0.6, on="edges", variance=variance)
    value, slope = _estimates(cut, scores, edges, 400, torch.tensor([0.5, 1.0]))
    at = math.log(1.5) / 0.6
    _agree(value.double(), torch.tensor([[[1.0, norm.cdf(at)]]], dtype=torch.float64))
    _agree(slope.double(), torch.tensor([[[norm.pdf(at) / (0.6 * 1.5), 0.0]]], dtype=torch.float64))


def test_an_edge_of_zero() -> None:
    """By levels it gets the derivative towards more; of noise on its logarithm it stays 0."""
    scores, edges = (
        torch.tensor([[[0.3, 0.9]]], dtype=torch.float64),
        torch.zeros(1, 1, 2, dtype=torch.float64),
    )
    g = torch.tensor([1.0, 3.0], dtype=torch.float64)
    found = _estimates(perturbed("max_flow", 4), scores, edges, 400, g)[2]
    # v_2 > w: pixel 1 is 1 when v_1 > -w; v_2 < -w: when v_1 > w. At w = 0 the slope is phi(s_1) E[sign v_2].
    slopes = norm.pdf([0.3, 0.9]) * (2 * norm.cdf([0.9, 0.3]) - 1)
    _agree(found, torch.tensor([[[slopes @ g.numpy(), 0.0]]]))
    assert not _estimates(perturbed("max_flow", 4, on="edges"), scores, edges, 2, g)[1].any()


def test_variance_is_reduced() -> None:
    """By pairs or a baseline, and by much more where the noise is integrated out."""
    scores, edges = _problem((12, 12), 2)
    scores[..., :6] += 1.5
    scores[..., 6:] -= 1.5
    g = torch.linspace(-1, 2, 144, dtype=torch.float64).reshape(12, 12)

    def spread(gradient: str, variance: str) -> float:
        cut = perturbed("max_flow", 8, gradient=gradient, variance=variance)
        return float(_estimates(cut, scores, edges, 40, g)[1].var(dim=0).sum())

    plain = spread("scores", "none")
    assert spread("scores", "leave-one-out") < plain / 5
    assert spread("scores", "antithetic") < plain / 5
    assert spread("levels", "antithetic") < plain / 100


def test_by_levels_the_gradient_is_the_derivative_of_the_estimate() -> None:
    scores, edges = (t.requires_grad_() for t in _problem((3, 4), 3))
    both = Neighborhood.edges(2)
    assert torch.autograd.gradcheck(perturbed("max_flow", 4, on="both"), (scores, edges))
    assert torch.autograd.gradcheck(perturbed(fc.max_flow, 3, 0.5, neighborhood=both, variance="none"),
                                    (scores, edges))  # fmt: skip


def test_both_ways_and_total_variation_s_sign_are_one_cut() -> None:
    """The labels of v are {total variation of v > 0}, so those two functions give the same samples."""
    scores, edges = _problem((6, 7), 4)
    cuts = [
        fc.max_flow,
        "max_flow",
        lambda s, w: fc.total_variation(s, w) > 0,
        lambda s, w: fc.max_flow(s, w),
    ]
    found = [
        perturbed(fn, 6, gradient="scores" if i < 2 else None)(scores, edges) for i, fn in enumerate(cuts)
    ]
    for other in found[1:]:
        assert torch.equal(other, found[0])
    assert set((found[0] * 6).unique().tolist()) <= set(range(7))


def test_any_function_of_any_number_of_labels() -> None:
    """Without ties: label 0 of two wins with Phi((s_0 - s_1) / (a sqrt 2)); graded values are averaged."""
    scores = torch.tensor([[[0.5, -1.0], [0.2, 0.4]]], dtype=torch.float64)
    edges, g = torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    at = (scores[0, 0] - scores[0, 1]) / (0.7 * 2**0.5)
    truth = torch.stack([torch.special.ndtr(at), torch.special.ndtr(-at)])
    slope = torch.zeros(2, 2, dtype=torch.float64)
    slope[0, 0] = norm.pdf(float(at[0])) / (0.7 * 2**0.5)
    slope[1, 0] = -slope[0, 0]
    for fn in ("alpha_expansion", lambda s, w: s.argmax(dim=1), lambda s, w: (s == s.amax(1, True)).double()):
        labels, gradient = _estimates(perturbed(fn, 4, 0.7), scores, edges, 400, g)
        assert (labels.sum(dim=1) - 1).abs().max() < 1e-12
        _agree(labels, truth)
        _agree(gradient, slope)


def test_groups_graphs_and_ties_that_leave() -> None:
    scores, edges = _problem((3, 4), 5)
    ties = grid_ties((3, 4), Neighborhood.edges(2).offsets)
    graph = Graph(torch.tensor([tie[2:] for tie in ties]).T, 12)
    w = torch.stack([edges[(0, k, *pixel)] for k, pixel, _, _ in ties])[None]
    outside = torch.where(Neighborhood.edges(2).inside((3, 4)), edges, math.nan)
    for gradient in ("levels", "scores"):
        truth = _estimates(perturbed("max_flow", 4, on="both", gradient=gradient), scores, outside, 1, 1.0)
        assert all(torch.isfinite(t).all() for t in truth)
        grouped = _estimates(
            perturbed("max_flow", 4, on="both", gradient=gradient), scores, edges[:, None], 1, 1.0
        )
        for ours, other in zip(grouped, truth, strict=True):
            assert torch.equal(ours.reshape(other.shape), other)
        on_graph = perturbed("max_flow", 4, gradient=gradient, neighborhood=graph)
        on_grid = perturbed("max_flow", 4, gradient=gradient)
        found = _estimates(on_graph, scores.flatten(2), w, 1, 1.0)
        for ours, other in zip(found[:2], _estimates(on_grid, scores, edges, 1, 1.0)[:2], strict=True):
            torch.testing.assert_close(ours.reshape(other.shape), other)


def test_edges_shared_by_the_items_add_their_gradients() -> None:
    scores, edges = _problem((4, 5), 6)
    shared, own = edges.clone().requires_grad_(), edges.expand(3, -1, -1, -1).clone().requires_grad_()
    many, cut = scores.expand(3, -1, -1, -1), perturbed("max_flow", 4)
    one, three = cut(many, shared), cut(many, own)
    assert torch.equal(one, three)
    one.sum().backward()
    three.sum().backward()
    torch.testing.assert_close(shared.grad, own.grad.sum(dim=0, keepdim=True))


@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_noise_is_the_seed_s_alone(gradient: str) -> None:
    """Whatever the threads; and a generator gives a batch what its items would get in turn."""
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 1, 150, 160, generator=g)
    edges = torch.rand(3, 2, 150, 160, generator=g) + 0.1
    cut = perturbed("max_flow", 2, on="both", gradient=gradient, seed=5)

    def run(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return _estimates(cut, scores[:1], edges[:1], 1, 1.0)
        finally:
            torch.set_num_threads(before)

    for one, two in zip(run(1), run(2), strict=True):
        assert torch.equal(one, two)
    small, ties = scores[..., :5, :6], edges[..., :5, :6]

    def drawn() -> Perturbed:
        generator = torch.Generator().manual_seed(7)
        return perturbed("max_flow", 4, on="both", gradient=gradient, seed=generator)

    one = drawn()
    apart = torch.cat([one(small[n : n + 1], ties[n : n + 1]) for n in range(3)])
    assert torch.equal(drawn()(small, ties), apart)
    assert not torch.equal(one(small, ties), apart)  # it went on
    other = perturbed("max_flow", 4, on="both", gradient=gradient, seed=6)(small, ties)
    assert not torch.equal(other, apart)


@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_second_derivatives_are_refused(gradient: str) -> None:
    scores, edges = (t.requires_grad_() for t in _problem((3, 3), 7))
    cut = perturbed("max_flow", 4, on="both", gradient=gradient)
    for wanted in (scores, edges):
        # The first one is fine, whoever keeps its graph.
        (first,) = torch.autograd.grad(cut(scores, edges).square().sum(), wanted, create_graph=True)
        with pytest.raises(RuntimeError, match="perturbed: expected first derivatives only"):
            first.square().sum().backward()


@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_functional_gradients_and_compilation(gradient: str) -> None:
    scores, edges = _problem((3, 4), 8)
    cut = perturbed("max_flow", 4, on="both", gradient=gradient)
    _, truth, ties = _estimates(cut, scores, edges, 1, 1.0)
    ours = torch.func.grad(lambda s, w: cut(s, w).sum(), argnums=(0, 1))(scores, edges)
    torch.testing.assert_close(ours, (truth, ties), rtol=1e-14, atol=1e-14)
    rows = torch.func.jacrev(cut)(scores, edges)
    torch.testing.assert_close(rows.sum(dim=(0, 1, 2, 3)), truth)
    compiled = torch.compile(cut, fullgraph=True, backend="aot_eager")
    s, w = scores.clone().requires_grad_(), edges.clone().requires_grad_()
    out = compiled(s, w)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), (s, w)), (truth, ties), rtol=1e-14, atol=1e-14)


def test_types_strides_and_nothing() -> None:
    scores, edges = _problem((3, 4), 9)
    for gradient in ("levels", "scores"):
        cut = perturbed("max_flow", 4, gradient=gradient)
        truth = cut(scores, edges)
        for dtype in (torch.float32, torch.bfloat16):
            out = cut(scores.to(dtype), edges.to(dtype))
            assert out.dtype == dtype
            assert torch.equal(out, cut(scores.to(dtype).double(), edges.to(dtype).double()).to(dtype))
        strided = (torch.stack([t, t + 1], dim=-1)[..., 0] for t in (scores, edges))
        assert torch.equal(cut(*strided), truth)
        for shape in ((0, 1, 3, 4), (2, 1, 0, 4)):
            empty = torch.zeros(shape, requires_grad=True)
            cut(empty, torch.zeros(shape[0], 2, *shape[2:])).sum().backward()
            assert empty.grad.shape == shape


def test_head() -> None:
    """New noise in every step of training, none that changes in evaluation, and a state that goes on."""
    scores, edges = (t.float() for t in _problem((5, 6), 10))
    head = PerturbedCut(samples=4)
    first, second = head(scores, edges), head(scores, edges)
    assert not torch.equal(first, second)
    twin = PerturbedCut(samples=4)
    twin.load_state_dict(head.state_dict())
    assert torch.equal(head(scores, edges), twin(scores, edges))
    assert torch.equal(head.eval()(scores, edges), head(scores, edges))
    mean = perturbed("max_flow", 4)(scores, edges)
    torch.testing.assert_close(head(scores, edges).sigmoid(), (4 * mean + 0.5) / 5)
    assert head.neighborhood is None
    assert not list(head.parameters())


def test_head_is_finite_and_pulls_back_where_all_samples_agree() -> None:
    sure = torch.full((1, 1, 2, 2), -30.0, requires_grad=True)
    logits = PerturbedCut(samples=4)(sure, torch.ones(1, 2, 2, 2))
    assert torch.equal(logits, torch.full_like(logits, math.log(0.5 / 4.5)))
    three = torch.eye(3).reshape(1, 3, 1, 3).mul(50.0).requires_grad_()
    head = PerturbedCut("alpha_expansion", samples=4)
    out = head(three, torch.zeros(1, 2, 1, 3))
    torch.testing.assert_close(out.softmax(dim=1).diagonal(dim1=1, dim2=3), torch.full((1, 1, 3), 4.5 / 5.5))
    assert torch.equal(out.argmax(dim=1), torch.tensor([[[0, 1, 2]]]))
    out.sum().backward()
    assert torch.isfinite(three.grad).all()


def test_head_learns() -> None:
    """Descent on a few pixels raises the scores and the tie that the target asks for."""
    scores = torch.zeros(1, 1, 1, 4, requires_grad=True)
    ties = torch.zeros(1, 2, 1, 4, requires_grad=True)
    target, head = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]), PerturbedCut(samples=8)
    optimizer = torch.optim.SGD([scores, ties], 0.5)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_of(head(scores, torch.nn.functional.softplus(ties)), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert ties[0, 1, 0, 1] < ties[0, 1, 0, 0]
    assert ties[0, 1, 0, 1] < ties[0, 1, 0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fn": "min_cut"}, "fn: expected a function or a name out of"),
        ({"samples": 0}, "samples: expected an integer >= 1, got 0"),
        ({"samples": 3}, "samples: expected an even number for pairs, got 3"),
        ({"samples": 2.0}, "samples: .*got 2.0"),
        ({"sigma": 0}, "sigma: expected a finite number > 0, got 0"),
        ({"sigma": -1.0}, "sigma: .*got -1.0"),
        ({"sigma": math.nan}, "sigma: .*got nan"),
        ({"sigma": math.inf}, "sigma: .*got inf"),
        ({"sigma": (1.0, 2.0)}, "sigma: expected a finite number > 0, got"),
        ({"sigma": (1.0, 0.0), "on": "both"}, "sigma: expected one or two finite numbers > 0, got"),
        ({"on": "pixels"}, "on: expected one of"),
        ({"variance": "low"}, "variance: expected one of"),
        ({"gradient": "exact"}, "gradient: expected one of"),
        ({"gradient": "levels", "on": "edges"}, "gradient: expected 'levels' for max_flow"),
        ({"gradient": "levels", "fn": "alpha_expansion"}, "gradient: expected 'levels' for max_flow"),
        ({"seed": -1}, "seed: expected an integer"),
        ({"seed": "a"}, "seed: expected an integer"),
    ],
)
def test_refused_settings(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerturbedCut(**arguments)
    with pytest.raises(ValueError, match=message):
        perturbed(**{"fn": "max_flow", **arguments})


@pytest.mark.parametrize("gradient", ["levels", "scores"])
def test_refused_values(gradient: str) -> None:
    scores, edges = _problem((2, 3), 11)
    cut = perturbed("max_flow", 2, on="both", gradient=gradient)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"scores: expected finite values, got {bad}"):
            cut(scores.clone().index_fill_(3, torch.tensor(1), bad), edges)
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match="edges: expected finite values >= 0"):
            cut(scores, edges.clone().index_fill_(3, torch.tensor(0), bad))
    with pytest.raises(ValueError, match="edges: expected shape"):
        cut(scores, edges[..., :2])
    with pytest.raises(TypeError, match="scores: expected a floating-point tensor"):
        cut(scores.long(), edges)
    with pytest.raises(ValueError, match="scores: expected one channel"):
        cut(scores.expand(-1, 2, -1, -1), edges)
    with pytest.raises(ValueError, match="sigma: expected noise that keeps edges finite with 1000, got inf"):
        perturbed("max_flow", 8, 1000.0, on="both", gradient=gradient)(scores, edges)


def test_a_gradient_that_cannot_be_is_refused() -> None:
    scores, edges = _problem((2, 3), 12)
    expansion = torch.cat([scores, -scores], dim=1)
    with pytest.raises(ValueError, match=r"edges: expected no gradient .* on='scores'.*use on='both'"):
        perturbed("alpha_expansion", 2)(expansion, edges.requires_grad_())
    with torch.no_grad():
        assert perturbed("alpha_expansion", 2)(expansion, edges).shape == expansion.shape
    with pytest.raises(ValueError, match=r"scores: expected no gradient .* on='edges'.*scores.detach\(\)"):
        perturbed("max_flow", 2, on="edges")(scores.requires_grad_(), edges)


def test_functions_that_return_nonsense_are_refused() -> None:
    scores, edges = torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3)
    for fn, error, message in (
        (lambda s, w: None, TypeError, "fn: expected it to return a tensor, got NoneType"),
        (lambda s, w: s[:, :1], ValueError, r"fn: expected labels \(4, 2, 3\) or values \(4, 2, 2, 3\), got"),
        (lambda s, w: s[:, 0], TypeError, "fn: expected integer labels for 2 channels, got torch.float64"),
        (lambda s, w: s.argmax(dim=1) + 5, ValueError, "fn: expected labels 0 to 1, got"),
        (lambda s, w: s / 0, ValueError, "fn: expected finite values, got"),
    ):
        with pytest.raises(error, match=message):
            perturbed(fn, 4)(scores, edges)
    with pytest.raises(TypeError, match="fn: expected a function or a name, got int"):
        perturbed(3)  # type: ignore[arg-type]
    assert sorted(CUTS) == ["alpha_expansion", "max_flow"]
