"""The angle between a flow and the direction of the labels it should end in (LAF (4.1))."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_floating


def angle_loss(value: Tensor, target: Tensor, ignore_index: int | None = 255) -> Tensor:
    r"""1 - <V*, V> / (|V*| |V|), averaged over the items (LAF (4.1)).

    Rounding looks at the direction of V alone, and so does this loss. The direction of a label j is
    V* = e_j - 1/J at every pixel (Exp^{-1} of a vertex would be infinite).

    Parameters
    ----------
    value
        (N, J, *spatial): V, or logits, of sum zero over the labels.
    target
        (N, *spatial) integer labels 0 to J - 1.
    ignore_index
        Pixels with this target do not count. None: there are none.

    Returns
    -------
    Tensor
        Scalar in [0, 2]. An item whose V is zero everywhere has angle 90 degrees, 1, and no gradient; one
        that is void everywhere counts as 0.

    Raises
    ------
    TypeError
        ``value`` is not floating point, or ``target`` is.
    ValueError
        Shapes do not match, or a label is outside the range.

    Examples
    --------
    >>> V = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    >>> angle_loss(V, torch.tensor([[0, 1]])).item(), round(angle_loss(V, torch.tensor([[0, 0]])).item(), 4)
    (0.0, 1.0)
    """
    valid, labels = read_target(value, target, ignore_index)
    labels = labels[:, None]
    # <V*, V> = sum of V at the label minus its mean over the labels; |V*|^2 = pixels (1 - 1/J).
    centred = value - value.mean(dim=1, keepdim=True)
    masked = torch.where(valid[:, None], centred, 0)
    inner = masked.gather(1, labels).flatten(1).sum(dim=1)
    square = masked.square().flatten(1).sum(dim=1)
    count = valid.flatten(1).sum(dim=1).to(value.dtype) * (1 - 1 / value.shape[1])
    product = square * count
    cosine = inner * torch.where(product > 0, product, 1).rsqrt()
    loss = torch.where(product > 0, 1 - cosine, (count > 0).to(value.dtype))
    return loss.sum() / max(1, len(loss))


class AngleLoss(nn.Module):
    """:func:`angle_loss` as a module.

    Parameters
    ----------
    ignore_index
        As in :func:`angle_loss`.

    Examples
    --------
    >>> AngleLoss()(torch.tensor([[[2.0], [-2.0]]]), torch.tensor([[1]])).item()
    2.0
    """

    def __init__(self, ignore_index: int | None = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, value: Tensor, target: Tensor) -> Tensor:
        """See :func:`angle_loss`."""
        return angle_loss(value, target, self.ignore_index)

    def extra_repr(self) -> str:
        """What is ignored."""
        return f"ignore_index={self.ignore_index}"


def read_target(value: Tensor, target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Which pixels count, (N, *spatial) bool, and their labels, 0 elsewhere.

    Raises
    ------
    TypeError, ValueError
        As in :func:`angle_loss`.
    """
    check_floating("value", value)
    if target.dtype.is_floating_point or target.dtype.is_complex:
        raise TypeError(f"target: expected an integer tensor, got {target.dtype}")
    if target.shape != (value.shape[0], *value.shape[2:]):
        raise ValueError(
            f"target: expected shape {(value.shape[0], *value.shape[2:])}, got {tuple(target.shape)}"
        )
    labels = target.long()
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    labels = torch.where(valid, labels, 0)
    if labels.numel():
        low, high = (int(v) for v in torch.aminmax(labels))
        if low < 0 or high >= value.shape[1]:
            raise ValueError(f"target: expected labels 0 to {value.shape[1] - 1}, got {low} to {high}")
    return valid, labels
