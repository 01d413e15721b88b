"""Pictures and masks in two folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import Tensor
from torch.utils.data import Dataset

from flowcut.vision.data.revealed import check_share, reveal, seed_of
from flowcut.vision.pictures import PictureError, list_pictures, read_image, read_mask
from flowcut.vision.resize import Size, check_size, resize_image, resize_mask


class Item(TypedDict):
    """One labelled picture.

    Attributes
    ----------
    image : Tensor
        (3, H, W) float32 in [0, 1].
    target : Tensor
        (H, W) int64, labels or 255 for void pixels.
    id : str
        Its name, unique in the dataset.
    instance : Tensor, optional
        (H, W) int64, where a data set tells objects of one label apart: a number > 0 for each object, -1
        on pixels that belong to no single object, 0 where it is not known.
    """

    image: Tensor
    target: Tensor
    id: str
    instance: NotRequired[Tensor]


class PairedFolder(Dataset[Item]):
    """Pictures in one folder, their masks in another, paired by file stem.

    That the files exist and pair up is checked when the dataset is made, their content
    when it is read. Masks without a picture are passed over. Picture and mask of a pair
    must be of one size; ``size`` resizes both together (see
    :func:`flowcut.vision.resize.resize_mask`: no value between two labels comes out).

    Parameters
    ----------
    images, masks
        The two folders. What a mask file may hold: :func:`flowcut.vision.pictures.read_mask`.
    size
        (height, width) or one number for a square; None keeps each picture's own size.
    ids
        Stems, in the order wanted; None takes all pictures, sorted.
    classes
        Number of labels, 2 to 255.
    void
        With two classes: 255 in a mask marks void pixels instead of label 1.
    reveal
        Share of the labelled pixels that the target keeps, in (0, 1]; the others become
        255. Which ones depends on ``seed`` and the item's id alone.
    seed
        Of the revealed pixels.
    cache
        Keep every item in memory once it is read. Worth it for small resized sets; each
        worker process of a data loader keeps its own.

    Raises
    ------
    ValueError
        A folder is missing or holds no pictures, a stem is there twice, a picture has no
        mask, an id has no picture, or a number is out of its range. Reading an item raises
        :class:`flowcut.vision.pictures.PictureError` (a ValueError) where a file is
        unreadable, a mask holds other values, or picture and mask differ in size.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        size: Size | None = None,
        ids: Iterable[str] | None = None,
        classes: int = 2,
        void: bool = False,
        reveal: float | None = None,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        if not 2 <= classes <= 255:
            raise ValueError(f"classes: expected 2 to 255, got {classes}")
        if reveal is not None:
            check_share(reveal)
        self.size = None if size is None else check_size(size)
        self.classes = classes
        self.void = void
        self.share = reveal
        self.seed = seed
        pairs = self._pairs(images, masks, ids)
        self.ids, self.files = list(pairs), list(pairs.values())
        self._kept: dict[int, Item] | None = {} if cache else None

    def _pairs(
        self, images: str | Path, masks: str | Path, ids: Iterable[str] | None
    ) -> dict[str, tuple[Path, Path]]:
        """Picture and mask of every id; a data set whose files lie in another way finds them here."""
        found, labelled = list_pictures(images, "images"), list_pictures(masks, "masks")
        names = list(found) if ids is None else _known_ids(ids, found, images)
        missing = [i for i in names if i not in labelled]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise ValueError(f"masks: expected a mask for {found[missing[0]]}{more}, got none in {masks}")
        return {i: (found[i], labelled[i]) for i in names}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        """Read one pair.

        Raises
        ------
        IndexError
            ``index`` is not in [-len, len).
        PictureError
            A file is not what it should be.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self) - 1}, got {index}")
        index %= len(self)
        item = self._read(index) if self._kept is None else self._kept.get(index)
        if item is None:
            item = self._read(index)
        if self._kept is not None:
            self._kept[index] = item
            # The caller may write into what it gets; what is kept must not change.
            return replaced(item, item["image"].clone(), lambda labels: labels.clone())
        return item

    def labels(self, index: int) -> Tensor:
        """Read the target (H, W) of one pair in its own size; where a data set codes labels its own way."""
        return read_mask(self.files[index][1], self.classes, self.void)

    def target(self, index: int) -> Tensor:
        """The target of item ``index``, without reading its picture."""
        return self._finished(index, self.labels(index))

    def _finished(self, index: int, target: Tensor) -> Tensor:
        if self.size is not None:
            target = resize_mask(target, self.size)
        if self.share is not None:
            target = reveal(target, self.share, seed_of(self.seed, self.ids[index]))
        return target

    def _read(self, index: int) -> Item:
        name, (picture, mask) = self.ids[index], self.files[index]
        image, target = read_image(picture), self.labels(index)
        if image.shape[1:] != target.shape:
            (h, w), (mh, mw) = image.shape[1:], target.shape
            raise PictureError(f"{mask}: expected the size of {picture}, {w}x{h} pixels, got {mw}x{mh}")
        if self.size is not None:
            image = resize_image(image, self.size)
        return Item(image=image, target=self._finished(index, target), id=name)


def replaced(item: Item, image: Tensor, change: Callable[[Tensor], Tensor]) -> Item:
    """An item with another image, and the same change to its target and, where it has them, instances."""
    result = Item(image=image, target=change(item["target"]), id=item["id"])
    if "instance" in item:
        result["instance"] = change(item["instance"])
    return result


def target_of(dataset: Any, index: int) -> Tensor:
    """The target of an item alone, where that saves reading the picture."""
    target: Tensor = dataset.target(index) if isinstance(dataset, PairedFolder) else dataset[index]["target"]
    return target


def _known_ids(ids: Iterable[str], found: dict[str, Path], folder: str | Path) -> list[str]:
    names = list(ids)
    if not names:
        raise ValueError("ids: expected at least one, got none")
    unknown = [i for i in names if i not in found]
    if unknown:
        raise ValueError(f"ids: expected stems of pictures in {folder}, got {unknown[0]!r}")
    if len(set(names)) != len(names):
        twice = next(i for i in names if names.count(i) > 1)
        raise ValueError(f"ids: expected each once, got {twice!r} twice")
    return names
