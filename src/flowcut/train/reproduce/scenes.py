"""Label images made by rule, the same for the same seed: what the experiments learn to label."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from torch import Tensor

__all__ = ["blobs", "multi_scale", "vessels"]


def vessels(size: tuple[int, int], seed: int, trunks: int = 4) -> Tensor:
    """Branching vessels, thinner after every branch (LAF Fig. 5.1, left).

    Parameters
    ----------
    size
        (height, width) in pixels, >= 8.
    seed
        >= 0.
    trunks
        Vessels that enter at the border.

    Returns
    -------
    Tensor
        (H, W) int64, 1 in vessels.

    Examples
    --------
    >>> 0.05 < vessels((64, 64), seed=0).float().mean().item() < 0.5
    True
    """
    random = np.random.default_rng(seed)
    height, width = size
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for trunk in range(trunks):
        # Evenly around the border, aiming past the middle.
        angle = 2 * math.pi * (trunk + random.uniform(-0.3, 0.3)) / trunks
        start = (width / 2 * (1 + math.cos(angle)), height / 2 * (1 + math.sin(angle)))
        _grow(pen, random, start, angle + math.pi + random.uniform(-0.6, 0.6), min(size) / 60, min(size))
    return torch.from_numpy(np.asarray(canvas).astype(np.int64))


def _grow(
    pen: ImageDraw.ImageDraw,
    random: np.random.Generator,
    start: tuple[float, float],
    direction: float,
    radius: float,
    reach: int,
) -> None:
    """Draw a vessel in steps of one pixel; it bends, thins, and at its end forks in two."""
    (x, y), bend = start, 0.0
    steps = int(reach * random.uniform(0.2, 0.4))
    for _ in range(steps):
        bend = 0.9 * bend + random.normal(0, 0.01)
        direction += bend
        x, y = x + math.cos(direction), y + math.sin(direction)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    if radius > 1.0:
        for side in (-1, 1):
            turn = side * random.uniform(0.25, 0.6)
            _grow(pen, random, (x, y), direction + turn, 0.75 * radius, int(0.9 * reach))


def multi_scale(
    size: tuple[int, int], labels: int, seed: int, rare: tuple[int, float] | None = None
) -> Tensor:
    """Regions and discs of all sizes, from a third of the picture to a few pixels (LAF Fig. 5.3, right).

    Parameters
    ----------
    size
        (height, width) in pixels, >= 8.
    labels
        J >= 2.
    seed
        >= 0.
    rare
        A label, and the share of the pixels that it gets at most; the others are about equally frequent.

    Returns
    -------
    Tensor
        (H, W) int64, 0 to J - 1.

    Examples
    --------
    >>> multi_scale((32, 32), 6, seed=0).unique().tolist()
    [0, 1, 2, 3, 4, 5]
    """
    random = np.random.default_rng(seed)
    common = [label for label in range(labels) if rare is None or label != rare[0]]
    picture = _regions(size, np.array(common), random)
    radius = min(size) / 6
    while radius >= 2.5:
        # Equally much area for discs of every size.
        for _ in range(max(1, round(0.07 * size[0] * size[1] / (math.pi * radius**2)))):
            _disc(picture, random, radius, _least(picture, common))
        radius /= 1.5
    if rare is not None:
        radius = max(2.5, min(size) / 32)
        while (picture == rare[0]).mean() + math.pi * radius**2 / picture.size < rare[1]:
            _disc(picture, random, radius, rare[0])
    return torch.from_numpy(picture)


def _regions(
    size: tuple[int, int], labels: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Cells around a dozen random points."""
    points = random.uniform(0, 1, (12, 2)) * size
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in points]
    picture: NDArray[np.int64] = labels[np.argmin(distance, axis=0) % len(labels)]
    return picture


def _disc(picture: NDArray[np.int64], random: np.random.Generator, radius: float, label: int) -> None:
    y, x = random.uniform(0, 1, 2) * picture.shape
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    part = picture[top : int(y + radius) + 2, left : int(x + radius) + 2]
    rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    part[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label


def _least(picture: NDArray[np.int64], labels: list[int]) -> int:
    counts = np.bincount(picture.ravel(), minlength=max(labels) + 1)
    return min(labels, key=lambda label: int(counts[label]))


def blobs(size: tuple[int, ...], labels: int, seed: int, smooth: float = 4.0) -> Tensor:
    """Level sets of a smooth random field, equally frequent, in any number of dimensions.

    Parameters
    ----------
    size
        Shape of the picture or volume.
    labels
        J >= 2.
    seed
        >= 0.
    smooth
        Typical radius of a region in pixels, > 0.

    Returns
    -------
    Tensor
        (*size) int64, 0 to J - 1.

    Examples
    --------
    >>> blobs((8, 8, 8), 2, seed=0).double().mean().item()
    0.5
    """
    field = gaussian_filter(
        np.random.default_rng(seed).normal(size=(labels, *size)), (0, *[smooth] * len(size))
    )
    # One field a label, levelled until every label has its share of the largest values.
    field = field.reshape(labels, -1)
    order = np.argsort(field[0] - field[1:].mean(axis=0), kind="stable")
    picture = np.empty(field.shape[1], dtype=np.int64)
    picture[order] = np.arange(field.shape[1]) * labels // field.shape[1]
    return torch.from_numpy(picture.reshape(size))
