"""Exact cuts as heads: groups of edges, and logits that are certain."""

import pytest
import torch

import flowcut as fc
from flowcut.vision.hard_heads import HARD_LOGIT, ExpansionHead, MaxFlowHead, hard_logits
from flowcut.vision.labels import predict_labels
from flowcut.vision.losses import CrossEntropyLoss, DiceLoss


def test_groups_of_edges_count_by_their_mean():
    scores, groups = torch.randn(1, 3, 6, 7), torch.rand(1, 3, 2, 6, 7)
    logits = ExpansionHead().eval()(scores, groups)
    assert torch.equal(logits.argmax(dim=1), fc.alpha_expansion(-scores, groups.mean(dim=1)))
    # Two channels, each with its own cut: an unequal pair pays half of either edge.
    two = torch.rand(1, 2, 2, 6, 7)
    found = MaxFlowHead().eval()(scores[:, :2], two).argmax(dim=1)
    assert torch.equal(found.bool(), fc.max_flow(scores[:, 1:2] - scores[:, :1], two.sum(dim=1) / 2))
    with pytest.raises(ValueError, match=r"^edges: expected 1 or 3 groups"):
        ExpansionHead().eval()(scores, torch.rand(1, 2, 2, 6, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [1, 3])
def test_hard_logits_are_certain_to_rounding_and_finite(dtype, classes):
    labels = torch.randint(0, max(classes, 2), (2, 5, 6))
    logits = hard_logits(labels, classes, dtype)
    assert logits.dtype == dtype
    assert logits.isfinite().all()
    assert torch.equal(predict_labels(logits), labels)
    exact = logits.double()
    p = exact.sigmoid() if classes == 1 else exact.softmax(dim=1)
    assert ((p == 1) | (p < 1e-17)).all()
    assert torch.equal(p > 0.5, logits > 0)


def test_losses_of_a_hard_labeling_are_those_of_its_mask():
    labels, target = torch.randint(0, 2, (1, 8, 8)), torch.randint(0, 2, (1, 8, 8))
    logits = hard_logits(labels, 1, torch.float64)
    both = (labels * target).sum()
    assert DiceLoss("binary")(logits, target).item() == pytest.approx(
        1 - 2 * both.item() / (labels.sum() + target.sum()).item()
    )
    wrong = (labels != target).double().mean().item()
    assert CrossEntropyLoss("binary")(logits, target).item() == pytest.approx(HARD_LOGIT * wrong)


def test_one_channel_is_cut_exactly_by_expansion_too():
    scores, edges = torch.randn(2, 1, 7, 8), torch.rand(2, 2, 7, 8)
    found = ExpansionHead().eval()(scores, edges)
    assert torch.equal(found, MaxFlowHead().eval()(scores, edges))
    assert torch.equal(found[:, 0] > 0, fc.max_flow(scores, edges))
