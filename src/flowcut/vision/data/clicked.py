"""One object out of many, named by a click."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as connected_components
from torch.utils.data import Dataset

from flowcut.vision.data.drawn import DrawnDataset, read_item
from flowcut.vision.data.folder import Item
from flowcut.vision.pictures import VOID

__all__ = ["ClickedObjects", "click_of"]

_STREAM = 3
# Items that are tried in place of one without an object.
_TRIES = 50

Place = Literal["centroid", "deepest"]


class ClickedObjects(DrawnDataset):
    """*Specific object* segmentation: a fourth channel shows which object is meant.

    As in the SoftCut thesis: the channel is zero but for a one in the middle of the object. The target is 1
    on that object and 0 elsewhere; void stays void. Objects are the instances of a class where the items
    say so by a key ``instance`` (see :class:`flowcut.vision.data.Item`), in one piece or several; elsewhere
    the connected components of the class stand in, which take objects that touch for one, and one that
    something hides in the middle for two.

    Parameters
    ----------
    dataset
        Items ``image`` (3, H, W), ``target``, ``id``, and ``instance`` where instances are known; it has a
        length. It may be drawn itself (tiles, augmentation).
    classes
        Labels whose instances or components are objects; None: all but 0.
    enumerate_all
        False: item ``[draw, k]`` is one object of picture k, each equally likely; a picture without one
        is replaced by another, drawn by the same two numbers. True: one item for each object of the
        dataset, in order, as a test set wants it; the targets are read once, when the dataset is made.
    min_pixels
        Smaller ones are no objects, >= 1.
    connectivity
        Of components. 1: pixels touch by their sides; 2: by their corners too.
    place
        "centroid": the pixel of the object nearest its centroid. "deepest": that farthest from its border.

    Raises
    ------
    ValueError
        An argument is out of its range, or there is no object. Reading an item raises it where there is
        none in 50 pictures.

    Examples
    --------
    >>> from flowcut.vision.data.mosaic import TextureMosaic
    >>> item = ClickedObjects(TextureMosaic(length=3, size=32))[7, 1]
    >>> item["image"].shape, float(item["image"][3].sum()), int(item["target"][item["image"][3] == 1])
    (torch.Size([4, 32, 32]), 1.0, 1)
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        classes: Iterable[int] | None = None,
        enumerate_all: bool = False,
        min_pixels: int = 1,
        connectivity: int = 1,
        place: Place = "centroid",
    ) -> None:
        super().__init__(dataset)
        if min_pixels < 1:
            raise ValueError(f"min_pixels: expected 1 or more, got {min_pixels}")
        if connectivity not in (1, 2):
            raise ValueError(f"connectivity: expected 1 or 2, got {connectivity}")
        if place not in ("centroid", "deepest"):
            raise ValueError(f"place: expected centroid or deepest, got {place!r}")
        self.classes = None if classes is None else sorted(set(classes))
        self.min_pixels, self.connectivity, self.place = min_pixels, connectivity, place
        self.objects: list[tuple[int, int]] | None = None
        if enumerate_all:
            counts = [int(self._parts(read_item(dataset, 0, i)).max()) for i in range(len(self))]
            self.objects = [(i, number + 1) for i, count in enumerate(counts) for number in range(count)]
            self._length = len(self.objects)
            if not self.objects:
                raise ValueError(f"dataset: expected objects of {self._named()}, got none")

    def draw_item(self, draw: int, k: int) -> Item:
        """Choose an object and click on it.

        Raises
        ------
        ValueError
            No picture that was tried holds an object.
        """
        if self.objects is not None:
            index, number = self.objects[k]
            item = read_item(self.dataset, 0, index)
            return self._clicked(item, self._parts(item), number)
        rng = np.random.default_rng([draw, k, _STREAM])
        index = k
        for _ in range(_TRIES):
            item = read_item(self.dataset, draw, index)
            parts = self._parts(item)
            if parts.max() > 0:
                return self._clicked(item, parts, int(rng.integers(parts.max())) + 1)
            index = int(rng.integers(len(self)))
        raise ValueError(f"dataset: expected an object of {self._named()}, got none in {_TRIES} pictures")

    def _parts(self, item: Item) -> NDArray[np.int64]:
        """0, and 1, 2, ... on the objects, class by class."""
        values = item["target"].numpy()
        instance = item["instance"].numpy() if "instance" in item else np.zeros_like(values)
        chosen = [c for c in np.unique(values).tolist() if c not in (0, VOID)]
        result, found = np.zeros(values.shape, dtype=np.int64), 0
        for c in chosen if self.classes is None else self.classes:
            parts = _objects(values == c, instance, self.connectivity)
            sizes = np.bincount(parts.ravel())
            kept = np.flatnonzero(sizes >= self.min_pixels)
            number = np.zeros(len(sizes), dtype=np.int64)
            kept = kept[kept > 0]
            number[kept] = found + 1 + np.arange(len(kept))
            result += number[parts]
            found += len(kept)
        return result

    def _clicked(self, item: Item, parts: NDArray[np.int64], number: int) -> Item:
        inside = parts == number
        click = torch.zeros_like(item["image"][:1])
        click[(0, *click_of(inside, self.place))] = 1
        target = torch.from_numpy(inside.astype(np.int64)).masked_fill(item["target"] == VOID, VOID)
        return Item(image=torch.cat([item["image"], click]), target=target, id=f"{item['id']}-{number}")

    def _named(self) -> str:
        return "any class but 0" if self.classes is None else f"classes {self.classes}"


def _objects(inside: NDArray[np.bool_], instance: NDArray[np.int64], connectivity: int) -> NDArray[np.int64]:
    """0, and 1, 2, ... on the objects of one class: components of what no instance is known of, instances."""
    parts: NDArray[np.int64] = connected_components(inside & (instance == 0), connectivity=connectivity)
    single = inside & (instance > 0)
    numbers, places = np.unique(instance[single], return_inverse=True)
    if len(numbers):
        parts = parts.astype(np.int64)
        parts[single] = parts.max() + 1 + places.ravel()
    return parts


def click_of(inside: NDArray[np.bool_], place: Place = "centroid") -> tuple[int, ...]:
    """A pixel in the middle of an object, always one of its own.

    Examples
    --------
    >>> ring = np.ones((5, 5), dtype=bool)
    >>> ring[1:4, 1:4] = False
    >>> click_of(ring)
    (0, 2)
    """
    pixels = np.argwhere(inside)
    score = np.square(pixels - pixels.mean(axis=0)).sum(axis=1)
    if place == "deepest":
        # Beyond the picture is outside. Of equally deep pixels the one nearest the centroid.
        depth = distance_transform_edt(np.pad(inside, 1))[tuple((pixels + 1).T)]
        score = np.where(depth >= depth.max() - 1e-9, score, np.inf)
    return tuple(int(n) for n in pixels[np.argmin(score)])
