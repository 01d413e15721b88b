"""What losses and metrics ask of a target, checked in one place."""

from __future__ import annotations

import torch
from torch import Tensor

LABEL_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_logits(logits: Tensor, target: Tensor, per_channel: bool = False) -> None:
    """Refuse logits and targets whose shapes or types cannot belong together.

    Parameters
    ----------
    logits, target
        What a loss was given.
    per_channel
        Every channel has a target of its own.

    Raises
    ------
    ValueError
        ``logits`` is not floating point (N, C, *spatial), or ``target`` not integer
        (N, *spatial), or (N, C, *spatial) where ``per_channel``.
    """
    if logits.ndim < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits: expected floating point (N, C, *spatial), got {logits.dtype} {tuple(logits.shape)}"
        )
    expected = tuple(logits.shape) if per_channel else (logits.shape[0], *logits.shape[2:])
    if target.dtype not in LABEL_DTYPES or tuple(target.shape) != expected:
        raise ValueError(
            f"target: expected integers of shape {expected} for logits of shape {tuple(logits.shape)}, "
            f"got {target.dtype} {tuple(target.shape)}"
        )


def check_mask(mask: Tensor, logits: Tensor) -> None:
    """Refuse a mask of revealed pixels that does not belong to the logits.

    Raises
    ------
    ValueError
        ``mask`` is not boolean (N, *spatial).
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if mask.dtype != torch.bool or tuple(mask.shape) != expected:
        raise ValueError(f"mask: expected bool of shape {expected}, got {mask.dtype} {tuple(mask.shape)}")


def split_void(
    labels: Tensor,
    num_classes: int,
    ignore_index: int | None,
    name: str = "target",
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Separate the pixels that have a label from the void ones.

    Parameters
    ----------
    labels
        Integer tensor of any shape.
    num_classes
        Labels run from 0 to ``num_classes`` - 1.
    ignore_index
        The value of void pixels, or None where there are none.
    name
        What the error calls the tensor.
    mask
        Bool, of a shape that broadcasts to that of ``labels``: where it is False the pixel
        is void whatever its label, which may then be any number. None: True everywhere.

    Returns
    -------
    labels : Tensor
        int64, 0 at void pixels.
    valid : Tensor
        bool, False at void pixels.

    Raises
    ------
    ValueError
        A value is neither a label nor ``ignore_index``.

    Examples
    --------
    >>> split_void(torch.tensor([0, 255, 1]), 2, 255)
    (tensor([0, 0, 1]), tensor([ True, False,  True]))
    """
    labels = labels.long()
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    if mask is not None:
        valid = valid & mask
    labels = torch.where(valid, labels, 0)
    # A branch on data would split a compiled graph; there the check is left out.
    if not torch.compiler.is_compiling():
        _check_range(labels, num_classes, ignore_index, name)
    return labels, valid


def _check_range(labels: Tensor, num_classes: int, ignore_index: int | None, name: str) -> None:
    if labels.numel() == 0:
        return
    low, high = torch.aminmax(labels)
    if low < 0 or high >= num_classes:
        strange = torch.unique(labels[(labels < 0) | (labels >= num_classes)])[:5].tolist()
        void = "" if ignore_index is None else f" or ignore_index {ignore_index}"
        raise ValueError(f"{name}: expected labels 0 to {num_classes - 1}{void}, got {strange}")
