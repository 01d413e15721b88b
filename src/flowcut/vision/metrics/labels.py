"""What every metric asks of predictions and targets."""

from __future__ import annotations

from torch import Tensor

from flowcut.vision.targets import LABEL_DTYPES, split_void


def check_num_classes(num_classes: int) -> None:
    """Refuse fewer than two labels.

    Raises
    ------
    ValueError
        ``num_classes`` is below 2.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: expected 2 or more, got {num_classes}")


def read_labels(
    predictions: Tensor, target: Tensor, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Check a batch and separate the pixels that have a label from the void ones.

    Returns
    -------
    predictions, target : Tensor
        (N, *spatial) int64; ``target`` is 0 at void pixels.
    valid : Tensor
        (N, *spatial) bool, False at void pixels.

    Raises
    ------
    ValueError
        Shapes, types or labels do not fit.
    """
    for name, labels in (("predictions", predictions), ("target", target)):
        if labels.dtype not in LABEL_DTYPES:
            raise ValueError(f"{name}: expected integer labels, got {labels.dtype}")
    if predictions.shape != target.shape or predictions.ndim < 2:
        raise ValueError(
            f"target: expected predictions and target of one shape (N, *spatial), "
            f"got {tuple(predictions.shape)} and {tuple(target.shape)}"
        )
    predictions, _ = split_void(predictions, num_classes, None, "predictions")
    target, valid = split_void(target, num_classes, ignore_index)
    return predictions, target, valid
