"""Pictures of numbers: colours where they must be, pictures where they were put, PNGs that decode."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.flow.weights import uniform_weights
from flowcut.vision.panel import (
    colour_edges,
    colour_labels,
    colour_scores,
    colour_weights,
    draw_panel,
    encode_png,
)


def test_scores_are_blue_white_and_red():
    colours = colour_scores(torch.tensor([[-2.0, 0.0, 2.0]]))[:, 0].T
    assert colours[0].argmax() == 2
    assert colours[2].argmax() == 0
    assert float(colours[1].min()) > 0.95


def test_edges_are_dark_where_they_are_weak():
    edges = torch.ones(2, 4, 5)
    edges[:, 2] = 1e-3
    brightness = colour_edges(edges).sum(dim=0)
    assert float(brightness[2].max()) < float(brightness[[0, 1, 3]].min())


def test_weights_are_dark_where_one_neighbour_has_all():
    weights = uniform_weights((6, 7))[0]
    weights[:, 3] = torch.eye(9)[4][:, None]
    brightness = colour_weights(weights).sum(dim=0)
    assert float(brightness[3].max()) < float(brightness[[0, 1, 2, 4, 5]].min())


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_constant_maps_have_one_colour(constant):
    for picture in (
        colour_scores(torch.full((3, 4), constant)),
        colour_edges(torch.full((2, 3, 4), constant)),
    ):
        assert bool(torch.isfinite(picture).all())
        assert bool((picture == picture[:, :1, :1]).all())


def test_background_stays_as_it_is():
    image = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(6, 7, dtype=torch.int64)
    assert torch.allclose(colour_labels(image, labels), image, atol=1 / 255)
    labels[2:5, 2:6] = 1
    assert not torch.allclose(colour_labels(image, labels)[:, 3, 4], image[:, 3, 4], atol=1 / 255)


def test_png_gives_back_the_pixels():
    image = torch.rand(3, 5, 9, generator=torch.Generator().manual_seed(0))
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(image))))
    assert np.array_equal(decoded, np.rint(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8))


def test_a_panel_keeps_pictures_whole_and_in_order():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
    pictures = [c[:, None, None].expand(3, 8, 16) for c in colours]
    panel = draw_panel({"left": pictures[:2], "right": pictures[2:]}, height=16)
    for colour in colours:
        found = (panel == torch.round(colour * 255)[:, None, None] / 255).all(dim=0)
        assert int(found.sum()) == 16 * 32
    rows = [(panel == c[:, None, None]).all(dim=0).nonzero()[:, 0].float().mean() for c in colours[:2]]
    assert rows[0] < rows[1]


@pytest.mark.parametrize("columns", [{}, {"a": []}, {"a": [torch.zeros(3, 2, 2)], "b": []}])
def test_columns_of_different_length_are_refused(columns):
    with pytest.raises(ValueError, match=r"^columns: expected as many pictures in each"):
        draw_panel(columns)


def test_png_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"^image: expected \(3, H, W\), got \(2, 2\)"):
        encode_png(torch.zeros(2, 2))
