"""The pictures of README.md and the documentation: ``python docs/make_pictures.py [FOLDER]``.

The photograph of coins comes with scikit-image. Its scores are brightness minus Otsu's threshold of the
surroundings, buried in noise; its edges are contrast-sensitive. Nothing is learned here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from skimage import data
from skimage.filters import gaussian, threshold_otsu
from torch import Tensor

import flowcut as fc
from flowcut.core.atomic import atomic_write
from flowcut.vision.labels import predict_labels
from flowcut.vision.panel import colour_edges, colour_labels, colour_scores, draw_panel, encode_png

STATIC = Path(__file__).parent / "_static"
NOISE = 0.35
STRENGTH, CONTRAST = 60.0, 0.08


def coins() -> Tensor:
    """The photograph, (H, W) in [0, 1], its slow change of light removed."""
    grey = data.coins() / 255.0
    flat = grey - gaussian(grey, 60) + 0.4
    return torch.from_numpy(flat[105:261, 20:230]).float().clamp(0, 1)


def noisy_scores(image: Tensor) -> Tensor:
    """(1, 1, H, W): brighter than Otsu's threshold is positive, plus noise."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image - float(threshold_otsu(image.numpy())) + NOISE * noise)[None, None]


def contrast_edges(image: Tensor) -> Tensor:
    """(1, 2, H, W): strong where two neighbouring pixels look alike."""
    smooth = torch.from_numpy(gaussian(image.numpy(), 1.0)).float()
    steps = [smooth.diff(dim=axis) for axis in (0, 1)]
    return fc.edges_from_axes([STRENGTH * torch.exp(-((s / CONTRAST) ** 2)) for s in steps])[None]


def panel() -> Tensor:
    """Photograph, scores, what they say by themselves, edges, and what soft_cut makes of both."""
    image = coins()
    scores, edges = noisy_scores(image), contrast_edges(image)
    potentials = fc.soft_cut(scores, edges)
    colour = image.expand(3, -1, -1)
    columns = {
        "scores": [colour_scores(scores[0, 0])],
        "scores > 0": [colour_labels(colour, predict_labels(scores)[0])],
        "edges": [colour_edges(edges[0])],
        "soft_cut(scores, edges) > 0": [colour_labels(colour, predict_labels(potentials)[0])],
    }
    return draw_panel(columns, height=156)


def main(arguments: Sequence[str] = ()) -> None:
    """Write every picture to a folder, by default docs/_static, whole or not at all."""
    folder = Path(arguments[0]) if arguments else STATIC
    with atomic_write(folder / "soft_cut.png") as file:
        file.write(encode_png(panel()))


if __name__ == "__main__":
    main(sys.argv[1:])
