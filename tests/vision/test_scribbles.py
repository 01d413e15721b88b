"""Masks from scribbles against scikit-image, enumeration and what must hold."""

import itertools
import math

import numpy as np
import pytest
import torch
from skimage.segmentation import random_walker

from flowcut.core.neighborhood import Neighborhood
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.scribbles import (
    ScribbleSettings,
    colour_posterior,
    segment_scribbles,
)
from flowcut.vision.walker_head import RandomWalkerHead

METHODS = ("random_walker", "soft_cut", "max_flow")


def _discs(labels=2, size=24):
    """Stripes of their own colours with noise, one stroke in each."""
    truth = (torch.arange(size) * labels // size).expand(size, size)
    colours = torch.linspace(0.2, 0.8, labels)
    noise = 0.03 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    seeds = torch.full((size, size), 255)
    for label in range(labels):
        middle = (2 * label + 1) * size // (2 * labels)
        seeds[8:16, middle] = label
    return (colours[truth] + noise).clamp(0, 1), seeds, truth


@pytest.mark.parametrize("labels", [2, 3, 4])
@pytest.mark.parametrize("method", METHODS)
def test_stripes_are_found(method, labels):
    image, seeds, truth = _discs(labels)
    found = segment_scribbles(image, seeds, method)
    assert (found.labels != truth).float().mean() < 0.02
    assert found.probabilities.shape == (labels, *truth.shape)
    assert torch.allclose(found.probabilities.sum(dim=0), torch.ones(truth.shape), atol=1e-5)
    assert found.labels.dtype == torch.int64


@pytest.mark.parametrize("method", METHODS)
def test_marked_pixels_keep_their_labels_against_colour(method):
    image, seeds, _ = _discs()
    seeds[0, 0] = 1
    found = segment_scribbles(image, seeds, method)
    marked = seeds != 255
    assert torch.equal(found.labels[marked], seeds[marked])
    if method != "max_flow":
        assert torch.equal(found.probabilities[1][marked], (seeds[marked] == 1).float())


def test_the_walker_is_that_of_scikit_image():
    image, seeds, _ = _discs(3)
    ours = segment_scribbles(image.double(), seeds, "random_walker", ScribbleSettings(beta=50.0))
    marked = torch.where(seeds == 255, 0, seeds + 1).numpy()
    theirs = random_walker(
        image.double().movedim(0, -1).numpy(),
        marked,
        beta=50,
        mode="bf",
        return_full_prob=True,
        channel_axis=-1,
    )
    np.testing.assert_allclose(ours.probabilities.numpy(), theirs, atol=1e-9)


def _edges(image, settings):
    neighborhood = Neighborhood.edges(2, 2)
    contrast = ContrastEdges(neighborhood, 1.0, settings.contrast, 1e-6, relative=True)
    with torch.no_grad():
        return neighborhood, contrast(image[None].double())[0]


def test_soft_cut_solves_the_dense_system():
    image, seeds, _ = _discs(2, 16)
    settings = ScribbleSettings(contrast=0.5, confidence=0.02)
    found = segment_scribbles(image.double(), seeds, "soft_cut", settings)
    neighborhood, edges = _edges(image, settings)
    pixels = seeds.numel()
    laplacian = torch.zeros(pixels, pixels, dtype=torch.float64)
    for k, (down, right) in enumerate(neighborhood.offsets):
        for r, c in itertools.product(range(16), range(16)):
            if 0 <= r + down < 16 and 0 <= c + right < 16:
                i, j, w = r * 16 + c, (r + down) * 16 + c + right, edges[k, r, c]
                laplacian[i, i] += w
                laplacian[j, j] += w
                laplacian[i, j] -= w
                laplacian[j, i] -= w
    free = (seeds == 255).flatten()
    scores = torch.where(free, colour_posterior(image, seeds)[1].flatten(), (seeds == 1).flatten().double())
    system = laplacian + 0.02 * torch.eye(pixels)
    right = 0.02 * scores[free] - laplacian[free][:, ~free] @ scores[~free]
    expected = torch.linalg.solve(system[free][:, free], right)
    assert torch.allclose(found.probabilities[1].flatten()[free], expected, atol=1e-3)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_minimum_cut_is_the_best_of_all_labelings_with_these_seeds(labels):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(3, 3, 3, generator=generator)
    seeds = torch.full((3, 3), 255)
    for label in range(labels):
        seeds[label, label] = label
    settings = ScribbleSettings(contrast=0.5, strength=0.7)
    found = segment_scribbles(image, seeds, "max_flow", settings).labels
    neighborhood, edges = _edges(image, settings)
    unary = -colour_posterior(image, seeds).log()

    def energy(labeling):
        total = float(unary.gather(0, labeling[None]).sum())
        for k, (down, right) in enumerate(neighborhood.offsets):
            for r, c in itertools.product(range(3), range(3)):
                if 0 <= r + down < 3 and 0 <= c + right < 3:
                    differ = labeling[r, c] != labeling[r + down, c + right]
                    total += 0.7 * float(edges[k, r, c]) * bool(differ)
        return total

    free = (seeds == 255).nonzero().tolist()
    best = math.inf
    for values in itertools.product(range(labels), repeat=len(free)):
        labeling = seeds.clone()
        for (r, c), value in zip(free, values, strict=True):
            labeling[r, c] = value
        best = min(best, energy(labeling))
    # Two labels are exact; expansion moves need not be, but are within a factor of two.
    assert energy(found) == pytest.approx(best) if labels == 2 else best <= energy(found) + 1e-9 <= 2 * best


def test_the_colour_model_of_one_gaussian_is_bayes_rule():
    image = torch.tensor([[[0.1, 0.3, 0.7, 0.9, 0.45]]]).double()
    seeds = torch.tensor([[0, 0, 1, 1, 255]])
    found = colour_posterior(image, seeds, components=1)[:, 0, 4]
    variance = 0.1**2 + 0.01**2
    density = [
        0.99 * math.exp(-((0.45 - m) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance) + 0.01
        for m in (0.2, 0.8)
    ]
    assert found.tolist() == pytest.approx([d / sum(density) for d in density])


def test_a_volume_and_a_picture_of_one_colour():
    volume, seeds = torch.full((1, 4, 5, 6), 0.5), torch.full((4, 5, 6), 255)
    seeds[0, 0, 0], seeds[3, 4, 5] = 0, 1
    for method in METHODS:
        labels = segment_scribbles(volume, seeds, method).labels
        assert (labels[0, 0, 0], labels[3, 4, 5]) == (0, 1)


def test_the_random_walker_head_is_harmonic_and_learns_edges():
    seeds = torch.tensor([[[0, 255, 255, 1]]])
    edges = torch.ones(1, 2, 1, 4, dtype=torch.float64)
    edges[0, 1, 0, 1] = 0.5
    edges.requires_grad_()
    found = RandomWalkerHead()(seeds, edges)
    # Resistors 1, 2, 1 in a row: the potential falls by 1/4, 1/2, 1/4.
    assert found.softmax(dim=1)[0, 1, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1], abs=1e-4)
    (gradient,) = torch.autograd.grad(found[0, 0, 0, 1], edges)
    assert gradient[0, 1, 0, 0] > 0 > gradient[0, 1, 0, 1]
    with pytest.raises(ValueError, match="num_classes: expected 2 or more, got 1"):
        RandomWalkerHead(1)


IMAGE, SEEDS = torch.rand(3, 2, 2), torch.tensor([[0, 255], [255, 1]])


@pytest.mark.parametrize(
    ("image", "seeds", "method", "message"),
    [
        (IMAGE, torch.full((2, 2), 255), "soft_cut", "seeds: expected marked pixels of two .* got none"),
        (IMAGE, torch.tensor([[1, 255], [255, 1]]), "max_flow", "got label 1 alone"),
        (IMAGE, torch.tensor([[0, 255], [255, 2]]), "max_flow", "every label 0 to 2, got none of 1"),
        (IMAGE, torch.tensor([[0, -1], [255, 1]]), "max_flow", "got -1"),
        (IMAGE, SEEDS[:1], "soft_cut", r"seeds: expected shape \(2, 2\), got \(1, 2\)"),
        (IMAGE * math.nan, SEEDS, "random_walker", "image: expected finite"),
        (IMAGE, SEEDS, "magic", "method: expected one of"),
        (IMAGE[0, 0], SEEDS, "soft_cut", "image: expected"),
    ],
)
def test_refused(image, seeds, method, message):
    with pytest.raises(ValueError, match=message):
        segment_scribbles(image, seeds, method)


def test_each_method_has_a_contrast_of_its_own():
    image, seeds, _ = _discs(2, 16)
    for method, contrast in (("soft_cut", 3.0), ("max_flow", 1.0)):
        given = segment_scribbles(image, seeds, method, ScribbleSettings(contrast=contrast))
        assert torch.equal(segment_scribbles(image, seeds, method).probabilities, given.probabilities)


def test_refused_types_and_settings():
    with pytest.raises(TypeError, match="image: expected"):
        segment_scribbles(torch.ones(3, 2, 2, dtype=torch.int64), SEEDS)
    with pytest.raises(TypeError, match=r"seeds: expected integers, got torch\.float32"):
        segment_scribbles(IMAGE, SEEDS.float())
    for name in ("contrast", "confidence", "strength", "beta"):
        with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
            ScribbleSettings(**{name: -1.0})
    with pytest.raises(ValueError, match="components: expected an integer >= 1, got 0"):
        ScribbleSettings(components=0)
