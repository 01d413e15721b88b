"""TwoHeadUnet and Unet3d: sizes, edges that do not mind transposing, parameters, mixed precision."""

import sys

import pytest
import torch
from torch import nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.vision.checkpoints import load_checkpoint, save_checkpoint
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.losses import CrossEntropyLoss
from flowcut.vision.networks import TwoHeadUnet, Unet3d, build_network
from flowcut.vision.networks import build as build_module

WIDTHS = (16, 12, 8, 8, 8)
CUT = {"name": "SoftCut"}


def unet(head=None, **options):
    torch.manual_seed(0)
    return TwoHeadUnet("resnet18", head=head, **{"decoder_channels": WIDTHS, **options})


def count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


@pytest.mark.parametrize(("encoder", "millions"), [("resnet18", 11), ("resnet34", 21)])
def test_as_many_parameters_as_the_thesis_says(encoder, millions):
    network = TwoHeadUnet(encoder, head=SoftCut())
    assert round(count(network.encoder) / 1e6) == millions
    # Both decoders: of one architecture, about three million each.
    decoders = [
        count(d, h)
        for d, h in (
            (network.score_decoder, network.score_head),
            (network.edge_decoder, network.edge_head),
        )
    ]
    assert decoders[0] == decoders[1]
    assert round(decoders[0] / 1e6) == 3


@pytest.mark.parametrize("size", [(32, 64), (37, 50), (5, 70)])
@pytest.mark.parametrize("head", [None, SoftCut()])
def test_any_size_of_picture(size, head):
    network = unet(head).eval()
    with torch.no_grad():
        parts = network.forward_parts(torch.rand(1, 3, *size))
    assert all(part.shape[2:] == size for part in parts.values())
    assert set(parts) == ({"scores", "logits"} if head is None else {"scores", "edges", "logits"})


def test_a_padded_picture_is_one_continued_by_its_border():
    network, image = unet(SoftCut()).eval(), torch.rand(1, 3, 40, 50)
    continued = nn.functional.pad(image, (0, 14, 0, 24), mode="replicate")
    with torch.no_grad():
        cut, whole = network.forward_parts(image), network.forward_parts(continued)
    for name in ("scores", "edges"):
        torch.testing.assert_close(cut[name], whole[name][..., :40, :50])


def test_transposed_features_exchange_the_two_edges():
    network = unet(SoftCut()).double().eval()
    features = [torch.rand(1, c, *s, dtype=torch.float64) for c, s in pyramid((64, 96))]
    turned = [feature.transpose(2, 3) for feature in features]
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)

    def raw(features, images):
        network.encoder.forward = lambda _: features
        return network.raw_parts(images)[1]

    edges, exchanged = raw(features, images), raw(turned, images.transpose(2, 3))
    torch.testing.assert_close(exchanged, edges.flip(1).transpose(2, 3))
    assert not torch.allclose(edges[:, 0], edges[:, 1])


def pyramid(size):
    """Channels and sizes of ResNet-18's features."""
    return [(c, [n // 2**i for n in size]) for i, c in enumerate((3, 64, 64, 128, 256, 512))]


def test_symmetric_kernels_make_the_whole_network_indifferent_to_transposing():
    network = unet(SoftCut()).double().eval()
    with torch.no_grad():
        for module in network.encoder.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.transpose(2, 3)) / 2)
        image = torch.rand(1, 3, 64, 32, dtype=torch.float64)
        edges, exchanged = (network.raw_parts(i)[1] for i in (image, image.transpose(2, 3)))
    torch.testing.assert_close(exchanged, edges.flip(1).transpose(2, 3))


def test_edges_are_the_softplus_of_what_comes_out():
    network = unet(SoftCut()).eval()
    with torch.no_grad():
        images = 20 * torch.rand(1, 3, 32, 32)
        edges, raw = network.forward_parts(images)["edges"], network.raw_parts(images)[1]
    torch.testing.assert_close(edges, raw.exp().add(1).log(), rtol=1e-5, atol=1e-6)
    assert (edges >= 0).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_several_classes_with_background_and_a_click(channels):
    network = unet(SoftCut(), num_classes=4, in_channels=channels)
    images, target = torch.rand(2, channels, 32, 64), torch.randint(4, (2, 32, 64))
    loss = CrossEntropyLoss("multiclass")(network(images), target)
    loss.backward()
    assert network(images).shape == (2, 4, 32, 64)
    assert network.encoder.conv1.weight.shape[1] == channels
    assert (network.encoder.conv1.weight.grad[:, -1] != 0).any()
    for part in (network.encoder, network.score_decoder, network.edge_decoder, network.edge_head):
        assert all(p.grad is not None for p in part.parameters())


def test_a_flow_and_diagonals_get_their_channels_in_one_pass():
    images = torch.rand(1, 3, 32, 32)
    flow = unet(FlowHead(LinearAssignmentFlow(), 3)).eval()
    parts = flow.forward_parts(images)
    assert parts["weights"].shape == (1, 9, 32, 32)
    torch.testing.assert_close(parts["weights"].sum(dim=1), torch.ones(1, 32, 32))
    assert not flow.shares_axes
    diagonal = unet(SoftCut(neighborhood=Neighborhood.edges(2, 2))).eval()
    assert diagonal.forward_parts(images)["edges"].shape == (1, 4, 32, 32)


class Watching(SoftCut):
    """Notes the types it is given."""

    def forward(self, scores, edges, confidence=1.0):
        self.seen = (scores.dtype, edges.dtype)
        return super().forward(scores, edges, confidence)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (unet, (1, 3, 32, 32)),
        (lambda head: Unet3d(num_classes=3, head=head, features=(4, 4, 4, 4, 8, 4)), (1, 1, 16, 16, 16)),
    ],
)
def test_a_head_is_spared_from_mixed_precision(make, shape):
    network = make(Watching())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = torch.rand(2, *shape[1:])
        assert network.raw_parts(images)[0].dtype == torch.bfloat16
        logits = network(images)
    assert network.head.seen == (torch.float32, torch.float32)
    logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet19"}, "encoder: expected one of segmentation-models-pytorch, got 'resnet19'"),
        ({"decoder_channels": (8, 8)}, "decoder_channels: expected 5 numbers >= 1, got (8, 8)"),
        ({"num_classes": 0}, "num_classes: expected 1 or more, got 0"),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(ValueError) as error:
        build_network({"network": "TwoHeadUnet", "arguments": options})
    assert str(error.value) == message


UNETS = [
    {"network": "TwoHeadUnet", "arguments": {"encoder": "resnet18", "decoder_channels": list(WIDTHS)}},
    {"network": "Unet3d", "arguments": {"num_classes": 3, "features": [4, 4, 4, 4, 8, 4]}},
]


@pytest.mark.parametrize("config", UNETS, ids=lambda config: config["network"])
@pytest.mark.parametrize("head", [None, CUT])
def test_the_same_network_comes_back_from_a_checkpoint(config, head, tmp_path):
    config = {**config, "head": head}
    network = build_network(config)
    images = torch.rand(2, 3, 32, 32) if config["network"] == "TwoHeadUnet" else torch.rand(1, 1, 16, 16, 16)
    network(images)  # so that batch norms have statistics of their own
    save_checkpoint(tmp_path / "a.pt", network, config)
    loaded, found = load_checkpoint(tmp_path / "a.pt")
    assert found == config
    with torch.no_grad():
        assert torch.equal(loaded(images), network.eval()(images))


def test_no_configuration_can_download(monkeypatch):
    config = {"network": "TwoHeadUnet", "arguments": {"encoder_weights": "imagenet"}}
    with pytest.raises(ValueError, match=r"^encoder_weights: expected .* never in a configuration"):
        build_network(config)
    assert isinstance(build_network({**config, "arguments": {"encoder_weights": None}}), TwoHeadUnet)
    asked = []
    monkeypatch.setitem(build_module.NETWORKS, "TwoHeadUnet", lambda **given: asked.append(given))
    build_network({"network": "TwoHeadUnet"}, encoder_weights="imagenet")
    assert asked == [{"head": None, "encoder_weights": "imagenet"}]
    with pytest.raises(ValueError, match=r"^arguments: BasicCnn does not take"):
        build_network({"network": "BasicCnn"}, encoder_weights="imagenet")


def unet3d(head=None, **options):
    torch.manual_seed(0)
    return Unet3d(**{"num_classes": 3, "head": head, "features": (4, 4, 4, 4, 8, 4), **options})


@pytest.mark.parametrize("shape", [(16, 16, 16), (20, 33, 17), (5, 8, 40)])
def test_volumes_of_any_size(shape):
    network = unet3d(SoftCut()).eval()
    with torch.no_grad():
        parts = network.forward_parts(torch.rand(2, 1, *shape))
    assert set(parts) == {"scores", "edges", "logits"}
    assert all(part.shape == (2, 3, *shape) for part in parts.values())
    six = soft_cut(parts["scores"], parts["edges"], neighborhood=Neighborhood.edges(3))
    torch.testing.assert_close(parts["logits"], six)
    assert (parts["edges"] >= 0).all()


def test_without_a_head_a_volume_has_scores_alone():
    network = unet3d()
    parts = network.forward_parts(torch.rand(1, 1, 16, 16, 16))
    assert set(parts) == {"scores", "logits"}
    # The head costs the last layer three more channels: weights and a bias each.
    assert count(unet3d(SoftCut())) - count(network) == 3 * (4 + 1)


def test_volumes_of_a_batch_do_not_know_each_other():
    network, volumes = unet3d(SoftCut()), torch.rand(2, 1, 16, 16, 16)
    network.train()
    torch.testing.assert_close(network(volumes)[1:], network(volumes[1:]), rtol=1e-3, atol=1e-4)


def test_it_learns_a_volume_by_heart():
    network = unet3d(SoftCut(), features=(8, 8, 8, 8, 8, 8))
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[..., 4:12, 3:9, 5:14] = 1
    target = (volume[:, 0] > 0).long() * 2
    loss, values = CrossEntropyLoss("multiclass"), []
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        values.append(loss(network(volume), target))
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.6 * values[0]
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("depth", [16, 32, 48])
def test_gradients_in_bfloat16_are_those_of_single_precision(depth):
    # Plain Conv3d gives NaN here, in one out of ten trials, where a level has two slices.
    generator, network = torch.Generator().manual_seed(0), unet3d(features=(8, 8, 16, 32, 32, 8))
    volume = torch.rand(1, 1, depth, 16, 16, generator=generator)
    for _ in range(5):
        gradients = []
        for half in (False, True):
            network.zero_grad()
            unwritten = torch.full((300_000,), torch.nan)
            del unwritten  # what reads memory before writing it finds NaN
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                scores = network(volume)
            scores.float().square().sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        # Bfloat16 has 8 bits; through 20 layers they become some percent.
        assert (gradients[1] - gradients[0]).norm() < 0.2 * gradients[0].norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": (8, 8)}, "features: expected 6 multiples of groups=4, got (8, 8)"),
        ({"features": (6,) * 6}, "features: expected 6 multiples of groups=4, got (6, 6, 6, 6, 6, 6)"),
        ({"features": (4,) * 6}, "features: expected 8 or more at the coarsest level, got 4"),
        ({"groups": 0}, "groups: expected 1 or more, got 0"),
        ({"in_channels": 0}, "in_channels: expected 1 or more, got 0"),
    ],
)
def test_bad_arguments_of_the_volume_network(options, message):
    with pytest.raises(ValueError) as error:
        Unet3d(**options)
    assert str(error.value) == message


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16, 16)])
def test_bad_volumes(images):
    with pytest.raises(ValueError, match=r"^images: expected \(N, 1, D, H, W\), got"):
        unet3d()(images)


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets.basic_unet", None)
    with pytest.raises(ImportError, match=r"^Unet3d needs monai.*: pip install 'flowcut\[volumes\]'"):
        unet3d()
