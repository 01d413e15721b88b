"""FlowHead: one channel is two labels, distances are the design's unary costs up to a shift."""

import pytest
import torch

from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.flow.nonlinear import AssignmentFlow
from flowcut.flow.weights import softmax_weights
from flowcut.vision.flow_head import FlowHead

FLOWS = [LinearAssignmentFlow(rho=0.7, time=2.0, krylov_dim=4), AssignmentFlow(rho=0.7, time=1.0)]


def inputs(channels: int, window: int = 3):
    generator = torch.Generator().manual_seed(channels)
    scores = torch.randn(2, channels, 5, 6, generator=generator, dtype=torch.float64)
    raw = torch.randn(2, window**2, 5, 6, generator=generator, dtype=torch.float64)
    return scores, softmax_weights(raw)


@pytest.mark.parametrize("flow", FLOWS)
def test_one_channel_is_the_flow_on_the_costs_of_both_labels(flow):
    scores, weights = inputs(1)
    costs = torch.cat([scores.clamp(min=0), (-scores).clamp(min=0)], dim=1)
    assigned = flow(costs, weights).softmax(dim=1)
    torch.testing.assert_close(FlowHead(flow)(scores, weights).sigmoid()[:, 0], assigned[:, 1])


@pytest.mark.parametrize("flow", FLOWS)
def test_several_channels_are_as_many_labels(flow):
    scores, weights = inputs(3, window=5)
    torch.testing.assert_close(FlowHead(flow, 5)(scores, weights), flow(-scores, weights))
    # Without neighbours and after a short time the labels are those of the scores.
    alone = torch.zeros_like(weights)
    alone[:, 12] = 1
    assert torch.equal(FlowHead(flow, 5)(scores, alone).argmax(dim=1), scores.argmax(dim=1))


@pytest.mark.parametrize("flow", FLOWS)
def test_one_channel_is_two_and_changes_sign_with_the_scores(flow):
    scores, weights = inputs(1)
    head = FlowHead(flow)
    two = head(torch.cat([torch.zeros_like(scores), scores], dim=1), weights)
    torch.testing.assert_close(head(scores, weights), two[:, 1:] - two[:, :1])
    torch.testing.assert_close(head(-scores, weights), -head(scores, weights))


@pytest.mark.parametrize("channels", [1, 3])
def test_derivatives_by_finite_differences(channels):
    # The Krylov space is the whole space, where the low-rank gradient is exact.
    head = FlowHead(LinearAssignmentFlow(time=1.0, krylov_dim=30))
    scores = torch.randn(1, channels, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    raw = torch.randn(1, 9, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(
        lambda s, r: head(s, head.ties.read(r)), (scores.requires_grad_(), raw.requires_grad_())
    )


def test_half_precision_comes_back_in_its_type():
    scores, weights = (t.bfloat16() for t in inputs(1))
    assert FlowHead(FLOWS[0])(scores, weights).dtype == torch.bfloat16


def test_weights_of_another_window_are_refused():
    scores, weights = inputs(1)
    with pytest.raises(ValueError, match="weights"):
        FlowHead(FLOWS[0])(scores, weights[:, :8])
