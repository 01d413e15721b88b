"""One head in training, another at inference: identities, exact cuts, ties between the kinds of heads."""

import pytest
import torch
from torch import nn

import flowcut as fc
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.soft_cut import SoftCut
from flowcut.cut.total_variation import TotalVariation
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.linear.cholesky import Cholesky
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.fit_ties import half_window
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.hard_heads import HARD_LOGIT, ExpansionHead, MaxFlowHead, hard_logits
from flowcut.vision.heads import build_head
from flowcut.vision.infer import INFERENCE, with_inference
from flowcut.vision.labels import predict_labels
from flowcut.vision.networks import BasicCnn, TwoHeadUnet, Unet3d
from flowcut.vision.with_head import with_head

TRAINABLE = [word for word in INFERENCE if word not in ("max_flow", "alpha_expansion", "none")]
FLOWS = ["linear_assignment_flow"]


def made(word, classes=1):
    many = {"fn": "alpha_expansion"} if word == "perturbed" and classes > 1 else {}
    return build_head(INFERENCE[word] | many)


def basic(head, classes=1):
    """Scores of both signs, and weak edges, so that cuts have something to cut."""
    torch.manual_seed(3)
    network = BasicCnn(num_classes=classes, width=5, head=head).eval()
    with torch.no_grad():
        network.score_layers[-1].weight *= 40
        network.score_layers[-1].bias -= network(torch.rand(1, 3, 20, 20)).mean(dim=(0, 2, 3))
        if head is not None:
            network.edge_layers[-1].bias -= 1.5
    return network


def unet(head, classes=1):
    torch.manual_seed(3)
    return TwoHeadUnet(num_classes=classes, head=head, decoder_channels=(16, 16, 8, 8, 8)).eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("network", [basic, unet])
@pytest.mark.parametrize("word", TRAINABLE)
@pytest.mark.parametrize("classes", [1, 3])
def test_every_head_on_every_network_and_the_own_one_changes_no_bit(network, word, classes):
    trained, images = network(made(word, classes), classes), torch.rand(2, 3, 9, 12)
    before = trained(images)
    for other in INFERENCE:
        if other == "max_flow" and classes == 3:
            continue
        parts = with_inference(trained, other).forward_parts(images)
        assert parts["logits"].shape == before.shape
        assert parts["logits"].isfinite().all()
        assert torch.equal(parts["scores"], trained.forward_parts(images)["scores"])
        assert ("weights" in parts, "edges" in parts) == (other in FLOWS, other not in (*FLOWS, "none"))
    assert torch.equal(with_inference(trained, word)(images), before)
    assert torch.equal(with_inference(trained, trained.head)(images), before)
    assert torch.equal(with_inference(trained, "none")(images), trained.forward_parts(images)["scores"])
    assert torch.equal(trained(images), before)


def test_the_own_head_keeps_its_settings_by_its_word_and_not_by_plain_data():
    head = SoftCut(Cholesky())
    assert with_inference(basic(head), "soft_cut").head is head
    assert isinstance(with_inference(basic(head), {"name": "SoftCut"}).head.solver, fc.Auto)
    flow = FlowHead(LinearAssignmentFlow(time=2.0), window=5)
    assert with_inference(basic(flow), "linear_assignment_flow").head is flow
    assert with_inference(basic(flow), {"name": "AssignmentFlow", "time": 1}).head.ties.window == 5


@pytest.mark.parametrize("network", [basic, unet])
def test_max_flow_is_the_cut_of_scores_and_edges(network):
    trained, images = network(SoftCut()), torch.rand(2, 3, 10, 11)
    parts = trained.forward_parts(images)
    cut = fc.max_flow(parts["scores"], parts["edges"])
    assert network is unet or 0.1 < cut.double().mean() < 0.9
    logits = with_inference(trained, "max_flow")(images)
    assert torch.equal(logits, torch.where(cut[:, None], HARD_LOGIT, -HARD_LOGIT))
    weaker = with_inference(trained, {"name": "MaxFlow", "edge_scale": 0.25})(images)
    assert torch.equal(weaker[:, 0] > 0, fc.max_flow(parts["scores"], parts["edges"] / 4))


def test_max_flow_behind_total_variation_changes_no_label():
    trained, images = basic(TotalVariation()), torch.rand(4, 3, 12, 13)
    soft = trained(images)
    assert (soft > 0).any()
    assert (soft < 0).any()
    assert torch.equal(predict_labels(with_inference(trained, "max_flow")(images)), predict_labels(soft))


def test_expansion_is_that_of_scores_and_edges():
    trained, images = basic(SoftCut(), 4), torch.rand(2, 3, 8, 9)
    parts = trained.forward_parts(images)
    labels = fc.alpha_expansion(-parts["scores"], parts["edges"])
    logits = with_inference(trained, "alpha_expansion")(images)
    assert len(labels.unique()) > 1
    assert torch.equal(logits.argmax(dim=1), labels)
    assert torch.equal(logits, hard_logits(labels, 4))


def test_two_channels_are_one_on_their_difference():
    trained, images = basic(SoftCut(), 2), torch.rand(2, 3, 8, 9)
    parts = trained.forward_parts(images)
    labels = predict_labels(with_inference(trained, "max_flow")(images))
    scores = parts["scores"]
    assert torch.equal(labels.bool(), fc.max_flow(scores[:, 1:] - scores[:, :1], parts["edges"]))
    # The same energy but for a constant: no labeling of the Potts energy is cheaper.
    costs = fc.PottsEnergy(-scores.double(), parts["edges"].double())
    moved = fc.alpha_expansion(-scores, parts["edges"])
    assert (costs.energy(labels) <= costs.energy(moved) + 1e-9).all()


@pytest.mark.parametrize("head", [MaxFlowHead(), ExpansionHead()])
def test_hard_heads_refuse_to_be_trained_through(head):
    network, images = BasicCnn(width=4, head=head), torch.rand(1, 3, 6, 6)
    with torch.enable_grad():
        with pytest.raises(RuntimeError, match=rf"^{type(head).__name__}: expected evaluation mode"):
            network(images)
        assert not network.eval()(images).requires_grad
        # A whole trained network in evaluation mode infers, whatever its parameters ask for.
        assert with_inference(basic(SoftCut()), "max_flow")(images).isfinite().all()
        with pytest.raises(RuntimeError, match="evaluation mode"):
            with_inference(BasicCnn(width=4, head=SoftCut()), "max_flow")(images)


def test_the_network_keeps_its_mode():
    trained = basic(SoftCut())
    trained.edge_layers.train()
    with_inference(trained, "max_flow")
    assert trained.edge_layers.training
    assert not trained.training


def test_a_window_of_five_pixels_gives_heads_of_cuts_twelve_edges():
    trained, images = basic(FlowHead(LinearAssignmentFlow(), window=5)), torch.rand(1, 3, 9, 9)
    parts = with_inference(trained, "max_flow").forward_parts(images)
    assert parts["edges"].shape == (1, 12, 9, 9)
    cut = fc.max_flow(parts["scores"], parts["edges"], half_window(2, 5))
    assert torch.equal(parts["logits"][:, 0] > 0, cut)
    with pytest.raises(ValueError, match=r"^edges: expected 2, 4 channels"):
        with_inference(trained, SoftCut())
    four = SoftCut(neighborhood=Neighborhood.edges(2))
    assert with_inference(trained, four).forward_parts(images)["edges"].shape == (1, 2, 9, 9)


def test_diagonal_edges_stay_what_they_are():
    where = Neighborhood.edges(2, connectivity=2)
    trained, images = basic(SoftCut(neighborhood=where)), torch.rand(1, 3, 9, 9)
    parts = trained.forward_parts(images)
    cut = fc.max_flow(parts["scores"], parts["edges"], where)
    assert torch.equal(with_inference(trained, "max_flow")(images)[:, 0] > 0, cut)
    own = with_inference(trained, {"name": "SoftCut"})(images)
    torch.testing.assert_close(own, parts["logits"])


def test_other_ties_than_the_network_s_are_refused():
    trained = basic(SoftCut())
    with pytest.raises(ValueError, match=r"^head: expected one for the network's 2 edges of a pixel"):
        with_inference(trained, MaxFlowHead(neighborhood=Neighborhood.edges(2, 2)))
    with pytest.raises(ValueError, match=r"^window: expected a side of 3 or more for these edges, got 1"):
        with_inference(trained, FlowHead(LinearAssignmentFlow(), window=1))
    with pytest.raises(ValueError, match=r"^head: expected one for a grid"):
        with_inference(trained, MaxFlowHead(neighborhood=Graph(torch.tensor([[0], [1]]), 2)))


def test_bad_words():
    trained = basic(SoftCut(), 3)
    with pytest.raises(ValueError, match=r"^head: expected one of soft_cut, .*none, got graph_cut"):
        with_inference(trained, "graph_cut")
    with pytest.raises(
        ValueError, match=r"^max_flow: expected scores of one or two channels, got 3; use alpha"
    ):
        with_inference(trained, "max_flow")
    with pytest.raises(ValueError, match=r"^edges: expected None or contrast, got 'features'"):
        with_inference(trained, "soft_cut", edges="features")
    with pytest.raises(ValueError, match=r"^edge_scale: expected a finite number >= 0, got -1"):
        with_inference(trained, {"name": "AlphaExpansion", "edge_scale": -1})
    with pytest.raises(ValueError, match=r"^max_cycles: expected a number >= 0 or None, got -2"):
        ExpansionHead(max_cycles=-2)


def test_a_network_without_a_head_needs_ties_from_the_picture():
    images = torch.rand(1, 3, 8, 8)
    for plain in (basic(None), nn.Conv2d(3, 1, 1)):
        with pytest.raises(ValueError, match=r"^network: expected one with a head.*edges='contrast'"):
            with_inference(plain, "max_flow")
        network = with_inference(plain, "max_flow", edges="contrast")
        parts = network.forward_parts(images)
        assert torch.equal(parts["scores"], plain(images))
        assert torch.equal(parts["edges"], ContrastEdges()(images))
        assert torch.equal(parts["logits"][:, 0] > 0, fc.max_flow(parts["scores"], parts["edges"]))
        assert torch.equal(with_inference(plain, "none")(images), plain(images))
        assert not network.training or plain.training


def test_contrast_can_take_the_place_of_learned_edges():
    trained, images = basic(SoftCut()), torch.rand(1, 3, 8, 8)
    parts = with_inference(trained, "soft_cut", edges="contrast").forward_parts(images)
    assert torch.equal(parts["scores"], trained.forward_parts(images)["scores"])
    torch.testing.assert_close(parts["logits"], fc.soft_cut(parts["scores"], ContrastEdges()(images)))


@pytest.mark.parametrize("edges", ["contrast", "convolution"])
@pytest.mark.parametrize("word", TRAINABLE)
def test_foreign_networks_under_a_head(edges, word):
    trained = with_head(nn.Conv2d(3, 1, 1), made(word), edges=edges).eval()
    images = torch.rand(1, 3, 8, 8)
    before = trained(images)
    for other in INFERENCE:
        assert with_inference(trained, other)(images).shape == before.shape
    assert torch.equal(with_inference(trained, word)(images), before)


def test_three_axes():
    trained, images = Unet3d(head=SoftCut()).eval(), torch.rand(1, 1, 4, 8, 8)
    parts = trained.forward_parts(images)
    cut = fc.max_flow(parts["scores"], parts["edges"])
    assert torch.equal(with_inference(trained, "max_flow")(images)[:, 0] > 0, cut)


def test_a_second_swap_starts_from_what_was_learned():
    trained, images = basic(SoftCut()), torch.rand(1, 3, 8, 8)
    twice = with_inference(with_inference(trained, "linear_assignment_flow"), "soft_cut")
    assert torch.equal(twice(images), trained(images))
