"""The ten families of edge weights that tests and benchmarks share.

They run from easy to hard: constant weights, pixel-scale random weights of growing
contrast, a real photograph whose contours cut the ties, and regions that do not touch
each other at all. Every family has the scores N(0, 1), so that errors of all families
are on one scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

Array = NDArray[np.float64]

NUM_CELLS = 60
CONTRAST_SCALE = 0.05
WEAKEST_CAMERA_TIE = 1e-6


def _constant(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    return np.full((len(shape), *shape), strength)


def _softplus(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    return np.logaddexp(0.0, strength * rng.standard_normal((len(shape), *shape)))


def _lognormal(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    return np.exp(strength * rng.standard_normal((len(shape), *shape)))


def _camera(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    image = camera_image(shape)
    steps = np.stack([np.roll(image, -1, axis) - image for axis in range(len(shape))])
    return strength * np.exp(-(steps**2) / (2 * CONTRAST_SCALE**2)) + WEAKEST_CAMERA_TIE


def _voronoi(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    centres = rng.random((NUM_CELLS, len(shape)))
    axes = [(np.arange(length) + 0.5) / length for length in shape]
    pixels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    cell = cKDTree(centres).query(pixels)[1]
    same = np.stack([cell == np.roll(cell, -1, axis) for axis in range(len(shape))])
    return np.where(same, strength, 0.0)


_Recipe = Callable[[tuple[int, ...], float, np.random.Generator], Array]

RECIPES: dict[str, tuple[_Recipe, float]] = {
    "const10": (_constant, 10.0),
    "soft3": (_softplus, 3.0),
    "soft30": (_softplus, 30.0),
    "logn2": (_lognormal, 2.0),
    "logn4": (_lognormal, 4.0),
    "cam10": (_camera, 10.0),
    "cam1000": (_camera, 1e3),
    "cam1e5": (_camera, 1e5),
    "vor100": (_voronoi, 100.0),
    "vor1e4": (_voronoi, 1e4),
}
FAMILIES: tuple[str, ...] = tuple(RECIPES)


def camera_image(shape: tuple[int, ...]) -> Array:
    """scikit-image's photograph of a cameraman in [0, 1], resized to two or three axes.

    A volume is the photograph pushed through depth along the diagonal: slice z is the
    photograph moved by z pixels up and to the left (wrapping round), so that contours
    are slanted surfaces and ties along depth are cut as often as ties in the plane.

    Raises
    ------
    ValueError
        ``shape`` has neither two nor three axes.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"shape: expected two or three axes for a camera family, got {shape}")
    # An extra: families that show no photograph work without it.
    from skimage import data, transform

    picture = transform.resize(data.camera() / 255.0, shape[-2:], anti_aliasing=True)
    if len(shape) == 2:
        return np.asarray(picture)
    return np.stack([np.roll(picture, (-z, -z), axis=(0, 1)) for z in range(shape[0])])


def make_family(
    name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, batch: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Scores and edges of one family, the same on every machine and in every call.

    Parameters
    ----------
    name
        One of :data:`FAMILIES`.
    shape
        Spatial size. Any number of axes; two or three for the camera families.
    dtype
        Made in float64 and rounded once, so that precisions describe the same problem.
    batch
        Number of items N; item n is drawn with the seed ``seed + n``.

    Returns
    -------
    scores : Tensor of shape (N, 1, *shape)
        Independent N(0, 1).
    edges : Tensor of shape (N, K, *shape), K = len(shape)
        ``edges[n, k, i]`` >= 0 ties pixel i to the next pixel along axis k; it is zero
        where that neighbour lies outside.

    Raises
    ------
    ValueError
        ``name`` is no family.
    """
    if name not in RECIPES:
        raise ValueError(f"name: expected one of {', '.join(FAMILIES)}, got {name!r}")
    recipe, strength = RECIPES[name]
    items = []
    for n in range(batch):
        rng = np.random.default_rng(seed + n)
        # Weights first: they do not change when something about the scores does.
        weights = inside(recipe(tuple(shape), strength, rng))
        items.append((rng.standard_normal(shape), weights))
    scores = torch.from_numpy(np.stack([s[None] for s, _ in items]))
    edges = torch.from_numpy(np.stack([w for _, w in items]))
    return scores.to(dtype), edges.to(dtype)


def inside(weights: Array) -> Array:
    """Zero the ties whose neighbour lies outside: the last plane along each tie's own axis."""
    weights = np.array(weights)
    for axis in range(weights.ndim - 1):
        last: list[int | slice] = [slice(None)] * (weights.ndim - 1)
        last[axis] = -1
        weights[(axis, *last)] = 0.0
    return weights


def num_pixels(shape: tuple[int, ...]) -> int:
    """Pixels of a picture or volume."""
    return math.prod(shape)
