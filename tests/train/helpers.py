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


SIZE = (24, 32)


def write_drive(root: Path) -> None:
    """Six pictures 24x32 in the layout of DRIVE; the first column is outside the field of view."""
    folder = root / "DRIVE"
    for i, item in enumerate(TextureMosaic(6, SIZE)):
        pixels = (item["image"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        mask = item["target"].numpy().astype(np.uint8) * 255
        seen = np.full(SIZE, 255, dtype=np.uint8)
        seen[:, 0] = 0
        parts = {"images": pixels, "manual1": mask, "manual2": np.roll(mask, 1, axis=0), "fov": seen}
        for name, values in parts.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / name / f"{i:02}.png")
    write_lists(root, "DRIVE_")


def write_isbi(root: Path) -> None:
    """Six grey pictures 24x32 in the layout of ISBI 2012: 255 in the labels is cell, 0 membrane."""
    for i, item in enumerate(TextureMosaic(6, SIZE)):
        parts = {"images": item["image"].mean(dim=0) * 255, "labels": (1 - item["target"]) * 255}
        for name, values in parts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.numpy().astype(np.uint8)).save(root / name / f"{i:02}.png")
    write_lists(root)


def write_lists(root: Path, prefix: str = "") -> None:
    """Three pictures for training, one for validation, two for testing."""
    for split, names in (("train", ("00", "03", "01")), ("val", ("02",)), ("test", ("04", "05"))):
        (root / f"{prefix}{split}.txt").write_text("\n".join(names) + "\n")


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
