"""A cut as a quadratic program: its closed form, an independent solver, its derivative, its limit."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import flowcut as fc

pytest.importorskip("cvxpylayers", reason="the extra lp is not installed")
# Of the library, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def problem(spatial, seed=0, items=1, channels=1, groups=1, connectivity=1):
    generator = torch.Generator().manual_seed(seed)
    where = fc.Neighborhood.edges(len(spatial), connectivity)
    scores = torch.randn(items, channels, *spatial, generator=generator, dtype=torch.float64)
    edges = torch.rand(items, groups, len(where), *spatial, generator=generator, dtype=torch.float64)
    return scores, edges, where


@pytest.mark.parametrize(
    ("spatial", "options"),
    [
        ((7,), {}),
        ((4, 5), {"items": 2, "channels": 2}),
        ((3, 4), {"channels": 2, "groups": 2, "connectivity": 2}),
        ((2, 3, 2), {}),
    ],
)
def test_it_is_total_variation_kept_between_0_and_1(spatial, options):
    scores, edges, where = problem(spatial, **options)
    edges[..., : spatial[-1] // 2] *= 0  # ties of no weight are ties that do nothing
    scores.requires_grad_()
    edges.requires_grad_()
    found = fc.qp_cut(scores, edges, 0.7, where)
    expected = (0.5 + fc.total_variation(scores / 0.7, edges / 0.7, where)).clamp(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert found.dtype == torch.float64
    weight = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((found * weight).sum(), (scores, edges))
    theirs = torch.autograd.grad((expected * weight).sum(), (scores, edges))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_another_solver_finds_the_same():
    scores, edges, _ = problem((2, 3), seed=3)
    s, w = scores.flatten().numpy(), edges[0, 0].numpy()
    pairs = [(i * 3 + j, i * 3 + j + 3, w[0, i, j]) for i in range(1) for j in range(3)]
    pairs += [(i * 3 + j, i * 3 + j + 1, w[1, i, j]) for i in range(2) for j in range(2)]
    n, r = 6, 0.9

    def cost(z):
        return (
            -s @ z[:n]
            + sum(p[2] * d for p, d in zip(pairs, z[n:], strict=True))
            + r / 2 * ((z[:n] - 0.5) ** 2).sum()
        )

    rules = []
    for e, (i, j, _) in enumerate(pairs):
        for sign in (1, -1):
            rules.append(
                {"type": "ineq", "fun": lambda z, e=e, i=i, j=j, g=sign: z[n + e] - g * (z[i] - z[j])}
            )
    start = np.concatenate([np.full(n, 0.5), np.full(len(pairs), 0.5)])
    bounds = [(0, 1)] * len(start)
    best = minimize(
        cost, start, bounds=bounds, constraints=rules, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500}
    )
    found = fc.qp_cut(scores, edges, r).flatten().numpy()
    np.testing.assert_allclose(found, best.x[:n], atol=2e-5)


@pytest.mark.parametrize("seed", range(5))
def test_with_little_regularization_it_is_the_minimum_cut(seed):
    scores, edges, where = problem((2, 3), seed)
    mask = fc.max_flow(scores, edges, where)
    found = fc.qp_cut(scores, edges, 1e-3, where)
    torch.testing.assert_close(found[:, 0], mask.double(), atol=1e-4, rtol=0)
    # And that is the cheapest of all labelings.
    s, costs = scores.flatten(), {}
    for labels in itertools.product((0.0, 1.0), repeat=6):
        m = torch.tensor(labels, dtype=torch.float64).reshape(2, 3)
        cut = (edges[0, 0, 0, :1] * (m[:1] - m[1:]).abs()).sum()
        cut += (edges[0, 0, 1, :, :2] * (m[:, :2] - m[:, 1:]).abs()).sum()
        costs[labels] = float(cut - s @ m.flatten())
    assert min(costs, key=costs.__getitem__) == tuple(mask.double().flatten().tolist())


def test_gradients_are_those_of_finite_differences():
    scores, edges, where = problem((2, 3), seed=2)
    scores, edges = (0.3 * scores).requires_grad_(), (0.2 * edges).requires_grad_()
    weight = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(1, 1, 2, 3)

    def value(s, w):
        return (fc.qp_cut(s, w, 1.0, where) * weight).sum()

    grads = torch.autograd.grad(value(scores, edges), (scores, edges))
    for k, given in enumerate((scores, edges)):
        for index in list(np.ndindex(*given.shape))[::2]:
            step = torch.zeros_like(given)
            step[index] = 1e-3
            ends = [[scores, edges], [scores, edges]]
            ends[0][k], ends[1][k] = given + step, given - step
            slope = float((value(*ends[0]) - value(*ends[1])).detach()) / 2e-3
            assert float(grads[k][index]) == pytest.approx(slope, abs=2e-3)


def test_a_pixel_alone_and_no_pixel():
    alone = torch.tensor([[[0.2]], [[5.0]]], requires_grad=True)
    found = fc.qp_cut(alone, torch.ones(2, 1, 1), 2.0)
    assert found.flatten().tolist() == pytest.approx([0.6, 1.0])
    assert torch.autograd.grad(found.sum(), alone)[0].flatten().tolist() == pytest.approx([0.5, 0.0])
    assert fc.qp_cut(torch.zeros(0, 1, 3), torch.zeros(0, 1, 3)).shape == (0, 1, 3)


def test_items_are_solved_apart_and_nothing_depends_on_the_threads():
    scores, edges, where = problem((3, 4), items=3)
    scores.requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = fc.qp_cut(scores, edges, 1.0, where)
            found.append((out.detach(), *torch.autograd.grad(out.square().sum(), scores)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    for n in range(3):
        alone = fc.qp_cut(scores[n : n + 1].detach(), edges[n : n + 1], 1.0, where)
        torch.testing.assert_close(alone, found[0][0][n : n + 1], atol=1e-12, rtol=0)


def test_second_derivatives_are_refused():
    """Also where another path reaches the scores, whose second derivative would pass for the whole."""
    scores, edges, where = problem((2, 3))
    for wanted in (scores.requires_grad_(), edges.requires_grad_()):
        out = fc.qp_cut(0.3 * scores, edges, 1.0, where)
        value = out.square().sum() + wanted.pow(3).sum()
        (first,) = torch.autograd.grad(value, wanted, create_graph=True)
        with pytest.raises(RuntimeError, match="qp_cut: expected first derivatives only"):
            torch.autograd.grad(first.sum(), wanted)


def test_types_and_strides():
    scores, edges, where = problem((3, 4))
    truth = fc.qp_cut(scores, edges, 1.0, where)
    single = fc.qp_cut(scores.float(), edges.float(), 1.0, where)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), truth, atol=1e-4, rtol=0)
    strided = [torch.stack([t, t + 1], dim=-1)[..., 0] for t in (scores, edges)]
    assert torch.equal(fc.qp_cut(*strided, 1.0, where), truth)
    outside = torch.where(where.inside((3, 4)), edges, torch.nan)
    assert torch.equal(fc.qp_cut(scores, outside, 1.0, where), truth)


def test_without_the_extra_the_error_says_what_to_install():
    program = """
import sys
sys.modules["cvxpylayers"] = None  # what Python does for "known not to be there"
import flowcut
try:
    flowcut.qp_cut
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert "pip install 'flowcut[lp]'" in done.stdout


def test_a_graph_has_the_values_of_its_grid():
    scores, edges, _ = problem((5,), seed=4)
    graph = fc.Graph(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), 5)
    found = fc.qp_cut(scores, edges[..., :4].flatten(2), 1.0, graph)
    torch.testing.assert_close(found, fc.qp_cut(scores, edges), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regularization": 0.0}, "regularization: expected a finite number > 0, got 0"),
        ({"regularization": float("nan")}, "regularization: expected"),
        ({"scores": torch.full((1, 1, 3), torch.nan)}, "scores: expected finite values"),
        ({"edges": -torch.ones(1, 1, 3)}, "edges: expected finite values >= 0"),
        ({"edges": torch.ones(1, 2, 2, 3)}, "edges: expected"),
        (
            {"scores": torch.zeros(1, 1, 33, 32), "edges": torch.ones(1, 2, 33, 32)},
            "at most 1024 pixels .*, got 1056",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    arguments = {"scores": torch.zeros(1, 1, 3), "edges": torch.ones(1, 1, 3)} | change
    with pytest.raises(ValueError, match=message):
        fc.qp_cut(**arguments)
