"""Pictures of labelings and of what is known about them, whatever the number of axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowcut.flow.simplex import entropy
from flowcut.vision.palette import palette
from flowcut.vision.panel import colour_labels, colour_values, draw_panel

__all__ = ["draw_samples", "paint_labels"]

_SHOWN = 4
_ROWS, _NODES = 32, 1024
# Longer side of a picture in pixels: whole multiples up to the first, shrunk above the second.
_SMALL, _LARGE = 192, 256


def draw_samples(labels: Tensor, marginals: Tensor, image: Tensor | None = None) -> Tensor:
    """Some labelings beside the likeliest label and the entropy of every pixel.

    Parameters
    ----------
    labels
        (M, *spatial) integer, M >= 1. Of more than two axes the middle slice is shown. Of one axis, and of
        graphs, up to 32 labelings are rows of one picture, cut after 1024 nodes.
    marginals
        (J, *spatial).
    image
        (3, H, W) in [0, 1], which labels are laid over.

    Returns
    -------
    Tensor
        (3, height, width) in [0, 1].
    """
    spread, most = entropy(marginals[None].clamp(min=1e-30))[0], math.log(len(marginals))
    if labels.ndim == 2:
        return _draw_rows(labels[:_ROWS, :_NODES], marginals[:, :_NODES], spread[:_NODES] / most)
    columns = {} if image is None else {"picture": [image]}

    def paint(these: Tensor) -> Tensor:
        plain = paint_labels(_plane(these), len(marginals))
        return plain if image is None else colour_labels(image, _plane(these) % 255)

    for number, one in enumerate(labels[:_SHOWN], start=1):
        columns[f"sample {number}"] = [paint(one)]
    columns["likeliest label"] = [paint(marginals.argmax(dim=0))]
    if len(marginals) == 2:
        columns["p(label 1)"] = [colour_values(_plane(marginals[1]), 0.0, 1.0)]
    columns["entropy"] = [colour_values(_plane(spread / most), 0.0, 1.0)]
    height, width = _plane(spread).shape
    scale = max(1.0, _SMALL // max(height, width)) * min(1.0, _LARGE / max(height, width))
    return draw_panel(columns, max(1, round(scale * height)))


def paint_labels(labels: Tensor, count: int) -> Tensor:
    """(3, H, W) in [0, 1]: the colours of labels (H, W); of two labels those of probabilities 0 and 1.

    Examples
    --------
    >>> [round(c, 2) for c in paint_labels(torch.tensor([[0, 1]]), 2)[0, 0].tolist()]
    [0.07, 0.99]
    """
    if count == 2:
        return colour_values(labels, 0.0, 1.0)
    colours = torch.from_numpy(palette(count)[:255]).float() / 255
    return colours[labels.long() % 255].movedim(-1, 0)


def _draw_rows(labels: Tensor, marginals: Tensor, spread: Tensor) -> Tensor:
    count = len(labels)
    # Every label's marginals as a band, all bands together as high as the labelings.
    bands = marginals[torch.arange(max(count, len(marginals))) * len(marginals) // max(count, len(marginals))]
    columns = {
        f"{count} samples, one a row": [paint_labels(labels, len(marginals))],
        "p(label), one a band": [colour_values(bands, 0.0, 1.0)],
        "entropy": [colour_values(spread.expand(count, -1), 0.0, 1.0)],
    }
    return draw_panel(columns, count * max(1, min(_SMALL // count, _NODES // labels.shape[1])))


def _plane(values: Tensor) -> Tensor:
    """(H, W) of (*spatial): the middle of all axes but the last two."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values
