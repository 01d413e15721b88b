"""What all losses share: modes, pixels that do not count, and the type they are computed in."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.vision.targets import check_logits, check_mask, split_void

Mode = Literal["binary", "multiclass", "multilabel"]


class Prepared(NamedTuple):
    """A checked batch out of which the void pixels are taken.

    Attributes
    ----------
    logits : Tensor
        (N, C, *spatial), float32 for half types, 0 where void.
    labels : Tensor
        (N, 1, *spatial) int64, or (N, C, *spatial) in mode ``"multilabel"``; 0 where void.
    valid : Tensor
        Bool of the shape of ``labels``, False where void.
    """

    logits: Tensor
    labels: Tensor
    valid: Tensor


class SegmentationLoss(nn.Module):
    """What all losses share.

    Parameters
    ----------
    mode
        ``"binary"``: one channel of logits, read by a sigmoid, labels 0 and 1.
        ``"multiclass"``: C >= 2 channels, read by a softmax, labels 0 to C - 1.
        ``"multilabel"``: C >= 1 channels, each read by a sigmoid of its own; the target has
        the shape of the logits and labels 0 and 1 in every channel.
    ignore_index
        Target value of void pixels. They do not count, and the gradient at them is exactly
        0 whatever the logits there; None: every pixel counts.

    Raises
    ------
    ValueError
        ``mode`` is not one of the three.
    """

    def __init__(self, mode: Mode = "binary", ignore_index: int | None = 255) -> None:
        super().__init__()
        if mode not in ("binary", "multiclass", "multilabel"):
            raise ValueError(f"mode: expected 'binary', 'multiclass' or 'multilabel', got {mode!r}")
        self.mode = mode
        self.ignore_index = ignore_index

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"mode={self.mode!r}, ignore_index={self.ignore_index}"

    def prepare(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Prepared:
        """Check a batch, and take the void pixels out of it.

        Raises
        ------
        ValueError
            Shapes, types, the number of channels or the labels do not fit.
        """
        check_logits(logits, target, per_channel=self.mode == "multilabel")
        channels = logits.shape[1]
        fits = {"binary": channels == 1, "multiclass": channels >= 2, "multilabel": channels >= 1}
        if not fits[self.mode]:
            expected = {"binary": "1 channel", "multiclass": "2 or more channels"}.get(
                self.mode, "1 or more channels"
            )
            raise ValueError(f"logits: expected {expected} for mode {self.mode!r}, got {channels}")
        if self.mode != "multilabel":
            target = target.unsqueeze(1)
        if mask is not None:
            check_mask(mask, logits)
            mask = mask.unsqueeze(1)
        num_labels = channels if self.mode == "multiclass" else 2
        labels, valid = split_void(target, num_labels, self.ignore_index, mask=mask)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        # Selecting before any arithmetic is what makes the void gradient exactly 0.
        return Prepared(torch.where(valid, logits, 0), labels, valid)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, C, *spatial) in [0, 1]: softmax over the channels, or a sigmoid of each."""
        return logits.softmax(dim=1) if self.mode == "multiclass" else logits.sigmoid()

    def membership(self, batch: Prepared) -> Tensor:
        """1 where a pixel belongs to the class of a channel, else 0: (N, C, *spatial)."""
        labels = batch.labels
        if self.mode == "multiclass":
            labels = F.one_hot(labels[:, 0], batch.logits.shape[1]).movedim(-1, 1)
        return labels.to(batch.logits.dtype)


class PixelLoss(SegmentationLoss):
    """A loss of single pixels, averaged over the pixels of the batch that count.

    The average is the weighted one, sum_i w_i loss_i / sum_i w_i, as PyTorch's cross-entropy
    has it; all w_i = 1 without ``class_weight``.

    Parameters
    ----------
    mode, ignore_index
        See :class:`SegmentationLoss`.
    class_weight
        Numbers >= 0, one for each label: two in mode ``"binary"``, C in ``"multiclass"``;
        in ``"multilabel"`` one for each channel. None: all 1.

    Raises
    ------
    ValueError
        An argument is none of the named choices, or a weight is negative or not finite.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        mode: Mode = "binary",
        ignore_index: int | None = 255,
        class_weight: list[float] | tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(mode, ignore_index)
        if class_weight is not None and not all(0 <= w < float("inf") for w in class_weight):
            raise ValueError(f"class_weight: expected finite numbers >= 0, got {list(class_weight)}")
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
        # A setting and no state: it follows the device but stays out of checkpoints.
        self.register_buffer("class_weight", weight, persistent=False)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        weight = None if self.class_weight is None else self.class_weight.tolist()
        return f"{super().extra_repr()}, class_weight={weight}"

    def each(self, batch: Prepared) -> Tensor:
        """The loss of each pixel, of the shape of ``batch.labels``."""
        raise NotImplementedError

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
            Scalar >= 0, float32 (float64 for float64 logits).
        """
        batch = self.prepare(logits, target, mask)
        loss = self.each(batch)
        weight = batch.valid.to(loss.dtype)
        if self.class_weight is not None:
            weight = weight * self._weights(batch).to(loss.dtype)
        total = weight.sum()
        # Selected and not multiplied by 0, which would let a NaN of nobody's concern through.
        return (torch.where(batch.valid, loss, 0) * weight).sum() / torch.where(total > 0, total, 1)

    def _weights(self, batch: Prepared) -> Tensor:
        assert self.class_weight is not None
        channels = batch.logits.shape[1]
        expected = 2 if self.mode == "binary" else channels
        if len(self.class_weight) != expected:
            raise ValueError(
                f"class_weight: expected {expected} numbers for mode {self.mode!r} and {channels} channels, "
                f"got {len(self.class_weight)}"
            )
        if self.mode == "multilabel":
            return self.class_weight.reshape(1, -1, *(1,) * (batch.logits.ndim - 2))
        return self.class_weight[batch.labels]
