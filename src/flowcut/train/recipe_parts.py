"""Loss, optimizer and length of a training: groups of a recipe; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowcut.train.recipe_checks import at_least, in_range, positive, share

__all__ = ["LossRecipe", "OptimizerRecipe", "TrainingRecipe"]


@dataclass(frozen=True)
class LossRecipe:
    """What training minimises.

    Parameters
    ----------
    kind : str
        ``cross_entropy`` (binary for two labels), ``dice`` (eq. (7) of the SoftCut thesis), ``focal`` (26)
        or ``focal_dice`` (27)-(28).
    gamma : float
        Of ``focal`` (>= 0) and ``focal_dice`` (> 0): how much less sure pixels count.
    threshold : float
        Of ``focal_dice``: the probability in (0, 1) around which it is steep.
    form : str
        Of ``focal_dice``: ``clamp`` as printed, where surely wrong pixels get no gradient unless
        `threshold` is 0.5, or ``logits``, which has one everywhere.
    per_image : bool
        Of ``dice`` and ``focal_dice``: one overlap for each picture, or one for the batch.
    smooth : float
        Of ``dice`` and ``focal_dice``: added to numerator and denominator, >= 0.
    class_reduction : str
        Of ``dice`` and ``focal_dice`` with three labels or more: ``sum`` (the thesis) or ``mean``.
    include_background : bool
        Of ``dice`` and ``focal_dice`` with three labels or more: count label 0 too.
    class_weight : tuple of float, optional
        Of ``cross_entropy`` and ``focal``: one number >= 0 for each label.
    """

    kind: Literal["cross_entropy", "dice", "focal", "focal_dice"] = "cross_entropy"
    gamma: float = 2.0
    threshold: float = 0.5
    form: Literal["clamp", "logits"] = "clamp"
    per_image: bool = True
    smooth: float = 0.0
    class_reduction: Literal["sum", "mean"] = "sum"
    include_background: bool = True
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind == "focal_dice":
            positive("loss.gamma", self.gamma)
        in_range("loss.gamma", self.gamma)
        share("loss.threshold", self.threshold, one_allowed=False)
        in_range("loss.smooth", self.smooth)
        if self.class_weight is not None and self.kind not in ("cross_entropy", "focal"):
            raise ValueError(f"loss.class_weight: expected null for {self.kind}, got {self.class_weight}")
        for weight in self.class_weight or ():
            in_range("loss.class_weight", weight)


@dataclass(frozen=True)
class OptimizerRecipe:
    """How the loss is minimised.

    Parameters
    ----------
    kind : str
        ``adam``, ``adamw``, ``sgd`` or ``adagrad``.
    lr : float
        Learning rate, > 0; schedules start from it.
    weight_decay : float
        >= 0; apart from the gradient in ``adamw``, added to it in the others.
    momentum : float
        Of ``sgd``, in [0, 1).
    clip : float, optional
        Largest norm of the gradient of a step, > 0; None: not clipped.
    schedule : str
        ``constant``; ``cosine`` falls to 0 over the training; ``step`` multiplies by `factor` every
        `step_epochs` epochs; ``plateau`` does so after `step_epochs` epochs without a lower validation loss.
    warmup : int
        Epochs in which the learning rate grows to its value, evenly from step to step, >= 0.
    step_epochs : int
        See `schedule`, >= 1.
    factor : float
        See `schedule`, in (0, 1).
    """

    kind: Literal["adam", "adamw", "sgd", "adagrad"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    clip: float | None = None
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    warmup: int = 0
    step_epochs: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        positive("optimizer.lr", self.lr)
        in_range("optimizer.weight_decay", self.weight_decay)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum: expected a number in [0, 1), got {self.momentum}")
        if self.clip is not None:
            positive("optimizer.clip", self.clip)
        at_least("optimizer.warmup", self.warmup, 0)
        at_least("optimizer.step_epochs", self.step_epochs, 1)
        share("optimizer.factor", self.factor, one_allowed=False)


@dataclass(frozen=True)
class TrainingRecipe:
    """How long and on what to train.

    Parameters
    ----------
    epochs : int
        Passes over the training pictures, >= 1.
    patience : int, optional
        Stop after so many epochs without a lower validation loss, >= 1; None: never before `epochs`.
    batch_size : int
        Pictures in one step of one device, >= 1.
    accumulate : int
        Batches whose gradients make one step, >= 1: as one batch of them all, with less memory.
    seed : int
        Seed of the weights and of the order of the pictures, >= 0.
    device : str
        ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    devices : int
        GPUs, or processes on the CPU, that share each step, >= 1; a step then sees `devices` x `batch_size`
        x `accumulate` pictures.
    strategy : str
        ``auto`` (``ddp`` for several devices), or ``ddp``: each device has a copy of the network.
    precision : str
        ``32``; ``bf16`` or ``fp16``: the network in mixed precision, head and loss in 32 bits. ``fp16``
        scales the loss so that small gradients survive, and needs a GPU.
    workers : int
        Processes that load pictures; 0 loads them in the training process.
    picture_every : int
        Epochs between two sets of pictures in TensorBoard, >= 1.
    """

    epochs: int = 20
    patience: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Literal["32", "bf16", "fp16"] = "32"
    workers: int = 0
    picture_every: int = 5

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "accumulate", "devices", "picture_every")
        for name in counts:
            at_least(f"training.{name}", getattr(self, name), 1)
        for name in ("seed", "workers"):
            at_least(f"training.{name}", getattr(self, name), 0)
        if self.patience is not None:
            at_least("training.patience", self.patience, 1)
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("training.precision: expected 32 or bf16 on the CPU, got fp16")
