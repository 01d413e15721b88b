"""Random regions filled with photographs of textures, with exact masks."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage import data as photographs
from skimage.transform import rescale
from torch.utils.data import Dataset

from flowcut.vision.data.folder import Item
from flowcut.vision.data.revealed import check_share, reveal, seed_of
from flowcut.vision.resize import Size, check_size

Floats = NDArray[np.floating]

TEXTURES = ("grass", "brick", "gravel")
# Columns of the photographs, as shares of their width: no pixel serves two splits.
PARTS = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}


class TextureMosaic(Dataset[Item]):
    """Pictures of random regions, each filled with a piece of a real texture photograph.

    The regions are the Voronoi cells of random sites with gently bent borders. The
    photographs (grass, brick, gravel) come with scikit-image, so nothing is downloaded.
    Each is scaled to mean 0 and variance 1, so that brightness says nothing about the
    label; every region then gets a contrast and a brightness of its own, and every pixel
    noise. A small network, which sees a few pixels around each, makes speckles here, and
    what knows that neighbours belong together pays.

    Item ``index`` depends on ``seed``, ``split`` and ``index`` alone. The splits use
    different parts of the photographs (left 60 %, next 20 %, last 20 % of the columns).

    Parameters
    ----------
    length
        Number of pictures, >= 1.
    size
        (height, width) or one number for a square.
    seed
        >= 0; another seed gives other pictures.
    split
        "train", "val" or "test".
    num_textures
        2 (grass, brick) or 3 (and gravel).
    num_classes
        2: label 1 is brick and label 0 everything else. 3, with three textures: grass 0,
        brick 1, gravel 2.
    regions
        Number of sites, >= 2; at least one region is brick and at least one is not, though
        a small one can fall between the pixels.
    scale
        Size of a texture in the picture relative to its photograph (512 x 512 pixels), in
        (0, 1]. At 1/3 a brick is about as large as what a small network sees.
    contrast
        Standard deviation of a texture before its gain in [0.7, 1.3], in units of the
        range [0, 1] of the picture.
    noise
        Standard deviation of the noise, in the same units, >= 0.
    reveal
        Share of the pixels that the target keeps, in (0, 1]; the others become 255.

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> item = TextureMosaic(length=10, size=32)[3]
    >>> item["image"].shape, item["target"].shape, item["target"].unique().tolist()
    (torch.Size([3, 32, 32]), torch.Size([32, 32]), [0, 1])
    """

    def __init__(
        self,
        length: int = 200,
        size: Size = 64,
        seed: int = 0,
        split: Literal["train", "val", "test"] = "train",
        num_textures: int = 3,
        num_classes: int = 2,
        regions: int = 8,
        scale: float = 1 / 3,
        contrast: float = 0.18,
        noise: float = 0.04,
        reveal: float | None = None,
    ) -> None:
        ranges = (("length", length, 1), ("seed", seed, 0), ("regions", regions, 2), ("noise", noise, 0))
        for name, number, low in ranges:
            if number < low:
                raise ValueError(f"{name}: expected {low} or more, got {number}")
        if split not in PARTS:
            raise ValueError(f"split: expected one of {', '.join(PARTS)}, got {split!r}")
        if num_textures not in (2, 3):
            raise ValueError(f"num_textures: expected 2 or 3, got {num_textures}")
        if num_classes not in (2, num_textures):
            raise ValueError(f"num_classes: expected 2 or num_textures = {num_textures}, got {num_classes}")
        for name, number, high in (("scale", scale, 1), ("contrast", contrast, float("inf"))):
            if not 0 < number <= high:
                raise ValueError(f"{name}: expected a number > 0 and <= {high}, got {number}")
        if reveal is not None:
            check_share(reveal)
        self.length, self.size, self.seed, self.split = length, check_size(size), seed, split
        self.num_textures, self.classes, self.regions = num_textures, num_classes, regions
        self.scale, self.contrast, self.noise, self.share = scale, contrast, noise, reveal

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        """Make one picture.

        Raises
        ------
        IndexError
            ``index`` is not in [-length, length).
        """
        if not -self.length <= index < self.length:
            raise IndexError(f"index: expected {-self.length} to {self.length - 1}, got {index}")
        index %= self.length
        rng = np.random.default_rng([self.seed, list(PARTS).index(self.split), index])
        cells = _cells(rng, self.size, self.regions)
        kinds = _kinds(rng, self.regions, self.num_textures)
        image = np.zeros(self.size)
        for region in range(self.regions):
            patch = _patch(rng, _texture(TEXTURES[kinds[region]], self.split, self.scale), self.size)
            bright = 0.5 + rng.uniform(-0.1, 0.1) + self.contrast * rng.uniform(0.7, 1.3) * patch
            image = np.where(cells == region, bright, image)
        colour = np.repeat(image[None], 3, axis=0) + self.noise * rng.standard_normal((3, *self.size))
        textures = kinds[cells]
        labels = textures if self.classes > 2 else textures == TEXTURES.index("brick")
        target = torch.from_numpy(labels.astype(np.int64))
        name = f"{self.split}-{self.seed}-{index:05d}"
        if self.share is not None:
            target = reveal(target, self.share, seed_of(self.seed, name))
        return Item(image=torch.from_numpy(colour.clip(0, 1).astype(np.float32)), target=target, id=name)


@lru_cache(maxsize=4 * len(TEXTURES) * len(PARTS))
def _texture(name: str, split: str, scale: float = 1.0) -> Floats:
    """The part of a photograph that a split may use, of mean 0 and variance 1."""
    whole = np.asarray(getattr(photographs, name)(), dtype=np.float64)
    first, last = (round(share * whole.shape[1]) for share in PARTS[split])
    # Cut first, then scale: smoothing must not carry pixels from one split to another.
    part = rescale(whole[:, first:last], scale, anti_aliasing=True) if scale < 1 else whole[:, first:last]
    standard: Floats = (part - part.mean()) / part.std()
    return standard


def _patch(rng: np.random.Generator, texture: Floats, size: tuple[int, int]) -> Floats:
    """A piece from a random place, mirrored at random and at the borders where it is too small."""
    rows, columns = (
        _mirror(int(rng.integers(2 * n)) + np.arange(m), n) for n, m in zip(texture.shape, size, strict=True)
    )
    patch: Floats = texture[np.ix_(rows, columns)]
    return patch


def _mirror(index: NDArray[np.integer], n: int) -> NDArray[np.integer]:
    """Indices 0..n-1, n-1..0, 0..n-1, ... : a start in the second run is a mirrored patch."""
    index = index % (2 * n)
    return np.where(index < n, index, 2 * n - 1 - index)


def _kinds(rng: np.random.Generator, regions: int, num_textures: int) -> NDArray[np.integer]:
    """A texture for every region; brick and something else both occur."""
    kinds = rng.integers(num_textures, size=regions)
    brick = TEXTURES.index("brick")
    others = [t for t in range(num_textures) if t != brick]
    first, second = rng.permutation(regions)[:2]
    kinds[first], kinds[second] = brick, rng.choice(others)
    return kinds


def _cells(rng: np.random.Generator, size: tuple[int, int], regions: int) -> NDArray[np.integer]:
    """The nearest site of every pixel, distances taken at smoothly displaced coordinates."""
    grid = np.stack(np.meshgrid(*(np.arange(n) / max(size) for n in size), indexing="ij"), axis=-1)
    grid = grid + np.stack([_smooth_noise(rng, size) for _ in size], axis=-1)
    sites = rng.uniform(size=(regions, 2)) * np.array(size) / max(size)
    # One site at a time: memory stays at a few arrays of the size of the picture.
    best, cells = np.full(size, np.inf), np.zeros(size, dtype=np.int64)
    for region, site in enumerate(sites):
        distance = np.square(grid - site).sum(axis=-1)
        cells = np.where(distance < best, region, cells)
        best = np.minimum(best, distance)
    return cells


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """A smooth random field of standard deviation 0.03 (of the longer side)."""
    coarse = gaussian_filter(rng.standard_normal((12, 12)), 1.0, mode="wrap")
    coarse *= 0.03 / coarse.std()
    places = np.meshgrid(*(np.linspace(0, 11, n) for n in size), indexing="ij")
    return np.asarray(map_coordinates(coarse, np.stack(places), order=3, mode="nearest"))
