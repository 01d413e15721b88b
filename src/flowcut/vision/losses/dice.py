"""Dice loss with squared denominators."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from flowcut.vision.losses.base import Mode, SegmentationLoss


class DiceLoss(SegmentationLoss):
    """Dice loss with squared denominators, equation (7) of the SoftCut thesis.

    For probabilities p and memberships y (0 or 1) of one class,
    Dice = 1 - 2 p.y / (|p|^2 + |y|^2). For several channels the losses of all of them,
    background included, are summed (so that C classes give a loss in [0, C]).

    Where a class is absent from the target, p.y = 0: the loss of that class is 1 and its
    gradient 0, as (7) says; ``smooth`` > 0 makes it learn there too. Where p and y are both
    0 everywhere the loss is 0. Images (in mode ``"multilabel"``: channels of an image)
    without any labelled pixel do not count, and a batch of such images gives 0 with a
    gradient of 0. NaN logits at labelled pixels give NaN.

    Parameters
    ----------
    mode
        ``"binary"``, ``"multiclass"`` or ``"multilabel"``; see :class:`SegmentationLoss`.
    per_image
        True: the Dice of each image, averaged over the images. False: one Dice over all
        the pixels of the batch.
    ignore_index
        Target value of void pixels, or None.
    smooth
        Added to numerator and denominator, >= 0. The thesis: 0.
    class_reduction
        ``"sum"`` over the channels (the thesis) or their ``"mean"``.
    include_background
        False leaves label 0 out of sum and mean in mode ``"multiclass"``. The other modes
        have no channel for the background, there it changes nothing.

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
        include_background: bool = True,
    ) -> None:
        super().__init__(mode, ignore_index)
        if not 0 <= smooth < float("inf"):
            raise ValueError(f"smooth: expected a finite number >= 0, got {smooth}")
        if class_reduction not in ("sum", "mean"):
            raise ValueError(f"class_reduction: expected 'sum' or 'mean', got {class_reduction!r}")
        self.per_image = per_image
        self.smooth = smooth
        self.class_reduction = class_reduction
        self.include_background = include_background

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return (
            f"{super().extra_repr()}, per_image={self.per_image}, smooth={self.smooth}, "
            f"class_reduction={self.class_reduction!r}, include_background={self.include_background}"
        )

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        logits
            (N, C, *spatial) floating point; half types are computed in float32.
        target
            (N, *spatial) integer; (N, C, *spatial) in mode ``"multilabel"``.
        mask
            (N, *spatial) bool, True at the pixels that count: pixels that are False are void
            in all channels, whatever their target. None: all.

        Returns
        -------
        Tensor
            Scalar in [0, 1], or [0, C] for C summed channels; float32 (float64 for float64
            logits).
        """
        batch = self.prepare(logits, target, mask)
        p, y = self.probabilities(batch.logits), self.membership(batch)
        p, y = (torch.where(batch.valid, t, 0).flatten(2) for t in (p, y))
        scored = batch.valid.flatten(2).any(dim=2).expand(p.shape[:2])
        if self.mode == "multiclass" and not self.include_background:
            p, y, scored = p[:, 1:], y[:, 1:], scored[:, 1:]
        if not self.per_image:
            p, y = (t.movedim(1, 0).flatten(1).unsqueeze(0) for t in (p, y))
            scored = scored.any(dim=0, keepdim=True)
        loss = torch.where(scored, self._dice(p, y), 0).sum(dim=1)
        if self.class_reduction == "mean":
            loss = loss / scored.sum(dim=1).clamp(min=1)
        return loss.sum() / scored.any(dim=1).sum().clamp(min=1)

    def _dice(self, p: Tensor, y: Tensor) -> Tensor:
        """Equation (7) along the last axis of (M, C, pixels)."""
        overlap = 2 * (p * y).sum(dim=-1) + self.smooth
        size = (p * p).sum(dim=-1) + (y * y).sum(dim=-1) + self.smooth
        # `== 0`, not `> 0`: a NaN has to come through.
        nothing = size == 0
        return torch.where(nothing, 0, 1 - overlap / torch.where(nothing, 1, size))
