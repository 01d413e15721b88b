"""Edges made into weights and back: what a SoftCut averages with, closed forms, what does not fit."""

import math

import pytest
import torch

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood
from flowcut.linear.cholesky import Cholesky
from flowcut.vision.fit_ties import edges_from_weights, fit_ties, half_window, weights_from_edges
from flowcut.vision.ties import BoundedEdges, WindowWeights


def test_weights_from_edges_are_those_a_soft_cut_averages_with():
    edges, b = torch.rand(2, 4, 6, 7).double() * 5, torch.randn(2, 1, 6, 7).double()
    x = fc.soft_cut(b, edges, solver=Cholesky())
    weights = weights_from_edges(edges, Neighborhood.edges(2, connectivity=2))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 6, 7).double())
    full = Neighborhood.window(2, 3)
    mean = weights[:, [4]] * b
    for k, (down, right) in enumerate(full.offsets):
        if k != 4:
            mean += weights[:, [k]] * x.roll((-down, -right), dims=(2, 3))
    torch.testing.assert_close(mean, x)


@pytest.mark.parametrize("where", [Neighborhood.edges(2), Neighborhood.edges(2, 2), half_window(2, 5)])
def test_edges_come_back_from_weights(where):
    edges = torch.rand(2, len(where), 7, 8).double() * 3
    window = 5 if len(where) > 4 else 3
    found = edges_from_weights(weights_from_edges(edges, where, window), window, where)
    torch.testing.assert_close(found, torch.where(where.inside((7, 8)), edges, 0))


def test_edges_from_weights_in_closed_form():
    # Two pixels in a row: Omega_12 / Omega_11 = 3, Omega_21 / Omega_22 = 1/4, and (3 + 1/4) / 2.
    weights = torch.zeros(1, 9, 1, 2)
    weights[0, 4, 0], weights[0, 5, 0, 0], weights[0, 3, 0, 1] = torch.tensor([0.25, 0.8]), 0.75, 0.2
    edges = edges_from_weights(weights, 3)
    assert edges.shape == (1, 4, 1, 2)
    assert edges[0, 1, 0].tolist() == pytest.approx([1.625, 0])
    assert edges.sum().item() == pytest.approx(1.625)
    # Uniform weights are edges of 1; without a weight of its own a pixel is tied as strongly as can be.
    uniform = edges_from_weights(torch.full((1, 9, 5, 5), 1 / 9), 3)
    torch.testing.assert_close(uniform[0], half_window(2, 3).inside((5, 5)).float())
    weights[0, 4, 0, 0] = 0
    assert edges_from_weights(weights, 3)[0, 1, 0, 0].item() == pytest.approx((math.exp(10) + 0.25) / 2)


def test_ties_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^window: expected a side of 5 or more"):
        fit_ties(WindowWeights(3), Neighborhood.window(2, 3), "edges", half_window(2, 5))
    with pytest.raises(ValueError, match=r"^window: expected a side of 5 or more for these edges, got 3"):
        weights_from_edges(torch.rand(1, 12, 6, 6), half_window(2, 5), 3)
    assert fit_ties(BoundedEdges(2), Neighborhood.edges(2), "edges", Neighborhood.edges(2)) == BoundedEdges(2)
