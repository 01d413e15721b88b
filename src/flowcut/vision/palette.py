"""Colours of labels."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

# Golden-ratio steps around the hue circle keep any number of first colours far apart.
_HUE_STEP = 0.6180339887498949
_FIRST_HUE = 0.07


def palette(classes: int) -> NDArray[np.uint8]:
    """Colours of label files: black, then white for two classes or hues for more.

    Parameters
    ----------
    classes
        Number of labels.

    Returns
    -------
    ndarray
        (256, 3) uint8; 255 is the grey of void pixels.

    Examples
    --------
    >>> palette(2)[[0, 1, 255]].tolist()
    [[0, 0, 0], [255, 255, 255], [128, 128, 128]]
    """
    colours = hues()
    colours[0] = 0
    if classes == 2:
        colours[1] = 255
    return colours


def hues() -> NDArray[np.uint8]:
    """A bright colour for every label, (256, 3) uint8; 255 is grey."""
    steps = ((_FIRST_HUE + _HUE_STEP * (i - 1)) % 1 for i in range(256))
    colours = np.array([colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in steps])
    colours[255] = 0.5
    rounded: NDArray[np.uint8] = np.rint(colours * 255).astype(np.uint8)
    return rounded


def blend(pixels: NDArray[np.floating], labels: NDArray[np.integer], opacity: float) -> NDArray[np.uint8]:
    """Lay the colours of the labels over a picture.

    Parameters
    ----------
    pixels
        (H, W, 3) in [0, 1].
    labels
        (H, W), 0 to 255; label 0 stays as it is.
    opacity
        Of the colours, in [0, 1]; 1 at the borders between labels.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.

    Raises
    ------
    ValueError
        ``opacity`` is out of its range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number in [0, 1], got {opacity}")
    strength = np.where(labels > 0, opacity, 0.0)
    strength[find_boundaries(labels, mode="inner")] = 1.0
    colours = hues()[labels] / 255
    mixed = (1 - strength[..., None]) * pixels.clip(0, 1) + strength[..., None] * colours
    result: NDArray[np.uint8] = np.rint(mixed * 255).astype(np.uint8)
    return result
