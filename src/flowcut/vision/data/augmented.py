"""Pictures changed at random together with their targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF  # type: ignore[import-untyped]

from flowcut.vision.data.drawn import DrawnDataset, read_item
from flowcut.vision.data.folder import Item, replaced
from flowcut.vision.pictures import VOID
from flowcut.vision.resize import Size, check_size, resize_image

__all__ = ["Augmented"]

# Keeps these draws apart from those of the tiles inside.
_STREAM = 2


class Augmented(DrawnDataset):
    """Items mirrored, turned, scaled and recoloured at random.

    What happens to item ``[draw, k]`` depends on the two numbers alone, see
    :class:`flowcut.vision.data.drawn.DrawnDataset`. Targets keep their labels, and void stays void: they
    are resampled by the nearest pixel, and pixels that a smaller picture leaves over become void.

    Parameters
    ----------
    dataset
        Items ``image`` (3, H, W) in [0, 1], ``target``, ``id``; it has a length.
    flip, flip_vertical
        Probabilities to mirror left and right, up and down, in [0, 1].
    quarter_turns
        Turn by 0, 90, 180 or 270 degrees, equally likely. Pictures that are not square then change shape;
        give ``size`` to batch them.
    scale
        (low, high): enlarge by a factor whose logarithm is uniform, then cut ``size`` pixels at a
        random place. Both > 0.
    size
        (height, width) of what comes out, or one number; None: as large as what goes in.
    brightness, contrast, saturation
        b in [0, 1]: by a factor uniform in [1 - b, 1 + b].
    hue
        In [0, 0.5]: shifted by up to this part of the circle either way.
    noise
        Standard deviation of Gaussian noise, >= 0, in units of the range [0, 1].

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    >>> from flowcut.vision.data.mosaic import TextureMosaic
    >>> data = Augmented(TextureMosaic(length=3, size=32), quarter_turns=True, scale=(0.5, 2.0), hue=0.1)
    >>> first = data[4, 2]
    >>> first["image"].shape, torch.equal(first["image"], data[4, 2]["image"])
    (torch.Size([3, 32, 32]), True)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        flip: float = 0.5,
        flip_vertical: float = 0.0,
        quarter_turns: bool = False,
        scale: tuple[float, float] = (1.0, 1.0),
        size: Size | None = None,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__(dataset)
        ranges = (("flip", flip, 1), ("flip_vertical", flip_vertical, 1), ("brightness", brightness, 1),
                  ("contrast", contrast, 1), ("saturation", saturation, 1), ("hue", hue, 0.5),
                  ("noise", noise, float("inf")))  # fmt: skip
        for name, number, high in ranges:
            if not 0 <= number <= high:
                raise ValueError(f"{name}: expected a number in [0, {high}], got {number}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale: expected (low, high) with 0 < low <= high, got {scale}")
        self.flip, self.flip_vertical, self.quarter_turns = flip, flip_vertical, quarter_turns
        self.scale, self.size = (scale[0], scale[1]), None if size is None else check_size(size)
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.noise = hue, noise

    def draw_item(self, draw: int, k: int) -> Item:
        """Change one item."""
        rng = np.random.default_rng([draw, k, _STREAM])
        item = read_item(self.dataset, draw, k)
        item = self._scaled(rng, self._turned(rng, item))
        image = self._coloured(rng, item["image"]).contiguous()
        return replaced(item, image, lambda labels: labels.contiguous().clone())

    def _turned(self, rng: np.random.Generator, item: Item) -> Item:
        # Drawn whether needed or not: one setting then leaves what the others draw alone.
        mirror, upside, turns = rng.random(), rng.random(), int(rng.integers(4))
        axes = [axis for axis, yes in ((-1, mirror < self.flip), (-2, upside < self.flip_vertical)) if yes]
        turns = turns if self.quarter_turns else 0

        def turn(values: Tensor) -> Tensor:
            return values.flip(axes).rot90(turns, (-2, -1))

        return replaced(item, turn(item["image"]), turn)

    def _scaled(self, rng: np.random.Generator, item: Item) -> Item:
        """Only the piece that stays is resampled."""
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        whole = (item["target"].shape[0], item["target"].shape[1])
        size = whole if self.size is None else self.size
        piece = [max(1, round(n / factor)) for n in size]
        slack = [n - m for n, m in zip(whole, piece, strict=True)]
        y, x = (int(rng.integers(min(0, s), max(0, s) + 1)) for s in slack)
        rows, columns = torch.arange(y, y + piece[0]), torch.arange(x, x + piece[1])
        outside = ((rows < 0) | (rows >= whole[0]))[:, None] | ((columns < 0) | (columns >= whole[1]))
        rows, columns = rows.clamp(0, whole[0] - 1), columns.clamp(0, whole[1] - 1)
        image = item["image"][:, rows[:, None], columns]

        def scale(labels: Tensor) -> Tensor:
            labels = labels[rows[:, None], columns].masked_fill(outside, VOID)
            if tuple(piece) == size:
                return labels
            near = F.interpolate(labels[None, None].float(), size, mode="nearest-exact")[0, 0]
            return near.to(labels.dtype)

        return replaced(item, image if tuple(piece) == size else resize_image(image, size), scale)

    def _coloured(self, rng: np.random.Generator, image: Tensor) -> Tensor:
        brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4)
        if self.brightness:
            image = TF.adjust_brightness(image, 1 + self.brightness * brightness)
        if self.contrast:
            # The mean by NumPy, as PyTorch's last bits depend on the number of threads.
            mean = float(TF.rgb_to_grayscale(image).numpy().mean(dtype=np.float64))
            image = (mean + (1 + self.contrast * contrast) * (image - mean)).clamp(0, 1)
        if self.saturation:
            image = TF.adjust_saturation(image, 1 + self.saturation * saturation)
        if self.hue:
            image = TF.adjust_hue(image, self.hue * hue)
        if self.noise:
            noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
            image = (image + self.noise * torch.from_numpy(noise)).clamp(0, 1)
        return image
