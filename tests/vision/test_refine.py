"""Cleaning up a network's output, and the four numbers of it."""

import math

import pytest
import torch

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.hard_heads import MaxFlowHead
from flowcut.vision.labels import predict_labels
from flowcut.vision.refine import REFINING_HEADS, PottsVariation, Refiner, refine
from flowcut.vision.refine_fit import fit_refiner

HARD = ("max_flow", "alpha_expansion")
SOFT = tuple(name for name in REFINING_HEADS if name not in HARD)
NOTHING = {"strength": 1e-12, "floor": 1e-12}


def scene(channels=1, seed=0, shape=(9, 11), items=2):
    """A picture of two halves, and noisy logits that speak for them."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.zeros(items, *shape, dtype=torch.int64)
    target[..., shape[-1] // 2 :] = max(channels, 2) - 1
    image = target[:, None] * 0.5 + 0.02 * torch.randn(items, 3, *shape, generator=generator)
    logits = torch.randn(items, channels, *shape, generator=generator)
    if channels == 1:
        logits = logits + 2.0 * target[:, None] - 1
    else:
        logits = logits + torch.nn.functional.one_hot(target, channels).movedim(-1, 1)
    return logits.double(), image.double(), target


# One cut tells no more than two labels apart.
CUTS = [(head, c) for head in ("soft_cut", "total_variation", "alpha_expansion") for c in (1, 2, 3)]


@pytest.mark.parametrize(("head", "channels"), [*CUTS, ("max_flow", 1), ("max_flow", 2)])
def test_without_edges_nothing_changes(head, channels):
    logits, image, _ = scene(channels)
    refined = refine(logits, image, head, **NOTHING)
    if head in HARD:
        assert torch.equal(predict_labels(refined), predict_labels(logits))
    else:
        torch.testing.assert_close(refined.diff(dim=1), logits.diff(dim=1), atol=1e-9, rtol=0)
        if channels == 1:
            torch.testing.assert_close(refined, logits, atol=1e-9, rtol=0)


@pytest.mark.parametrize("head", ["soft_cut", "total_variation"])
def test_strong_edges_in_a_picture_of_one_colour_give_the_mean(head):
    logits, image, _ = scene()
    refined = refine(logits, torch.full_like(image, 0.3), head, strength=1e6)
    mean = logits.mean(dim=(2, 3), keepdim=True).expand_as(logits)
    torch.testing.assert_close(refined, mean, atol=1e-4, rtol=0)
    hard = refine(logits, torch.full_like(image, 0.3), "max_flow", strength=1e6)
    assert torch.equal(hard > 0, mean > 0)


def test_a_refiner_is_edges_and_a_head():
    logits, image, _ = scene(3)
    where = Neighborhood.edges(2, connectivity=2)
    edges = ContrastEdges(where, 2.0, 0.7, 0.1, relative=True)(image)
    refined = refine(logits, image, strength=2.0, beta=0.7, floor=0.1, temperature=2.0)
    torch.testing.assert_close(refined, fc.soft_cut(logits / 2, edges, neighborhood=where))
    labels = fc.alpha_expansion(-logits / 2, edges, neighborhood=where)
    refined = refine(logits, image, "alpha_expansion", strength=2.0, beta=0.7, floor=0.1, temperature=2.0)
    assert torch.equal(predict_labels(refined), labels)


def test_the_unit_of_the_picture_does_not_matter():
    logits, image, _ = scene()
    torch.testing.assert_close(refine(logits, image), refine(logits, 65535 * image + 12.0))
    assert not torch.allclose(
        refine(logits, image, relative=False), refine(logits, 65535 * image, relative=False)
    )


@pytest.mark.parametrize("head", ["soft_cut", "total_variation"])
def test_two_channels_are_one(head):
    logits, image, _ = scene()
    one = refine(logits, image, head)
    two = refine(torch.cat([3 - logits / 2, 3 + logits / 2], dim=1), image, head)
    torch.testing.assert_close(two[:, 1:] - two[:, :1], one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("head", SOFT)
def test_a_number_added_to_all_labels_of_a_pixel_says_nothing(head):
    logits, image, _ = scene(3)
    shifted = logits + torch.randn(2, 1, 9, 11, generator=torch.Generator().manual_seed(5))
    found = [refine(x, image, head).softmax(dim=1) for x in (logits, shifted)]
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_the_minimum_cut_is_total_variation_above_zero():
    logits, image, _ = scene()
    variation = refine(logits, image, "total_variation")
    for head in HARD:
        assert torch.equal(refine(logits, image, head) > 0, variation > 0)
    assert set(refine(logits, image, "max_flow").unique().tolist()) == {-40.0, 40.0}


@pytest.mark.parametrize("head", REFINING_HEADS)
def test_noise_along_an_edge_of_the_picture_is_removed(head):
    logits, image, target = scene()
    assert (predict_labels(logits) != target).float().mean() > 0.1
    assert (predict_labels(refine(logits, image, head)) != target).float().mean() < 0.04


@pytest.mark.parametrize("shape", [(7,), (4, 5, 6)])
@pytest.mark.parametrize("head", ["soft_cut", "total_variation", *HARD])
def test_any_number_of_axes(head, shape):
    logits, image, _ = scene(2, shape=shape)
    assert refine(logits, image, head).shape == logits.shape


def test_heads_of_ones_own():
    logits, image, _ = scene()
    edges = ContrastEdges(Neighborhood.edges(2), 3.0, 1.0, 0.01, relative=True)(image)
    own = refine(logits, image, fc.SoftCut(), strength=3.0, beta=1.0, floor=0.01)
    torch.testing.assert_close(own, fc.soft_cut(logits, edges))
    where = Neighborhood.edges(2, connectivity=2)
    assert len(Refiner(fc.SoftCut(neighborhood=where)).edges.neighborhood) == 4
    flow = Refiner(FlowHead(LinearAssignmentFlow(), window=5))
    assert len(flow.edges.neighborhood) == 25
    assert flow(logits.float(), image.float()).shape == logits.shape
    assert refine(logits, image, MaxFlowHead()).shape == logits.shape


def test_types():
    logits, image, _ = scene()
    half = refine(logits.half(), image.float())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), refine(logits, image), atol=5e-3, rtol=5e-3)
    assert refine(logits.float(), image).dtype == torch.float32
    assert not refine(logits, image).requires_grad
    assert refine(logits.requires_grad_(), image).requires_grad


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("head", SOFT)
def test_the_gradient_of_the_numbers_is_that_of_finite_differences(head, channels):
    logits, image, target = scene(channels)
    loss = fc.losses.CrossEntropyLoss("binary" if channels == 1 else "multiclass")
    solver = (
        {"head": fc.SoftCut(fc.Cholesky(), Neighborhood.edges(2))} if head == "soft_cut" else {"head": head}
    )
    refiner = Refiner(**solver, strength=0.8, beta=0.6, floor=0.05, temperature=1.3).double()
    loss(refiner.relaxation(logits, image), target).backward()
    for parameter in refiner.parameters():
        given, step, values = parameter.grad.item(), 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step
                values.append(loss(refiner.relaxation(logits, image), target).item())
                parameter -= sign * step
        assert given == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("loss", ["cross_entropy", "dice"])
@pytest.mark.parametrize("head", REFINING_HEADS)
def test_fitting_never_ends_worse_than_it_began(head, loss):
    logits, image, target = scene(seed=3)
    target[0, 0] = 255
    refiner = Refiner(head)
    judge = {"cross_entropy": fc.losses.CrossEntropyLoss, "dice": fc.losses.DiceLoss}[loss]()
    # A learning rate far too large.
    fit = fit_refiner(refiner, logits, image, target, loss=loss, steps=6, lr=3.0)
    with torch.no_grad():
        each = [
            judge(refiner.relaxation(logits[i : i + 1], image[i : i + 1]), target[i : i + 1]).item()
            for i in range(2)
        ]
    assert sum(each) / 2 == pytest.approx(min(fit.losses))
    assert fit.losses[fit.best] == min(fit.losses)
    assert all(p.grad is None for p in refiner.parameters())


def test_numbers_that_made_the_truth_are_found_again():
    """Targets are drawn from what a known refiner says, so that its numbers have the least expected loss."""
    known = {"strength": 2.0, "beta": 3.0, "floor": 0.3, "temperature": 0.5}
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 24, 24, generator=generator).double()
    logits = torch.randn(1, 1, 24, 24, generator=generator).double()
    truth = refine(logits, image, **known).sigmoid()[:, 0]

    class Expected(torch.nn.Module):
        def forward(self, found, target):
            return torch.nn.functional.binary_cross_entropy_with_logits(found[:, 0], truth)

    refiner = Refiner(strength=3.0, beta=2.0, floor=0.2, temperature=1.0).double()
    fit_refiner(refiner, logits, image, torch.zeros(1, 24, 24).long(), loss=Expected(), steps=150, lr=0.1)
    for name, value in refiner.scalars().items():
        assert value == pytest.approx(known[name], rel=0.02)


def test_fitting_is_the_same_every_time_and_sizes_may_differ():
    small, large = scene(shape=(8, 9), items=1), scene(shape=(6, 12), items=1)
    logits, images, targets = ([a[0], b[0]] for a, b in zip(small, large, strict=True))
    found = []
    for _ in range(2):
        refiner = Refiner()
        fit_refiner(refiner, logits, images, targets, steps=5)
        found.append(refiner.scalars())
    assert found[0] == found[1]
    assert found[0] != Refiner().scalars()


def test_numbers_are_plain_and_make_the_same_refiner():
    kept = Refiner("max_flow", strength=0.3, temperature=2.5).scalars()
    assert {type(value) for value in kept.values()} == {float}
    again = Refiner("max_flow", **kept)
    logits, image, _ = scene()
    assert torch.equal(again(logits, image), refine(logits, image, "max_flow", **kept))
    assert again.scalars() == pytest.approx(kept)


def test_a_hard_head_labels_in_any_mode():
    logits, image, _ = scene()
    refiner = Refiner("max_flow").train()
    assert not refiner(logits.requires_grad_(), image).requires_grad
    assert isinstance(refiner.relaxed_head, PottsVariation)
    assert refiner.relaxation(logits, image).requires_grad


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"image": torch.zeros(2, 3, 9, 11, dtype=torch.uint8)}, TypeError, r"image: .* image / 255, got"),
        ({"image": torch.zeros(2, 3, 9, 10)}, ValueError, r"image: expected \(2, channels, 9, 11\)"),
        ({"image": torch.zeros(1, 3, 9, 11)}, ValueError, "image: expected"),
        ({"image": torch.full((2, 3, 9, 11), math.nan)}, ValueError, "image: expected finite"),
        ({"logits": torch.full((2, 1, 9, 11), math.nan)}, ValueError, "logits: expected finite"),
        ({"logits": torch.zeros(2, 1, 9, 11).long()}, TypeError, "logits: expected a floating-point"),
        ({"logits": torch.zeros(2, 3)}, ValueError, "logits: expected"),
        ({"head": "crf"}, ValueError, "head: expected one of soft_cut, "),
        ({"head": "max_flow", "logits": torch.zeros(2, 3, 9, 11)}, ValueError, "max_flow: expected"),
        ({"strength": 0.0}, ValueError, "strength: expected a finite number > 0"),
        ({"temperature": math.nan}, ValueError, "temperature: expected a finite number > 0"),
    ],
)  # fmt: skip
def test_refused(change, error, match):
    logits, image, _ = scene()
    with pytest.raises(error, match=match):
        refine(**({"logits": logits, "image": image} | change))


def test_fits_refused():
    logits, image, target = scene()
    refiner = Refiner()

    def fit(logits=logits, image=image, target=target, refiner=refiner, **options):
        return fit_refiner(refiner, logits, image, target, **options)

    with pytest.raises(ValueError, match=r"logits\[1\]: expected finite"):
        fit(torch.stack([logits[0], logits[1] * math.nan]))
    with pytest.raises(ValueError, match=r"targets\[0\]: expected the size"):
        fit(target=target[:, 1:])
    with pytest.raises(ValueError, match="logits: expected as many pictures"):
        fit(logits[:1])
    with pytest.raises(ValueError, match="targets: expected labelled pixels, got none"):
        fit(target=torch.full_like(target, 255))
    with pytest.raises(TypeError, match=r"images\[0\]: expected a floating-point"):
        fit(image=image.to(torch.uint8))
    with pytest.raises(ValueError, match="loss: expected one of cross_entropy, dice or a module"):
        fit(loss="hinge")
    with pytest.raises(ValueError, match="steps: expected an integer >= 0"):
        fit(steps=-1)
    with pytest.raises(ValueError, match="lr: expected a finite number > 0"):
        fit(lr=0.0)
    with pytest.raises(ValueError, match="refiner: expected parameters"):
        fit(refiner=Refiner().requires_grad_(False))
    assert refiner.scalars() == Refiner().scalars()
