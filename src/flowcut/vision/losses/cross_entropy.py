"""Cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from flowcut.vision.losses.base import PixelLoss, Prepared


class CrossEntropyLoss(PixelLoss):
    """Cross-entropy, averaged over the pixels of the batch that have a label.

    Equation (4) of the SoftCut thesis for one channel, its softmax form for several
    classes, the mean of (4) over pixels and channels for several labels a pixel; all from
    logits, so that confident pixels lose no digits. A batch without any labelled pixel
    gives 0 with a gradient of 0. NaN logits at labelled pixels give NaN.

    Parameters
    ----------
    mode
        ``"binary"``, ``"multiclass"`` or ``"multilabel"``; see :class:`SegmentationLoss`.
    ignore_index
        Target value of void pixels, or None.
    class_weight
        One number >= 0 for each label (``"multilabel"``: for each channel), or None. The
        average is then the weighted one, as in :class:`torch.nn.CrossEntropyLoss`.

    Raises
    ------
    ValueError
        ``mode`` is none of the three, or a weight is negative or not finite.

    Examples
    --------
    >>> loss = CrossEntropyLoss()
    >>> logits = torch.zeros(1, 1, 2, 2)
    >>> round(loss(logits, torch.tensor([[[0, 1], [255, 255]]])).item(), 4)  # log 2
    0.6931
    >>> revealed = torch.tensor([[[False, True], [False, False]]])
    >>> round(loss(logits + 1, torch.zeros(1, 2, 2).long(), revealed).item(), 4)  # log(1 + e)
    1.3133
    """

    def each(self, batch: Prepared) -> Tensor:
        """Equation (4) at each pixel."""
        if self.mode == "multiclass":
            return F.cross_entropy(batch.logits, batch.labels[:, 0], reduction="none").unsqueeze(1)
        return F.binary_cross_entropy_with_logits(
            batch.logits, batch.labels.to(batch.logits.dtype), reduction="none"
        )
