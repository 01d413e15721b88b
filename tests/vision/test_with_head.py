"""Heads on foreign networks: where their ties come from, what stays frozen, what is refused."""

import copy
import math

import pytest
import torch
from torch import nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.linear.cg import CG
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.losses import CrossEntropyLoss
from flowcut.vision.tie_sources import FeatureTies
from flowcut.vision.ties import WindowWeights, ties_of
from flowcut.vision.with_head import with_head
from tests.vision.dense import DenseCut


class Foreign(nn.Module):
    """A network that knows nothing of heads, with batch norm and small features."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.up = nn.ConvTranspose2d(6, classes, 2, stride=2)

    def forward(self, images):
        return self.up(self.down(images))


def edge_by_edge(image, neighborhood, strength, beta, floor):
    """The formula of contrast edges, pixel by pixel."""
    spatial = image.shape[1:]
    edges = torch.zeros(len(neighborhood), *spatial, dtype=image.dtype)
    for k, offset in enumerate(neighborhood.offsets):
        length = math.sqrt(sum((o * s) ** 2 for o, s in zip(offset, neighborhood.spacing, strict=True)))
        for i in torch.cartesian_prod(*(torch.arange(n) for n in spatial)):
            i = tuple(i.tolist())
            j = tuple(a + o for a, o in zip(i, offset, strict=True))
            if all(0 <= a < n for a, n in zip(j, spatial, strict=True)):
                square = (image[(..., *i)] - image[(..., *j)]).square().sum()
                edges[(k, *i)] = strength * torch.exp(-beta * square / length**2) + floor
    return edges


@pytest.mark.parametrize(
    "neighborhood",
    [
        Neighborhood.edges(2),
        Neighborhood.edges(2, 2, spacing=(1.0, 2.5)),
        Neighborhood.edges(3, 3, spacing=(3.0, 1.0, 0.5)),
        Neighborhood(((-5, 1), (0, 2))),
    ],
)
def test_contrast_edges_are_the_formula(neighborhood):
    shape = (3, 4, 5)[: neighborhood.ndim]
    images = torch.rand(2, 3, *shape, dtype=torch.float64)
    source = ContrastEdges(neighborhood, 2.0, 3.0, 0.1).double()
    expected = torch.stack([edge_by_edge(image, neighborhood, 2.0, 3.0, 0.1) for image in images])
    torch.testing.assert_close(source(images), expected, rtol=1e-6, atol=0)


def test_relative_contrast_does_not_know_the_unit_of_a_picture():
    images = torch.rand(2, 1, 6, 7, dtype=torch.float64)
    source = ContrastEdges(beta=0.5, relative=True).double()
    torch.testing.assert_close(source(images), source(1000 * images - 3))
    # The mean exponent over the ties is beta.
    edges, inside = source(images), source.neighborhood.inside((6, 7))
    exponents = -((edges - 0.01) / 10).log()
    torch.testing.assert_close(
        exponents[:, inside].mean(dim=1), torch.full((2,), 0.5).double(), rtol=1e-4, atol=0
    )
    flat = source(torch.ones(1, 1, 6, 7, dtype=torch.float64))
    torch.testing.assert_close(flat[:, inside], torch.full_like(flat[:, inside], 10.01))


@pytest.mark.parametrize("relative", [False, True])
def test_derivatives_of_contrast_edges(relative):
    source = ContrastEdges(Neighborhood.edges(2, 2), 2.0, 3.0, 0.1, relative).double()
    images = torch.rand(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def call(images, *scalars):
        names = ("log_strength", "log_beta", "log_floor")
        return torch.func.functional_call(source, dict(zip(names, scalars, strict=True)), images)

    scalars = [p.detach().clone().requires_grad_() for p in source.parameters()]
    assert torch.autograd.gradcheck(call, (images, *scalars))
    assert torch.autograd.gradgradcheck(call, (images, *scalars))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_pictures_have_edges_of_single_precision(dtype):
    images = torch.rand(1, 3, 5, 5).to(dtype)
    torch.testing.assert_close(ContrastEdges()(images), ContrastEdges()(images.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0.0}, "strength: expected a finite number > 0, got 0.0"),
        ({"beta": math.nan}, "beta: expected a finite number > 0, got nan"),
        ({"floor": -1.0}, "floor: expected a finite number > 0, got -1.0"),
    ],
)
def test_bad_scalars(arguments, message):
    with pytest.raises(ValueError) as error:
        ContrastEdges(**arguments)
    assert str(error.value) == message


def test_bad_pictures_for_contrast():
    with pytest.raises(TypeError, match=r"^images: expected a floating-point tensor"):
        ContrastEdges()(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"^images: expected .* 2 spatial axes as in neighborhood"):
        ContrastEdges()(torch.zeros(1, 3, 4, 4, 4))


SOURCES = {
    "convolution": {},
    "contrast": {},
    "features": {"features": "down", "feature_channels": 6},
}


def headed(edges, head=None, **options):
    return with_head(Foreign(), head or SoftCut(), edges, **SOURCES[edges], **options)


@pytest.mark.parametrize("edges", SOURCES)
@pytest.mark.parametrize("classes", [1, 3])
def test_shapes_and_parts(edges, classes):
    network = with_head(Foreign(classes), SoftCut(), edges, **SOURCES[edges]).eval()
    images = torch.rand(2, 3, 8, 10)
    parts = network.forward_parts(images)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        "scores": (2, classes, 8, 10),
        "edges": (2, 2, 8, 10),
        "logits": (2, classes, 8, 10),
    }
    torch.testing.assert_close(parts["scores"], network.network(images))
    torch.testing.assert_close(parts["logits"], soft_cut(parts["scores"], parts["edges"]))
    torch.testing.assert_close(network(images), parts["logits"])


def test_contrast_edges_are_taken_as_they_are():
    network = headed("contrast").eval()
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(network.forward_parts(images)["edges"], ContrastEdges()(images))
    dense = with_head(network.network, DenseCut(), "contrast").eval()
    torch.testing.assert_close(network(images), dense(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("edges", SOURCES)
def test_a_flow_gets_weights_on_the_simplex(edges):
    network = headed(edges, FlowHead(LinearAssignmentFlow(), 3))
    parts = network.forward_parts(torch.rand(2, 3, 8, 8))
    torch.testing.assert_close(parts["weights"].sum(dim=1), torch.ones(2, 8, 8))
    assert parts["weights"].shape[1] == 9
    if edges == "contrast":  # the pixel itself has no contrast, so no neighbour has more weight
        assert (parts["weights"] <= parts["weights"][:, 4:5]).all()


def test_strengths_become_weights_by_their_sum():
    strengths = torch.rand(1, 9, 4, 5, dtype=torch.float64)
    weights = WindowWeights(3).from_strengths(strengths)
    inner = strengths[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(weights[:, :, 1:-1, 1:-1], inner / inner.sum(dim=1, keepdim=True))
    assert (weights[0, :3, 0] == 0).all()


def test_diagonals_and_three_dimensions():
    diagonal = headed("convolution", SoftCut(neighborhood=Neighborhood.edges(2, 2)))
    assert diagonal.forward_parts(torch.rand(2, 3, 8, 8))["edges"].shape == (2, 4, 8, 8)
    body = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv3d(5, 3, 1))
    volumes = torch.rand(1, 1, 4, 5, 6)
    # Once the number of axes is an argument, once the head knows it.
    for head, options in ((SoftCut(), {"ndim": 3}), (SoftCut(neighborhood=Neighborhood.edges(3)), {})):
        for edges in ("convolution", "contrast", "features"):
            network = with_head(body, head, edges, in_channels=1, features="0", feature_channels=5, **options)
            parts = network.forward_parts(volumes)
            assert parts["edges"].shape == (1, 3, 4, 5, 6)
            assert parts["logits"].shape == (1, 3, 4, 5, 6)
    assert ties_of(SoftCut(), ndim=3).channels == 3


def test_features_are_convolved_and_enlarged():
    body = Foreign().eval()
    named = FeatureTies(body, "down", 6, 2)
    called = FeatureTies(body, body.down, 6, 2)
    called.layer.load_state_dict(named.layer.state_dict())
    images = torch.rand(2, 3, 8, 12)
    enlarged = nn.functional.interpolate(body.down(images), (8, 12), mode="bilinear")
    body(images)
    raw = named(images)
    assert named.tap.value is None  # nothing is kept from one batch to the next
    torch.testing.assert_close(raw, named.layer(enlarged))
    torch.testing.assert_close(called(images), raw)


def test_a_copy_listens_to_its_own_network():
    network = headed("features").eval()
    twin = copy.deepcopy(network)
    images = torch.rand(1, 3, 8, 8)
    before = network(images)
    with torch.no_grad():
        for parameter in network.network.parameters():
            parameter.zero_()
    torch.testing.assert_close(twin(images), before)
    assert not torch.allclose(network(images), before)


@pytest.mark.parametrize("edges", SOURCES)
def test_a_frozen_network_stays_bit_for_bit_while_the_rest_learns(edges):
    torch.manual_seed(0)
    network = headed(edges, frozen=True).train()
    kept = {name: value.clone() for name, value in network.network.state_dict().items()}
    moved = {name: value.clone() for name, value in network.source.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    loss = CrossEntropyLoss()(network(torch.rand(2, 3, 8, 8)), torch.randint(2, (2, 8, 8)))
    loss.backward()
    optimizer.step()
    assert all(torch.equal(kept[name], value) for name, value in network.network.state_dict().items())
    assert all(p.grad is None for p in network.network.parameters())
    assert not any(torch.equal(moved[name], value) for name, value in network.source.state_dict().items())
    assert network.source.training
    assert not network.network.down[1].training


def test_a_network_that_is_not_frozen_learns_too():
    network = headed("convolution")
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A shift common to a batch is taken out by the batch norm that follows it.
        assert "down.0.bias" in name or (parameter.grad != 0).any(), name
    assert network.network.down[1].num_batches_tracked == 1


def noisy_halves():
    """Two flat halves, once under strong noise, in small, and once under little."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(4, 16, 16, dtype=torch.int64)
    target[:, :, 8:] = 1
    noise = 2.4 * torch.randn(4, 16, 16, generator=generator)
    guide = target + 0.05 * torch.randn(4, 16, 16, generator=generator)
    return torch.stack([(6.0 * target - 3 + noise) / 100, guide], dim=1), target


class FirstChannel(nn.Module):
    def forward(self, images):
        return 100 * images[:, :1]


@pytest.mark.parametrize("edges", ["convolution", "contrast"])
def test_ties_learn_on_a_network_without_parameters(edges):
    torch.manual_seed(0)
    images, target = noisy_halves()
    network = with_head(FirstChannel(), SoftCut(CG(rtol=1e-6)), edges, in_channels=2)
    raw = float(CrossEntropyLoss()(FirstChannel()(images), target))
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=0.05), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = CrossEntropyLoss()(network(images), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < 0.5 * raw


def test_gradient_by_finite_differences():
    torch.manual_seed(0)
    network = with_head(nn.Conv2d(3, 1, 1), DenseCut(), "contrast").double()
    images = torch.rand(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, images)


@pytest.mark.parametrize("edges", SOURCES)
def test_state_goes_and_comes(edges):
    network, other = headed(edges).eval(), headed(edges).eval()
    other.load_state_dict(network.state_dict())
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(network(images), other(images))


@pytest.mark.parametrize("edges", SOURCES)
def test_compiles_in_one_graph(edges):
    network = headed(edges, SoftCut(CG(rtol=1e-6))).eval()
    images = torch.rand(1, 3, 8, 8)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), network(images))


@pytest.mark.parametrize("edges", SOURCES)
def test_a_head_is_spared_from_mixed_precision(edges):
    seen = []

    class Watching(SoftCut):
        def forward(self, scores, edges, confidence=1.0):
            seen.extend((scores.dtype, edges.dtype))
            return super().forward(scores, edges, confidence)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = headed(edges, Watching()).eval().forward_parts(torch.rand(1, 3, 8, 8))
    assert seen == [torch.float32, torch.float32]
    assert all(part.dtype == torch.float32 for part in parts.values())


class Answers(nn.Module):
    """A network that returns what it is told to."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ({"out": torch.zeros(1, 1, 8, 8)}, "expected logits (N, C, 8, 8), got dict"),
        (torch.zeros(1, 1, 4, 4), "expected logits (N, C, 8, 8) of the picture's size, got (1, 1, 4, 4)"),
        (torch.zeros(1, 8, 8), "expected logits (N, C, 8, 8) of the picture's size, got (1, 8, 8)"),
        (torch.zeros(2, 1, 8, 8), "expected logits (N, C, 8, 8) of the picture's size, got (2, 1, 8, 8)"),
    ],
)
def test_networks_that_give_no_logits_are_named(answer, got):
    with pytest.raises(ValueError) as error:
        with_head(Answers(answer), SoftCut(), "contrast")(torch.rand(1, 3, 8, 8))
    assert str(error.value) == f"network: {got}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": "colour"}, "edges: expected convolution, features, contrast or a module, got 'colour'"),
        ({"edges": "features"}, "features: expected features= and feature_channels= for edges='features'"),
        (
            {"edges": "features", "features": "middle", "feature_channels": 6},
            "features: expected a submodule of the network, got 'middle'",
        ),
        (
            {"edges": "features", "features": "down", "feature_channels": 0},
            "feature_channels: expected 1 or more, got 0",
        ),
        ({"in_channels": 0}, "in_channels: expected 1 or more, got 0"),
        ({"ndim": 4}, "ndim: expected 1 to 3 spatial axes, got 4"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError) as error:
        with_head(Foreign(), SoftCut(), **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"in_channels": 1},
            "images: expected (N, 1, *spatial) for the edges' convolution, got (1, 3, 8, 8)",
        ),
        (
            {"edges": "features", "features": "down", "feature_channels": 5},
            "features: expected (N, 5, *spatial) with 2 spatial axes, got (1, 6, 4, 4)",
        ),
        (
            {"edges": "features", "features": lambda images: None, "feature_channels": 5},
            "features: expected (N, 5, *spatial) with 2 spatial axes, got NoneType",
        ),
        ({"edges": nn.Conv2d(3, 3, 1)}, "edges: expected shape (1, 2, 8, 8) from their source"),
    ],
)
def test_sources_that_do_not_fit(options, message):
    with pytest.raises(ValueError) as error:
        with_head(Foreign(), SoftCut(), **options)(torch.rand(1, 3, 8, 8))
    assert str(error.value).startswith(message)
