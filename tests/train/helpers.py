"""Tiny recipes and folders of pictures that the training tests share."""

from pathlib import Path

import numpy as np
from PIL import Image

from flowcut.train.recipe import DataRecipe, NetworkRecipe, Recipe, TrainingRecipe
from flowcut.vision.data import TextureMosaic


def tiny_recipe(**changes) -> Recipe:
    """Eight generated 32x32 pictures, a network of width 4, two epochs."""
    parts = {
        "dataset": DataRecipe(kind="texture_mosaic", size=(32, 32), lengths=(8, 4, 3)),
        "network": NetworkRecipe(width=4, head="none"),
        "training": TrainingRecipe(epochs=2, batch_size=4, device="cpu"),
    }
    return Recipe(**(parts | changes))


def write_pairs(folder: Path, count: int, size: int = 32, split: str = "train") -> tuple[Path, Path]:
    """Write `count` mosaics as picture and mask files; returns the two folders."""
    images, masks = folder / "images", folder / "masks"
    for path in (images, masks):
        path.mkdir(parents=True)
    for item in TextureMosaic(count, size, split=split):
        pixels = (item["image"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{item['id']}.png")
        Image.fromarray(item["target"].numpy().astype(np.uint8) * 255).save(masks / f"{item['id']}.png")
    return images, masks
