"""What a training is made of: frozen dataclasses, checked when they are made.

This file imports nothing heavy, because the command line reads it before it knows whether a training
will run at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flowcut.train.recipe_checks import at_least, positive, share
from flowcut.train.recipe_data import DataRecipe
from flowcut.train.recipe_parts import LossRecipe, OptimizerRecipe, TrainingRecipe

__all__ = ["DataRecipe", "LossRecipe", "NetworkRecipe", "OptimizerRecipe", "Recipe", "TrainingRecipe"]


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
        ``soft_cut`` ties neighbouring pixels by learned edges; ``total_variation`` does so into blocks of one
        value; ``random_walker`` does to probabilities what ``soft_cut`` does to scores; ``perturbed`` is the
        mean of exact cuts under noise; ``linear_assignment_flow`` averages over windows with learned weights;
        ``none`` reads the scores as they are.
    solver : str
        Linear solver of ``soft_cut`` and ``random_walker``: ``auto``, ``cg`` (approximate), ``cholesky``
        (exact), or ``thesis`` (approximate with the stopping rule of the SoftCut thesis, which spoils
        gradients: to compare).
    rtol : float
        Relative residual at which ``cg`` stops, in (0, 1).
    tv_method : str
        How ``total_variation`` is solved: ``exact``, ``iterative``, or ``alternating`` as the thesis' peers
        do, which is inexact (to compare).
    tv_refine : bool
        Make the best of what ``alternating`` has found, by isotonic regression.
    atol : float
        Residual of a pixel, on average over the batch, at which ``thesis`` stops, > 0.
    samples : int
        Cuts of ``perturbed`` for each picture, even, >= 2, as half of them have the opposite noise.
    sigma : float
        Deviation of the noise that ``perturbed`` adds to the scores (and to the logarithms of edges, for
        three labels or more), > 0.
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
    head: Literal[
        "soft_cut", "total_variation", "random_walker", "perturbed", "linear_assignment_flow", "none"
    ] = "soft_cut"
    solver: Literal["auto", "cg", "cholesky", "thesis"] = "cg"
    rtol: float = 1e-4
    atol: float = 1e-6
    tv_method: Literal["exact", "iterative", "alternating"] = "exact"
    tv_refine: bool = False
    samples: int = 8
    sigma: float = 1.0
    window: int = 3
    rho: float = 1.0
    flow_time: float = 5.0
    krylov_dim: int = 5

    def __post_init__(self) -> None:
        at_least("network.width", self.width, 1)
        for name in ("kernel_size", "window"):
            side = getattr(self, name)
            if side < 1 or side % 2 == 0:
                raise ValueError(f"network.{name}: expected an odd integer >= 1, got {side}")
        if min(self.decoder_channels) < 1:
            raise ValueError(
                f"network.decoder_channels: expected integers >= 1, got {list(self.decoder_channels)}"
            )
        share("network.rtol", self.rtol, one_allowed=False)
        positive("network.atol", self.atol)
        if self.samples < 2 or self.samples % 2:
            raise ValueError(f"network.samples: expected an even integer >= 2, got {self.samples}")
        positive("network.sigma", self.sigma)
        positive("network.rho", self.rho)
        positive("network.flow_time", self.flow_time)
        at_least("network.krylov_dim", self.krylov_dim, 1)


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
        weights = self.loss.class_weight
        if weights is not None and len(weights) != self.dataset.labels:
            raise ValueError(
                f"loss.class_weight: expected {self.dataset.labels} numbers, one for each label, got"
                f" {len(weights)}"
            )
        if self.optimizer.warmup > self.training.epochs:
            raise ValueError(
                f"optimizer.warmup: expected at most training.epochs {self.training.epochs}, got"
                f" {self.optimizer.warmup}"
            )
        if self.dataset.size is None and self.dataset.crop is None and self.training.batch_size > 1:
            raise ValueError(
                "training.batch_size: expected 1 where dataset.size and dataset.crop are null (pictures of"
                f" different size make no batch), got {self.training.batch_size}"
            )
