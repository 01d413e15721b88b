"""Losses on logits: cross-entropy and Dice, with void pixels and any number of axes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.flow.angle import AngleLoss
from flowcut.vision.targets import check_logits, split_void

__all__ = ["AngleLoss", "CrossEntropyLoss", "DiceLoss", "SegmentationLoss"]

Mode = Literal["binary", "multiclass"]


class SegmentationLoss(nn.Module):
    """What all losses share: modes, void pixels, and the type they are computed in.

    Parameters
    ----------
    mode
        ``"binary"``: one channel of logits, read by a sigmoid, targets 0 and 1.
        ``"multiclass"``: C >= 2 channels, read by a softmax, targets 0 to C - 1.
    ignore_index
        Target value of void pixels. They do not count, and the gradient at them is exactly
        0 whatever the logits there; None: every pixel counts.

    Raises
    ------
    ValueError
        ``mode`` is not one of the two.
    """

    def __init__(self, mode: Mode = "binary", ignore_index: int | None = 255) -> None:
        super().__init__()
        if mode not in ("binary", "multiclass"):
            raise ValueError(f"mode: expected 'binary' or 'multiclass', got {mode!r}")
        self.mode = mode
        self.ignore_index = ignore_index

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"mode={self.mode!r}, ignore_index={self.ignore_index}"

    def prepare(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Check a batch, and take the void pixels out of it.

        Returns
        -------
        logits : Tensor
            (N, C, *spatial), float32 for half types, 0 at void pixels.
        labels : Tensor
            (N, *spatial) int64, 0 at void pixels.
        valid : Tensor
            (N, *spatial) bool, False at void pixels.

        Raises
        ------
        ValueError
            Shapes, types, the number of channels or the labels do not fit.
        """
        check_logits(logits, target)
        channels = logits.shape[1]
        if (channels == 1) != (self.mode == "binary") or channels == 0:
            expected = "1 channel" if self.mode == "binary" else "2 or more channels"
            raise ValueError(f"logits: expected {expected} for mode {self.mode!r}, got {channels}")
        labels, valid = split_void(target, max(channels, 2), self.ignore_index)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        # Selecting before any arithmetic is what makes the void gradient exactly 0.
        return torch.where(valid.unsqueeze(1), logits, 0), labels, valid


class CrossEntropyLoss(SegmentationLoss):
    """Cross-entropy, averaged over the pixels of the batch that have a label.

    Equation (4) of the SoftCut thesis for one channel, its softmax form for several; both
    from logits, so that confident pixels lose no digits. A batch without any labelled
    pixel gives 0 with a gradient of 0. NaN logits at labelled pixels give NaN.

    Parameters
    ----------
    mode
        ``"binary"`` or ``"multiclass"``; see :class:`SegmentationLoss`.
    ignore_index
        Target value of void pixels.

    Examples
    --------
    >>> loss = CrossEntropyLoss()
    >>> logits = torch.zeros(1, 1, 2, 2)
    >>> round(loss(logits, torch.tensor([[[0, 1], [255, 255]]])).item(), 4)  # log 2
    0.6931
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        logits
            (N, C, *spatial) floating point; half types are computed in float32.
        target
            (N, *spatial) integer.

        Returns
        -------
        Tensor
            Scalar >= 0, float32 (float64 for float64 logits).
        """
        logits, labels, valid = self.prepare(logits, target)
        if self.mode == "binary":
            logits = logits[:, 0]
            each = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        else:
            each = F.cross_entropy(logits, labels, reduction="none")
        return torch.where(valid, each, 0).sum() / valid.sum().clamp(min=1)


class DiceLoss(SegmentationLoss):
    """Dice loss with squared denominators, equation (7) of the SoftCut thesis.

    For probabilities p and one-hot targets y of one class,
    Dice = 1 - 2 p.y / (|p|^2 + |y|^2). For several classes the losses of all classes,
    background included, are summed (so that C classes give a loss in [0, C]).

    Where a class is absent from the target, p.y = 0: the loss of that class is 1 and its
    gradient 0, as (7) says; ``smooth`` > 0 makes it learn there too. Where p and y are both
    0 everywhere the loss is 0. Images without any labelled pixel do not count, and a batch
    of such images gives 0 with a gradient of 0. NaN logits at labelled pixels give NaN.

    Parameters
    ----------
    mode
        ``"binary"`` or ``"multiclass"``; see :class:`SegmentationLoss`.
    per_image
        True: the Dice of each image, averaged over the images. False: one Dice over all
        the pixels of the batch.
    ignore_index
        Target value of void pixels.
    smooth
        Added to numerator and denominator, >= 0. The thesis: 0.
    class_reduction
        ``"sum"`` over the classes (the thesis) or their ``"mean"``.

    Raises
    ------
    ValueError
        ``smooth`` is negative, or an argument is none of the named choices.

    Examples
    --------
    >>> loss = DiceLoss()
    >>> target = torch.tensor([[[0, 1], [1, 255]]])
    >>> perfect = (target.unsqueeze(1) == 1) * 200.0 - 100.0
    >>> loss(perfect, target).item()
    0.0
    >>> round(loss(torch.zeros(1, 1, 2, 2), target).item(), 4)  # 1 - 2 (2/2) / (3/4 + 2)
    0.2727
    """

    def __init__(
        self,
        mode: Mode = "binary",
        per_image: bool = True,
        ignore_index: int | None = 255,
        smooth: float = 0.0,
        class_reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(mode, ignore_index)
        if not 0 <= smooth < float("inf"):
            raise ValueError(f"smooth: expected a finite number >= 0, got {smooth}")
        if class_reduction not in ("sum", "mean"):
            raise ValueError(f"class_reduction: expected 'sum' or 'mean', got {class_reduction!r}")
        self.per_image = per_image
        self.smooth = smooth
        self.class_reduction = class_reduction

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return (
            f"{super().extra_repr()}, per_image={self.per_image}, smooth={self.smooth}, "
            f"class_reduction={self.class_reduction!r}"
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        logits
            (N, C, *spatial) floating point; half types are computed in float32.
        target
            (N, *spatial) integer.

        Returns
        -------
        Tensor
            Scalar in [0, 1], or [0, C] for C >= 2 summed classes; float32 (float64 for
            float64 logits).
        """
        logits, labels, valid = self.prepare(logits, target)
        if self.mode == "binary":
            p, y = logits.sigmoid(), labels.unsqueeze(1).to(logits.dtype)
        else:
            p = logits.softmax(dim=1)
            y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        p, y = (torch.where(valid.unsqueeze(1), t, 0).flatten(2) for t in (p, y))
        scored = valid.flatten(1).any(dim=1)
        if not self.per_image:
            p, y = (t.movedim(1, 0).flatten(1).unsqueeze(0) for t in (p, y))
            scored = scored.any().unsqueeze(0)
        loss = self._dice(p, y)
        loss = loss.sum(dim=1) if self.class_reduction == "sum" else loss.mean(dim=1)
        return torch.where(scored, loss, 0).sum() / scored.sum().clamp(min=1)

    def _dice(self, p: Tensor, y: Tensor) -> Tensor:
        """Equation (7) along the last axis of (M, C, pixels)."""
        overlap = 2 * (p * y).sum(dim=-1) + self.smooth
        size = (p * p).sum(dim=-1) + (y * y).sum(dim=-1) + self.smooth
        # `== 0`, not `> 0`: a NaN has to come through.
        nothing = size == 0
        return torch.where(nothing, 0, 1 - overlap / torch.where(nothing, 1, size))
