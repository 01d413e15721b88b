"""What a training is made of: frozen dataclasses, checked when they are made.

This file imports nothing heavy, because the command line reads it before it knows whether a training
will run at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["DataRecipe", "LossRecipe", "NetworkRecipe", "OptimizerRecipe", "Recipe", "TrainingRecipe"]


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")


def _share(name: str, value: float, *, one_allowed: bool) -> None:
    if not (0.0 < value < 1.0 or (one_allowed and value == 1.0)):
        raise ValueError(f"{name}: expected a number in (0, 1{']' if one_allowed else ')'}, got {value}")


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {value}")


@dataclass(frozen=True)
class DataRecipe:
    """Where pictures and masks come from and how they are split.

    Parameters
    ----------
    kind : str
        ``paired_folder`` (a folder of images and one of masks), ``weizmann_horses``, ``drive`` or
        ``isbi2012`` (need `root`), or ``texture_mosaic`` (generated; needs no files).
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
        epoch; None trains on whole pictures. Validation and test pictures stay whole.
    crops : int
        Pieces cut from each training picture in an epoch, >= 1.
    num_classes : int
        Number of labels, background included, >= 2. Two labels are learned as one channel.
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

    kind: Literal["paired_folder", "weizmann_horses", "drive", "isbi2012", "texture_mosaic"] = "paired_folder"
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
    num_classes: int = 2
    reveal: float | None = None
    val_share: float = 0.15
    test_share: float = 0.15
    lengths: tuple[int, int, int] = (64, 16, 32)
    noise: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
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
        _at_least("dataset.crops", self.crops, 1)
        _at_least("dataset.num_classes", self.num_classes, 2)
        if self.reveal is not None:
            _share("dataset.reveal", self.reveal, one_allowed=True)
        _share("dataset.val_share", self.val_share, one_allowed=False)
        _share("dataset.test_share", self.test_share, one_allowed=False)
        if self.val_share + self.test_share >= 1.0:
            raise ValueError(
                "dataset.test_share: expected less than 1 together with dataset.val_share, got"
                f" {self.val_share} + {self.test_share}"
            )
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"dataset.noise: expected a finite number >= 0, got {self.noise}")
        if min(self.lengths) < 1:
            raise ValueError(f"dataset.lengths: expected three integers >= 1, got {list(self.lengths)}")


@dataclass(frozen=True)
class NetworkRecipe:
    """The network that reads a picture, and the head that makes its scores coherent.

    Parameters
    ----------
    kind : str
        ``basic_cnn``: the small network of Fig. 13 of the SoftCut thesis; ``two_head_unet``: the U-Net of
        its Fig. 14.
    width : int
        Channels of the hidden layers of ``basic_cnn``, >= 1.
    kernel_size : int
        Side of the kernels of ``basic_cnn`` in pixels, odd, >= 1.
    encoder : str
        Encoder of ``two_head_unet``, any of segmentation-models-pytorch.
    encoder_weights : str, optional
        Pretrained weights of the encoder, for example ``imagenet``; they are downloaded. None: untrained.
    decoder_channels : tuple of int
        Channels of the five levels of each decoder of ``two_head_unet``, the coarsest first.
    head : str
        ``soft_cut`` ties neighbouring pixels by learned edges; ``linear_assignment_flow`` averages over
        windows with learned weights; ``none`` reads the scores as they are.
    solver : str
        Linear solver of ``soft_cut``: ``auto``, ``cg`` (approximate), ``cholesky`` (exact), or ``thesis``
        (approximate with the stopping rule of the SoftCut thesis, which spoils gradients: to compare).
    rtol : float
        Relative residual at which ``cg`` stops, in (0, 1).
    atol : float
        Residual of a pixel, on average over the batch, at which ``thesis`` stops, > 0.
    window : int
        Side of the windows of the flow in pixels, odd, >= 1.
    rho : float
        Scale of the distances in the flow, > 0: the smaller, the more the scores count.
    flow_time : float
        How long the flow runs, > 0: the longer, the further it carries labels and the surer it gets.
    krylov_dim : int
        Dimension of the flow's Krylov spaces, >= 1: the larger, the more exact.
    """

    kind: Literal["basic_cnn", "two_head_unet"] = "basic_cnn"
    width: int = 16
    kernel_size: int = 3
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    head: Literal["soft_cut", "linear_assignment_flow", "none"] = "soft_cut"
    solver: Literal["auto", "cg", "cholesky", "thesis"] = "cg"
    rtol: float = 1e-4
    atol: float = 1e-6
    window: int = 3
    rho: float = 1.0
    flow_time: float = 5.0
    krylov_dim: int = 5

    def __post_init__(self) -> None:
        _at_least("network.width", self.width, 1)
        for name in ("kernel_size", "window"):
            side = getattr(self, name)
            if side < 1 or side % 2 == 0:
                raise ValueError(f"network.{name}: expected an odd integer >= 1, got {side}")
        if min(self.decoder_channels) < 1:
            raise ValueError(
                f"network.decoder_channels: expected integers >= 1, got {list(self.decoder_channels)}"
            )
        _share("network.rtol", self.rtol, one_allowed=False)
        _positive("network.atol", self.atol)
        _positive("network.rho", self.rho)
        _positive("network.flow_time", self.flow_time)
        _at_least("network.krylov_dim", self.krylov_dim, 1)


@dataclass(frozen=True)
class LossRecipe:
    """What training minimises.

    Parameters
    ----------
    kind : str
        ``cross_entropy`` (binary for two labels) or ``dice`` (eq. (7) of the SoftCut thesis).
    """

    kind: Literal["cross_entropy", "dice"] = "cross_entropy"


@dataclass(frozen=True)
class OptimizerRecipe:
    """How the loss is minimised.

    Parameters
    ----------
    kind : str
        ``adam`` or ``adagrad``.
    lr : float
        Learning rate, > 0.
    """

    kind: Literal["adam", "adagrad"] = "adam"
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _positive("optimizer.lr", self.lr)


@dataclass(frozen=True)
class TrainingRecipe:
    """How long and on what to train.

    Parameters
    ----------
    epochs : int
        Passes over the training pictures, >= 1.
    batch_size : int
        Pictures in one step, >= 1.
    seed : int
        Seed of the weights and of the order of the pictures, >= 0.
    device : str
        ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    precision : str
        ``32``, or ``bf16``: the network in mixed precision with bfloat16, the head in 32 bits.
    workers : int
        Processes that load pictures; 0 loads them in the training process.
    picture_every : int
        Epochs between two sets of pictures in TensorBoard, >= 1.
    """

    epochs: int = 20
    batch_size: int = 8
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32", "bf16"] = "32"
    workers: int = 0
    picture_every: int = 5

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("seed", 0),
            ("workers", 0),
            ("picture_every", 1),
        ):
            _at_least(f"training.{name}", getattr(self, name), least)


@dataclass(frozen=True)
class Recipe:
    """A whole training, as a YAML file describes it.

    Parameters
    ----------
    dataset : DataRecipe
        Where pictures and masks come from.
    network : NetworkRecipe
        The network and its head.
    loss : LossRecipe
        What training minimises.
    optimizer : OptimizerRecipe
        How it is minimised.
    training : TrainingRecipe
        How long and on what.

    Examples
    --------
    >>> Recipe().optimizer.lr
    0.001
    >>> Recipe(optimizer=OptimizerRecipe(lr=-1.0))
    Traceback (most recent call last):
        ...
    ValueError: optimizer.lr: expected a finite number > 0, got -1.0
    """

    dataset: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def __post_init__(self) -> None:
        if self.dataset.size is None and self.dataset.crop is None and self.training.batch_size > 1:
            raise ValueError(
                "training.batch_size: expected 1 where dataset.size and dataset.crop are null (pictures of"
                f" different size make no batch), got {self.training.batch_size}"
            )
