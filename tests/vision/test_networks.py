"""BasicCnn: shapes, ties, gradients, learning; networks from plain data."""

import pytest
import torch
from torch import nn

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.soft_cut import SoftCut
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.flow.nonlinear import AssignmentFlow
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky
from flowcut.vision.data import TextureMosaic
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.heads import build_head, build_solver
from flowcut.vision.losses import CrossEntropyLoss
from flowcut.vision.networks import BasicCnn, TwoHeadUnet, build_network, two_head_unet
from tests.vision.dense import DenseCut


@pytest.mark.parametrize("head", [None, DenseCut(), SoftCut()])
@pytest.mark.parametrize("classes", [1, 3])
def test_shapes_and_parts(head, classes):
    network = BasicCnn(num_classes=classes, width=5, head=head)
    images = torch.rand(2, 3, 8, 11)
    parts = network.forward_parts(images)
    assert parts["scores"].shape == parts["logits"].shape == (2, classes, 8, 11)
    torch.testing.assert_close(network(images), parts["logits"])
    if head is None:
        assert set(parts) == {"scores", "logits"}
        assert parts["logits"] is parts["scores"]
    else:
        assert parts["edges"].shape == (2, 2, 8, 11)
        torch.testing.assert_close(parts["logits"], head(parts["scores"], parts["edges"]))


@pytest.mark.parametrize("flow", [LinearAssignmentFlow(), AssignmentFlow(time=1.0)])
@pytest.mark.parametrize(("classes", "window"), [(1, 3), (3, 5)])
def test_a_flow_gets_weights_of_its_window(flow, classes, window):
    network = BasicCnn(num_classes=classes, width=5, head=FlowHead(flow, window))
    images = torch.rand(2, 3, 8, 11)
    parts = network.forward_parts(images)
    assert set(parts) == {"scores", "weights", "logits"}
    assert parts["weights"].shape == (2, window**2, 8, 11)
    torch.testing.assert_close(parts["weights"].sum(dim=1), torch.ones(2, 8, 11))
    assert parts["scores"].shape == parts["logits"].shape == (2, classes, 8, 11)
    torch.testing.assert_close(network(images), parts["logits"])


def test_a_cut_gets_as_many_edges_as_its_neighborhood_has():
    network = BasicCnn(width=4, head=SoftCut(neighborhood=Neighborhood.edges(2, connectivity=2)))
    assert network.forward_parts(torch.rand(1, 3, 6, 6))["edges"].shape == (1, 4, 6, 6)


def test_three_and_four_convolutions_as_in_figure_13():
    network = BasicCnn(head=DenseCut())
    count = [
        sum(isinstance(m, nn.Conv2d) for m in part) for part in (network.score_layers, network.edge_layers)
    ]
    assert count == [3, 4]
    assert not any(p.requires_grad for p in network.head.parameters())


def test_a_pixel_sees_no_further_than_three_kernels_without_a_head():
    images = torch.rand(1, 3, 21, 21, requires_grad=True)
    BasicCnn(width=6)(images)[0, 0, 10, 10].backward()
    seen = images.grad.abs().sum(dim=(0, 1)) > 0
    assert seen[7:14, 7:14].any()
    seen[7:14, 7:14] = False
    assert not seen.any()
    images.grad = None
    torch.manual_seed(0)
    BasicCnn(width=6, head=DenseCut()).double()(images.double())[0, 0, 10, 10].backward()
    assert (images.grad.abs().sum(dim=(0, 1)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_edges_are_bounded_whatever_the_weights(dtype):
    network = BasicCnn(width=4, head=DenseCut())
    with torch.no_grad():
        for parameter in network.edge_layers[-1].parameters():
            parameter.mul_(1000)
    network.head = nn.Identity()
    network.head.forward = lambda scores, edges: scores
    edges = network.to(dtype).forward_parts(torch.rand(1, 3, 8, 8, dtype=dtype))["edges"]
    assert edges.isfinite().all()
    assert edges.max() <= torch.exp(torch.tensor(10.0)) * 1.05
    assert edges.min() > 0


def test_small_logarithms_pass_unchanged():
    network = BasicCnn(width=4, head=DenseCut()).double()
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        network.edge_layers[-1].weight.mul_(1e-3)
        network.edge_layers[-1].bias.zero_()
        raw, edges = network.edge_layers(images), network.forward_parts(images)["edges"]
    torch.testing.assert_close(edges, raw.exp(), rtol=1e-6, atol=0)


def test_gradient_by_finite_differences_through_the_dense_head():
    torch.manual_seed(0)
    network = BasicCnn(width=3, head=DenseCut()).double()
    images = torch.rand(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, images)


@pytest.mark.parametrize("head", [SoftCut(), FlowHead(LinearAssignmentFlow())])
def test_every_parameter_gets_a_gradient(head):
    torch.manual_seed(0)
    network = BasicCnn(width=6, head=head)
    loss = CrossEntropyLoss()(network(torch.rand(2, 3, 9, 9)), torch.randint(2, (2, 9, 9)))
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("solver", [None, CG(rtol=1e-6), Cholesky()])
def test_the_real_head_agrees_with_the_dense_one(solver):
    torch.manual_seed(0)
    dense = BasicCnn(width=6, num_classes=2, head=DenseCut())
    real = BasicCnn(width=6, num_classes=2, head=SoftCut(solver=solver))
    real.load_state_dict(dense.state_dict())
    images = torch.rand(2, 3, 10, 12)
    torch.testing.assert_close(real(images), dense(images), rtol=1e-3, atol=1e-4)
    gradients = []
    for network in (dense, real):
        network(images).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.linalg.norm(gradients[1] - gradients[0]) < 1e-3 * torch.linalg.norm(gradients[0])


@pytest.mark.parametrize("head", [None, SoftCut(), FlowHead(LinearAssignmentFlow())])
def test_it_learns_a_picture_by_heart(head):
    torch.manual_seed(0)
    item = TextureMosaic(length=1, size=16, regions=2)[0]
    network, loss = BasicCnn(width=8, head=head), CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        values.append(loss(network(item["image"][None]), item["target"][None]))
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8)])
def test_bad_images(images):
    with pytest.raises(ValueError, match=r"^images: expected \(N, 3, H, W\), got"):
        BasicCnn(width=4)(images)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"num_classes": 0}, "num_classes"),
        ({"width": 0}, "width"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"log_edge_limit": 100.0}, "log_edge_limit"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        BasicCnn(**arguments)


def test_networks_from_plain_data():
    config = {
        "network": "BasicCnn",
        "arguments": {"num_classes": 3, "width": 4},
        "head": {"name": "SoftCut", "solver": {"name": "CG", "rtol": 1e-3}, "on_failure": "raise"},
    }
    network = build_network(config)
    assert isinstance(network.head, SoftCut)
    assert network(torch.rand(1, 3, 6, 6)).shape == (1, 3, 6, 6)
    assert build_network({"network": "BasicCnn"}).head is None
    assert isinstance(build_network({"network": "BasicCnn", "head": {"name": "SoftCut"}}).head, SoftCut)


@pytest.mark.parametrize("name", ["LinearAssignmentFlow", "AssignmentFlow"])
def test_flows_from_plain_data(name):
    head = {"name": name, "window": 5, "rho": 0.5, "time": 2, "on_failure": "raise"}
    network = build_network({"network": "BasicCnn", "arguments": {"width": 4}, "head": head})
    assert (network.head.flow.rho, network.head.flow.time, network.head.flow.on_failure) == (0.5, 2, "raise")
    assert type(network.head.flow).__name__ == name
    assert network.edge_layers[-1].out_channels == 25


FLOW = {"name": "LinearAssignmentFlow"}


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ({**FLOW, "window": 4}, "window"),
        ({**FLOW, "window": "wide"}, "window"),
        ({**FLOW, "rho": 0}, "rho"),
        ({**FLOW, "rho": [1]}, "rho"),
        ({**FLOW, "time": float("nan")}, "time"),
        ({**FLOW, "krylov_dim": 0}, "krylov_dim"),
        ({**FLOW, "krylov_dim": 2.5}, "krylov_dim"),
        ({**FLOW, "solver": {"name": "CG"}}, "head"),
        ({**FLOW, "on_failure": "hide"}, "on_failure"),
        ({"name": "AssignmentFlow", "krylov_dim": 5}, "head"),
    ],
)
def test_bad_flows_are_refused(head, name):
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        build_network({"network": "BasicCnn", "head": head})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "config"),
        ({"network": "BasicCnn", "extra": 1}, "config"),
        ({"network": "os.system"}, "network"),
        ({"network": ["BasicCnn"]}, "network"),
        ({"network": "BasicCnn", "arguments": {"depth": 3}}, "arguments"),
        ({"network": "BasicCnn", "arguments": {"head": 3}}, "arguments"),
        ({"network": "BasicCnn", "arguments": 3}, "arguments"),
        ({"network": "BasicCnn", "arguments": {"width": "wide"}}, "arguments"),
        ({"network": "BasicCnn", "arguments": {"width": 0}}, "width"),
        ({"network": "BasicCnn", "size": [0, 4]}, "size"),
        ({"network": "BasicCnn", "size": {"height": 4}}, "size"),
        ({"network": "BasicCnn", "head": "SoftCut"}, "head"),
        ({"network": "BasicCnn", "head": {"name": "HardCut"}}, "head"),
        ({"network": "BasicCnn", "head": {"name": "SoftCut", "speed": 1}}, "head"),
        ({"network": "BasicCnn", "head": {"name": "SoftCut", "on_failure": "hide"}}, "on_failure"),
        ({"network": "BasicCnn", "head": {"name": "SoftCut", "solver": "CG"}}, "solver"),
        ({"network": "BasicCnn", "head": {"name": "SoftCut", "solver": {"name": "LU"}}}, "solver"),
        (
            {"network": "BasicCnn", "head": {"name": "SoftCut", "solver": {"name": "CG", "speed": 1}}},
            "solver",
        ),
    ],
)
def test_what_is_not_known_is_refused(config, name):
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        build_network(config)
    assert "\n" not in str(caught.value)


def test_solvers_and_heads_by_name():
    assert build_solver({"name": "CG", "rtol": 1e-3}) == CG(rtol=1e-3)
    assert isinstance(build_head({"name": "SoftCut"}), SoftCut)


def test_pictures_are_brought_to_what_the_weights_were_learned_on(monkeypatch):
    """Weights are downloaded, so only what becomes of their statistics is tried here."""
    known = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 2.0]}
    monkeypatch.setattr(two_head_unet.smp.encoders, "get_preprocessing_params", lambda *names: known)
    mean, deviation = two_head_unet._statistics("resnet18", "imagenet", in_channels=4)
    assert mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.0])
    assert deviation.flatten().tolist() == [0.5, 0.25, 2.0, 1.0]
    network = TwoHeadUnet(decoder_channels=(4, 4, 4, 4, 4)).double().eval()
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    plain = network((images - 0.3) / 0.5)
    network.load_state_dict(
        {**network.state_dict(), "mean": network.mean + 0.3, "deviation": network.deviation * 0.5}
    )
    torch.testing.assert_close(network(images), plain)


@pytest.mark.parametrize("options", [{}, {"method": "alternating", "refine": "isotonic"}])
def test_total_variation_is_a_head_that_a_configuration_can_name(options):
    config = {"network": "BasicCnn", "arguments": {"width": 2}, "head": {"name": "TotalVariation", **options}}
    network = build_network(config).double()
    images = torch.rand(2, 3, 9, 8, dtype=torch.float64)
    parts = network.forward_parts(images)
    expected = fc.total_variation(parts["scores"], parts["edges"], **options)
    torch.testing.assert_close(parts["logits"], expected)
    network(images).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ValueError, match=r"^method: expected one of .* got 'fast'"):
        build_network({**config, "head": {"name": "TotalVariation", "method": "fast"}})
