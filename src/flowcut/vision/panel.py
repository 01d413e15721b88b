"""Pictures of numbers, and pictures side by side: for reports, not for data."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flowcut.flow.weights import weights_entropy
from flowcut.vision.palette import blend

# Colours at equally spaced values: blue over white to red, and dark violet to yellow.
_DIVERGING = ((0.10, 0.28, 0.62), (0.98, 0.98, 0.98), (0.74, 0.13, 0.16))
_SEQUENTIAL = ((0.07, 0.04, 0.20), (0.45, 0.12, 0.45), (0.86, 0.33, 0.26), (0.99, 0.91, 0.56))
_MARGIN = 4
_TITLE = 16


def colour_scores(scores: Tensor) -> Tensor:
    """Show scores in blue (negative), white (0) and red (positive).

    Parameters
    ----------
    scores
        (H, W) float. The colours are full at the 98th percentile of the absolute values, so
        that a few large scores do not pale the rest.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].

    Examples
    --------
    >>> [round(c, 2) for c in colour_scores(torch.tensor([[0.0, 1.0]]))[:, 0, 0].tolist()]
    [0.98, 0.98, 0.98]
    """
    values = scores.detach().cpu().float()
    limit = _percentile(values.abs())
    return _colour((values / limit if limit > 0 else values) / 2 + 0.5, _DIVERGING)


def colour_values(values: Tensor, low: float, high: float) -> Tensor:
    """Show numbers from dark violet (``low``) over red to yellow (``high``).

    Parameters
    ----------
    values
        (H, W) float; clamped to the range.
    low, high
        The range; where it is empty, everything is in its middle.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].

    Examples
    --------
    >>> [round(c, 2) for c in colour_values(torch.tensor([[0.0, 2.0]]), 0.0, 2.0)[:, 0, 1].tolist()]
    [0.99, 0.91, 0.56]
    """
    values = values.detach().cpu().float()
    shares = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)
    return _colour(shares, _SEQUENTIAL)


def colour_edges(edges: Tensor) -> Tensor:
    """Show how strongly a pixel is tied to its neighbours: dark where it is cut off.

    Parameters
    ----------
    edges
        (K, H, W) float >= 0. Shown is the logarithm of the mean over the K offsets, from its
        2nd to its 98th percentile.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].
    """
    return _from_dark_to_bright(edges.detach().cpu().float().mean(dim=0).clamp(min=1e-12).log())


def colour_weights(weights: Tensor) -> Tensor:
    """Show how many neighbours a pixel listens to: dark where one of them has all the weight.

    Parameters
    ----------
    weights
        (window**2, H, W) on the simplex, zero outside the picture. Shown is their entropy, from its 2nd
        to its 98th percentile.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].
    """
    return _from_dark_to_bright(weights_entropy(weights.detach().cpu().float()[None])[0])


def _from_dark_to_bright(values: Tensor) -> Tensor:
    low, high = -_percentile(-values), _percentile(values)
    return colour_values(values, low, high)


def colour_labels(image: Tensor, labels: Tensor, opacity: float = 0.45) -> Tensor:
    """Lay labels over a picture.

    Parameters
    ----------
    image
        (3, H, W) in [0, 1].
    labels
        (H, W) integer, 0 to 255.
    opacity
        Of the colours, in [0, 1].

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].
    """
    pixels = image.detach().cpu().float().movedim(0, -1).numpy()
    mixed = blend(pixels, labels.detach().cpu().numpy(), opacity)
    return torch.from_numpy(mixed.astype(np.float32) / 255).movedim(-1, 0)


def draw_panel(columns: Mapping[str, Sequence[Tensor]], height: int = 128) -> Tensor:
    """Put pictures side by side, one titled column each, one row an example.

    Parameters
    ----------
    columns
        Title to pictures (3, H, W) in [0, 1]; all columns have the same number of pictures.
    height
        Height of every row in pixels, >= 1; widths follow, so that nothing is distorted.

    Returns
    -------
    Tensor
        (3, height of the panel, width of the panel) float32 in [0, 1], on white.

    Raises
    ------
    ValueError
        There is no picture, or the columns differ in length.
    """
    lengths = {len(pictures) for pictures in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        shown = {title: len(pictures) for title, pictures in columns.items()}
        raise ValueError(f"columns: expected as many pictures in each, 1 or more, got {shown}")
    rows = [[_scale(picture, height) for picture in row] for row in zip(*columns.values(), strict=True)]
    widths = [max(picture.shape[2] for picture in column) for column in zip(*rows, strict=True)]
    canvas = torch.ones(3, _TITLE + len(rows) * (height + _MARGIN), sum(w + _MARGIN for w in widths))
    lefts = [sum(w + _MARGIN for w in widths[:i]) for i in range(len(widths))]
    for i, row in enumerate(rows):
        top = _TITLE + i * (height + _MARGIN)
        for left, picture in zip(lefts, row, strict=True):
            canvas[:, top : top + height, left : left + picture.shape[2]] = picture
    drawn = Image.fromarray(_bytes(canvas))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default()
    for left, title in zip(lefts, columns, strict=True):
        pen.text((left + 2, 2), title, fill=(30, 30, 30), font=font)
    return torch.from_numpy(np.asarray(drawn).astype(np.float32) / 255).movedim(-1, 0)


def encode_png(image: Tensor) -> bytes:
    """The bytes of a PNG file.

    Parameters
    ----------
    image
        (3, H, W) float, clamped to [0, 1].

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        ``image`` is not of that shape.

    Examples
    --------
    >>> encode_png(torch.rand(3, 4, 5))[1:4]
    b'PNG'
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image: expected (3, H, W), got {tuple(image.shape)}")
    file = io.BytesIO()
    Image.fromarray(_bytes(image)).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _bytes(image: Tensor) -> NDArray[np.uint8]:
    values = image.detach().cpu().float().clamp(0, 1).movedim(0, -1).numpy()
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def _percentile(values: Tensor) -> float:
    return float(np.percentile(values.numpy(), 98))


def _colour(values: Tensor, stops: Sequence[tuple[float, float, float]]) -> Tensor:
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(values.clamp(0, 1).numpy(), at, [stop[c] for stop in stops]) for c in range(3)]
    return torch.from_numpy(np.stack(channels).astype(np.float32))


def _scale(picture: Tensor, height: int) -> Tensor:
    width = max(1, round(picture.shape[2] * height / picture.shape[1]))
    picture = picture.detach().cpu().float()
    # Whole pixels stay sharp when a small picture is enlarged by a whole number.
    if height % picture.shape[1] == 0:
        return F.interpolate(picture[None], (height, width), mode="nearest")[0]
    return F.interpolate(picture[None], (height, width), mode="bilinear", antialias=True)[0]
