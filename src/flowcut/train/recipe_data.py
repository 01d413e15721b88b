"""Where pictures come from: the group `dataset` of a recipe; nothing heavy is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from flowcut.train.recipe_checks import at_least, in_range, share

__all__ = ["DataRecipe"]

Kind = Literal[
    "paired_folder", "weizmann_horses", "drive", "isbi2012", "camvid", "cityscapes", "texture_mosaic"
]

_CHANGES = (
    "flip",
    "flip_vertical",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "picture_noise",
)


@dataclass(frozen=True)
class DataRecipe:
    """Where pictures and masks come from and how they are split.

    Parameters
    ----------
    kind : str
        ``paired_folder`` (a folder of images and one of masks), ``weizmann_horses``, ``drive``,
        ``isbi2012``, ``camvid`` or ``cityscapes`` (need `root`), or ``texture_mosaic`` (generated; needs
        no files).
    root : str, optional
        Folder of a data set that has a kind of its own.
    images, masks : str, optional
        Folders of a ``paired_folder``; image and mask share their stem.
    val_images, val_masks : str, optional
        Folders of the validation split; without them a random share of the training pairs is kept back.
    test_images, test_masks : str, optional
        Folders of the test split; without them a random share of the training pairs is kept back.
    size : tuple of int, optional
        (height, width) in pixels every picture is resized to; None keeps each picture's own size, which
        needs batches of one or crops.
    crop : tuple of int, optional
        (height, width) in pixels of pieces cut from the training pictures, at other places in every
        epoch; None trains on whole pictures. Validation and test pictures stay whole unless `crop_tests`.
    crops : int
        Pieces cut from each training picture in an epoch, >= 1.
    balance : float, optional
        Share in [0, 1] of the pieces that are cut around a class, however rare it is; needs `crop`. None
        cuts them anywhere.
    balance_classes : tuple of int, optional
        Labels that those pieces are cut around, each as often; None: all that occur.
    crop_tests : int
        Pieces cut from each validation and test picture, in the same way but always the same ones; 0 leaves
        them whole.
    flip, flip_vertical : float
        Probabilities in [0, 1] to mirror a training picture left and right, up and down.
    quarter_turns : bool
        Turn training pictures by 0, 90, 180 or 270 degrees, equally likely.
    scale : tuple of float
        (low, high) > 0: training pictures are enlarged by a factor between them.
    brightness, contrast, saturation : float
        b in [0, 1] changes them in training pictures by a factor in [1 - b, 1 + b].
    hue : float
        In [0, 0.5]: hues of training pictures are shifted by up to this part of the circle.
    picture_noise : float
        Standard deviation of the noise added to training pictures, which are in [0, 1]; >= 0.
    click : bool
        Learn to mark one object that a click names: a fourth channel of the picture holds the click, and
        the labels become object and rest, whatever `num_classes` of the masks is.
    click_pixels : int
        Objects of fewer pixels are never clicked on, >= 1.
    num_classes : int
        Number of labels, background included, >= 2. Two labels are learned as one channel.
    classes : tuple of str, optional
        Names of the classes of ``camvid`` or ``cityscapes`` to learn, all others being background
        (`num_classes` is then one more than there are names); None: all eleven, or nineteen.
    reveal : float, optional
        Share in (0, 1] of the training pixels whose label is shown to the loss; None shows all of them.
    val_share, test_share : float
        Shares kept back where no folders are given, in (0, 1).
    lengths : tuple of int
        Numbers of training, validation and test mosaics of a ``texture_mosaic``.
    noise : float
        Standard deviation of the noise of a ``texture_mosaic``, pictures being in [0, 1]; >= 0.
    split_seed : int
        Seed of the random split, of the generated mosaics and of the revealed pixels.
    """

    kind: Kind = "paired_folder"
    root: str | None = None
    images: str | None = None
    masks: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    test_images: str | None = None
    test_masks: str | None = None
    size: tuple[int, int] | None = (128, 128)
    crop: tuple[int, int] | None = None
    crops: int = 1
    balance: float | None = None
    balance_classes: tuple[int, ...] | None = None
    crop_tests: int = 0
    flip: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    picture_noise: float = 0.0
    click: bool = False
    click_pixels: int = 1
    num_classes: int = 2
    classes: tuple[str, ...] | None = None
    reveal: float | None = None
    val_share: float = 0.15
    test_share: float = 0.15
    lengths: tuple[int, int, int] = (64, 16, 32)
    noise: float = 0.1
    split_seed: int = 0

    @property
    def labels(self) -> int:
        """Number of labels that are learned: those of the masks, or object and rest with clicks."""
        return 2 if self.click else self.num_classes

    @property
    def augments(self) -> bool:
        """Whether training pictures are changed at random."""
        plain = (1.0, 1.0)
        return self.quarter_turns or self.scale != plain or any(getattr(self, name) for name in _CHANGES)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_changes()
        at_least("dataset.crops", self.crops, 1)
        at_least("dataset.crop_tests", self.crop_tests, 0)
        at_least("dataset.click_pixels", self.click_pixels, 1)
        at_least("dataset.num_classes", self.num_classes, 2)
        if self.reveal is not None:
            share("dataset.reveal", self.reveal, one_allowed=True)
        share("dataset.val_share", self.val_share, one_allowed=False)
        share("dataset.test_share", self.test_share, one_allowed=False)
        if self.val_share + self.test_share >= 1.0:
            raise ValueError(
                "dataset.test_share: expected less than 1 together with dataset.val_share, got"
                f" {self.val_share} + {self.test_share}"
            )
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"dataset.noise: expected a finite number >= 0, got {self.noise}")
        if min(self.lengths) < 1:
            raise ValueError(f"dataset.lengths: expected three integers >= 1, got {list(self.lengths)}")

    def _check_sizes(self) -> None:
        for name in ("size", "crop"):
            pair = getattr(self, name)
            if pair is not None and min(pair) < 1:
                raise ValueError(
                    f"dataset.{name}: expected a height and a width >= 1 in pixels, got {list(pair)}"
                )
        if self.size and self.crop and (self.crop[0] > self.size[0] or self.crop[1] > self.size[1]):
            raise ValueError(
                f"dataset.crop: expected at most dataset.size {list(self.size)}, got {list(self.crop)}"
            )
        if self.balance is not None:
            in_range("dataset.balance", self.balance, 1)
        if self.crop is None and (self.balance is not None or self.balance_classes is not None):
            raise ValueError("dataset.crop: expected a height and a width for balanced pieces, got null")
        if self.crop is None and self.crop_tests:
            raise ValueError("dataset.crop: expected a height and a width for dataset.crop_tests, got null")
        if self.balance is None and self.balance_classes is not None:
            raise ValueError("dataset.balance: expected a share for dataset.balance_classes, got null")
        if self.kind not in ("camvid", "cityscapes") and self.classes is not None:
            raise ValueError(
                f"dataset.classes: expected only with camvid or cityscapes, got it with {self.kind}"
            )

    def _check_changes(self) -> None:
        for name in _CHANGES:
            high = {"hue": 0.5, "picture_noise": math.inf}.get(name, 1.0)
            in_range(f"dataset.{name}", getattr(self, name), high)
        if not (0 < self.scale[0] <= self.scale[1] < math.inf):
            raise ValueError(
                f"dataset.scale: expected low and high with 0 < low <= high, got {list(self.scale)}"
            )
