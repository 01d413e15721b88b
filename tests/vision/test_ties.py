"""How a second branch becomes ties: edges in their bounds, weights on the simplex, heads that say which."""

import math

import pytest
import torch
from torch import nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.soft_cut import SoftCut
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.ties import BoundedEdges, SoftplusEdges, Ties, WindowWeights, ties_of


def test_edges_near_zero_and_far_from_it():
    raw = torch.tensor([-1e30, -1e-4, 0.0, 1e-4, 1e30], dtype=torch.float64)
    expected = torch.tensor([-2.0, -1e-4, 0.0, 1e-4, 2.0], dtype=torch.float64).exp()
    torch.testing.assert_close(BoundedEdges(log_edge_limit=2.0).read(raw), expected, rtol=1e-9, atol=0)


def test_weights_are_a_softmax_over_the_pixels_there_are():
    raw = torch.randn(2, 9, 4, 5, dtype=torch.float64)
    weights = WindowWeights(3).read(raw)
    torch.testing.assert_close(weights[:, :, 1:-1, 1:-1], raw.softmax(dim=1)[:, :, 1:-1, 1:-1])
    inside = [4, 5, 7, 8]  # of the upper left corner: itself, right, below, diagonal
    torch.testing.assert_close(weights[:, inside, 0, 0], raw[:, inside, 0, 0].softmax(dim=1))
    assert (weights[:, [0, 1, 2, 3, 6], 0, 0] == 0).all()


def test_strengths_are_edges_already():
    strengths = torch.rand(1, 2, 3, 4)
    assert BoundedEdges().from_strengths(strengths) is strengths
    assert SoftplusEdges().from_strengths(strengths) is strengths


def test_heads_say_what_they_take():
    class Own(nn.Module):
        ties = WindowWeights(1)

    assert ties_of(Own()) == WindowWeights(1)
    assert ties_of(FlowHead(nn.Identity(), 5)) == WindowWeights(5)
    assert ties_of(SoftCut(), SoftplusEdges) == SoftplusEdges(2)
    assert ties_of(SoftCut(neighborhood=Neighborhood.edges(2, connectivity=2))).channels == 4
    assert ties_of(nn.Identity()) == ties_of(None) == BoundedEdges()
    assert all(isinstance(ties, Ties) for ties in (BoundedEdges(), SoftplusEdges(), WindowWeights()))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: BoundedEdges(0), "channels"),
        (lambda: SoftplusEdges(0), "channels"),
        (lambda: BoundedEdges(2, math.nan), "log_edge_limit"),
        (lambda: WindowWeights(2), "window"),
        (lambda: WindowWeights(-1), "window"),
        (lambda: FlowHead(nn.Identity(), 0), "window"),
    ],
)
def test_numbers_out_of_range(make, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        make()
