"""Focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flowcut.vision.losses.base import Mode, PixelLoss, Prepared
from flowcut.vision.losses.odds import log_odds


class FocalLoss(PixelLoss):
    r"""Focal loss, equation (26) of the SoftCut thesis, averaged over the labelled pixels.

    -(1 - p)^gamma log p, with p the probability of the pixel's own label: cross-entropy
    that counts pixels less the surer they are of what is right. ``gamma`` = 0 is
    cross-entropy. (26) is written for two labels; for several classes p is the softmax
    probability of the label, and for several labels a pixel (26) holds in each channel.

    A batch without any labelled pixel gives 0 with a gradient of 0. NaN logits at labelled
    pixels give NaN.

    Parameters
    ----------
    mode
        ``"binary"``, ``"multiclass"`` or ``"multilabel"``; see :class:`SegmentationLoss`.
    gamma
        >= 0.
    ignore_index
        Target value of void pixels, or None.
    class_weight
        As in :class:`CrossEntropyLoss`. (26) has none.

    Raises
    ------
    ValueError
        ``gamma`` is negative or not finite, or an argument is none of the named choices.

    Examples
    --------
    >>> loss = FocalLoss(gamma=2.0)
    >>> round(loss(torch.zeros(1, 1, 3), torch.tensor([[0, 1, 255]])).item(), 4)  # (1/2)^2 log 2
    0.1733
    """

    def __init__(
        self,
        mode: Mode = "binary",
        gamma: float = 2.0,
        ignore_index: int | None = 255,
        class_weight: list[float] | tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(mode, ignore_index, class_weight)
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma: expected a finite number >= 0, got {gamma}")
        self.gamma = gamma

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"{super().extra_repr()}, gamma={self.gamma}"

    def each(self, batch: Prepared) -> Tensor:
        """Equation (26) at each pixel.

        With z the log-odds of the right label, log p = log sigmoid(z) and
        log (1 - p) = log sigmoid(-z), neither of which loses digits at either end.
        """
        if self.mode == "multiclass":
            z = log_odds(batch.logits).gather(1, batch.labels)
        else:
            z = torch.where(batch.labels == 1, batch.logits, -batch.logits)
        return torch.exp(self.gamma * F.logsigmoid(-z)) * -F.logsigmoid(z)
