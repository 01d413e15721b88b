"""A random walker on scores: closed forms, dense algebra, a walker that walks, gradients."""

import math

import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.linear.cholesky import Cholesky
from flowcut.vision.heads import build_head
from flowcut.vision.walker_head import PriorWalkerHead


def exact(confidence=1.0):
    return PriorWalkerHead(confidence, Cholesky())


def dense(scores, edges, confidence):
    """Probabilities (C, n) of one item by a dense solve of (c + L) x = c p."""
    spatial = scores.shape[1:]
    n = math.prod(spatial)
    matrix = confidence * torch.eye(n, dtype=torch.float64)
    index = torch.arange(n).reshape(spatial)
    for k, (down, right) in enumerate(Neighborhood.edges(2).offsets):
        here = index[: spatial[0] - down, : spatial[1] - right].flatten()
        there = index[down:, right:].flatten()
        for i, j, w in zip(here, there, edges[k].flatten()[here], strict=True):
            matrix[i, i] += w
            matrix[j, j] += w
            matrix[i, j] -= w
            matrix[j, i] -= w
    p = scores.flatten(1).softmax(dim=0)
    return torch.linalg.solve(matrix, confidence * p.T).T


@pytest.mark.parametrize("confidence", [0.3, 1.0, 5.0])
def test_probabilities_solve_the_walker_s_equation(confidence):
    scores, edges = torch.randn(2, 3, 4, 5).double() * 3, torch.rand(2, 2, 4, 5).double() * 4
    x = exact(confidence)(scores, edges).softmax(dim=1)
    for n in range(2):
        torch.testing.assert_close(x[n].flatten(1), dense(scores[n], edges[n], confidence))


def test_without_ties_logits_are_log_probabilities():
    scores = torch.randn(2, 3, 4, 5).double()
    torch.testing.assert_close(exact()(scores, torch.zeros(2, 2, 4, 5).double()), scores.log_softmax(dim=1))
    one = torch.randn(2, 1, 4, 5).double()
    torch.testing.assert_close(exact()(one, torch.zeros(2, 2, 4, 5).double()), one)


def test_two_channels_are_one_on_their_difference():
    scores, edges = torch.randn(1, 2, 4, 5).double(), torch.rand(1, 2, 4, 5).double()
    both, one = exact()(scores, edges), exact()(scores[:, 1:] - scores[:, :1], edges)
    torch.testing.assert_close(both[:, 1:] - both[:, :1], one)


def test_strong_ties_give_everyone_the_mean_probability():
    scores = torch.randn(1, 3, 3, 4).double()
    x = exact()(scores, torch.full((1, 2, 3, 4), 1e9).double()).softmax(dim=1)
    mean = scores.softmax(dim=1).mean(dim=(2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(x, mean, rtol=1e-6, atol=0)


def test_a_walker_that_walks():
    generator = torch.Generator().manual_seed(0)
    scores, w = torch.tensor([-2.0, 0.5, 1.0, 3.0]).double(), torch.tensor([2.0, 0.5, 1.5]).double()
    edges = torch.cat([w, torch.zeros(1)]).reshape(1, 1, 1, 4).double()
    x = exact()(scores.reshape(1, 1, 1, 4), torch.cat([torch.zeros_like(edges), edges], dim=1)).sigmoid()
    right = torch.cat([w, torch.zeros(1)])
    left = torch.cat([torch.zeros(1), w])
    walkers = 40_000
    at, alive, stops = torch.zeros(walkers).long(), torch.ones(walkers).bool(), torch.zeros(walkers).long()
    while alive.any():
        u = torch.rand(walkers, generator=generator).double() * (1 + left + right)[at]
        step = torch.where(u < right[at], 1, torch.where(u < (left + right)[at], -1, 0))
        stops = torch.where(alive & (step == 0), at, stops)
        alive &= step != 0
        at = torch.where(alive, at + step, at)
    p = scores.sigmoid()[stops]
    assert abs(p.mean() - x[0, 0, 0, 0]) < 5 * p.std() / walkers**0.5


def test_gradients_are_right():
    scores, edges = torch.randn(1, 3, 3, 3).double(), torch.rand(1, 2, 3, 3).double() + 0.1
    scores.requires_grad_()
    edges.requires_grad_()
    head = exact()
    assert torch.autograd.gradcheck(lambda s, e: head(s, e), (scores, edges))
    assert torch.autograd.gradcheck(lambda s, e: head(s[:, :1], e), (scores, edges))


def test_extreme_scores_stay_finite():
    scores = torch.tensor([[[[-1e4, 1e4, 50.0, -50.0]]]], requires_grad=True)
    edges = torch.full((1, 2, 1, 4), 3.0, requires_grad=True)
    logits = PriorWalkerHead()(scores, edges)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert scores.grad.isfinite().all()
    assert edges.grad.isfinite().all()


def test_it_is_made_from_plain_data():
    head = build_head({"name": "RandomWalker", "confidence": 2, "solver": {"name": "Cholesky"}})
    assert (head.confidence, head.solver) == (2, Cholesky())
    with pytest.raises(ValueError, match=r"^confidence: expected a number > 0, got 'much'"):
        build_head({"name": "RandomWalker", "confidence": "much"})
    for confidence in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^confidence: expected"):
            PriorWalkerHead(confidence)
