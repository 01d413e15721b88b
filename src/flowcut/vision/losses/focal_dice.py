"""Focal Dice loss: Dice of probabilities pushed to the side they are on."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from flowcut.vision.losses.base import Mode
from flowcut.vision.losses.dice import DiceLoss
from flowcut.vision.losses.odds import log_odds


class FocalDiceLoss(DiceLoss):
    r"""Focal Dice loss, equations (27) and (28) of the SoftCut thesis.

    :class:`DiceLoss` of S(p), an s-shaped function that pushes a probability p to 0 or 1,
    whichever side of the ``threshold`` t it is on. Two forms of S:

    - ``"clamp"``: S = u^gamma / (u^gamma + (1 - u)^gamma), u = clamp(p - t + 1/2, 0, 1).
      The printed (27) has a minus in the denominator, which would be a pole at u = 1/2.
    - ``"logits"``: S = sigmoid(gamma (l - log(t / (1 - t)))), l = log(p / (1 - p)).

    With t = 1/2 the forms are one: u = p, and p^gamma / (p^gamma + (1 - p)^gamma) =
    1 / (1 + exp(-gamma l)). For two labels (and several labels a pixel) this loss is then
    Dice at the temperature 1 / gamma, which a last linear layer can absorb by making its
    weights gamma times larger: what it changes is the course of training and not what can
    be expressed. With t != 1/2 the clamped form gives no gradient where u is cut off: for
    t > 1/2 at all pixels with p < t - 1/2, for t < 1/2 at all with p > t + 1/2. Confident
    errors are among them; ``"logits"`` gives every pixel a gradient.

    In mode ``"multiclass"`` S transforms the softmax probability of each class, against all
    others together (l = log p_c / (1 - p_c)); with three or more classes the results do not
    sum to 1, and this is no temperature of the softmax.

    Parameters
    ----------
    mode
        ``"binary"``, ``"multiclass"`` or ``"multilabel"``; see :class:`SegmentationLoss`.
    gamma
        > 0; 1 with threshold 1/2 is Dice. The thesis: 2.
    threshold
        t in (0, 1). The thesis: 1/2.
    form
        ``"clamp"`` (the thesis) or ``"logits"``.
    per_image, ignore_index, smooth, class_reduction, include_background
        As in :class:`DiceLoss`.

    Raises
    ------
    ValueError
        A number is out of its range, or an argument is none of the named choices.

    Examples
    --------
    >>> logits, target = torch.tensor([[[0.3, -0.8, 2.0]]]), torch.tensor([[1, 0, 1]])
    >>> torch.allclose(FocalDiceLoss(gamma=2.0)(logits, target), DiceLoss()(2 * logits, target))
    True
    """

    def __init__(
        self,
        mode: Mode = "binary",
        gamma: float = 2.0,
        threshold: float = 0.5,
        form: Literal["clamp", "logits"] = "clamp",
        per_image: bool = True,
        ignore_index: int | None = 255,
        smooth: float = 0.0,
        class_reduction: Literal["sum", "mean"] = "sum",
        include_background: bool = True,
    ) -> None:
        super().__init__(mode, per_image, ignore_index, smooth, class_reduction, include_background)
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma: expected a finite number > 0, got {gamma}")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: expected a number in (0, 1), got {threshold}")
        if form not in ("clamp", "logits"):
            raise ValueError(f"form: expected 'clamp' or 'logits', got {form!r}")
        self.gamma = gamma
        self.threshold = threshold
        self.form = form

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"{super().extra_repr()}, gamma={self.gamma}, threshold={self.threshold}, form={self.form!r}"

    def probabilities(self, logits: Tensor) -> Tensor:
        """S of the probability of each channel: (N, C, *spatial) in [0, 1]."""
        # At 1/2 the forms are one, and the one on logits keeps all digits.
        if self.form == "clamp" and self.threshold != 0.5:
            return self._clamped(super().probabilities(logits))
        odds = log_odds(logits) if self.mode == "multiclass" else logits
        shift = math.log(self.threshold) - math.log1p(-self.threshold)
        return torch.sigmoid(self.gamma * (odds - shift))

    def _clamped(self, p: Tensor) -> Tensor:
        """Equation (27) with a plus: u^g / (u^g + (1 - u)^g) = sigmoid(g log(u / (1 - u)))."""
        u = p - self.threshold + 0.5
        # Replaced before the logarithm, so that no infinite slope meets a zero; NaN is in neither.
        low, high = u <= 0, u >= 1
        inside = torch.where(low | high, 0.5, u)
        s = torch.sigmoid(self.gamma * (inside.log() - torch.log1p(-inside)))
        return torch.where(low, 0, torch.where(high, 1, s))
