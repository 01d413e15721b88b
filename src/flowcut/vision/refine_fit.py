"""The few numbers of a refiner fitted by gradient to a few labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_finite, check_floating
from flowcut.vision.losses import CrossEntropyLoss, DiceLoss
from flowcut.vision.pictures import VOID

__all__ = ["RefinerFit", "fit_refiner"]

Pictures = Tensor | Sequence[Tensor]
Loss = Literal["cross_entropy", "dice"]
_LOSSES = {"cross_entropy": CrossEntropyLoss, "dice": DiceLoss}


class RefinerFit(NamedTuple):
    """How a fit went.

    Attributes
    ----------
    losses
        On the given pictures: before the first step, and after each.
    best
        Index of the lowest, which the refiner was left at; 0 where no step was better than none.
    """

    losses: list[float]
    best: int


def fit_refiner(
    refiner: nn.Module,
    logits: Pictures,
    images: Pictures,
    targets: Pictures,
    *,
    loss: Loss | nn.Module = "cross_entropy",
    steps: int = 30,
    lr: float = 0.25,
) -> RefinerFit:
    """Fit the parameters of a refiner, and leave it at the best that was seen.

    Adam on all pictures at once, so that nothing is drawn at random. What it ends with is not worse on these
    pictures than what it began with.

    Parameters
    ----------
    refiner
        :class:`flowcut.vision.refine.Refiner`, or any module that is called with logits (1, C, *spatial) and
        a picture (1, channels, *spatial) and returns logits. Where it has a method ``relaxation`` that is
        called instead: a hard head has no gradient, and is fitted through total variation.
    logits, images, targets
        (N, C, *spatial), (N, channels, *spatial) and integers (N, *spatial), 255 where there is no label; or
        sequences of N tensors without the first axis, whose sizes may differ. Take pictures that the network
        was not trained on: where it is never wrong there is nothing to be learned about cleaning up.
    loss
        "cross_entropy", "dice", or a module called with logits and targets. Every picture counts alike.
    steps
        >= 0.
    lr
        Learning rate of Adam, > 0: in one step no number changes by more than about this share.

    Returns
    -------
    RefinerFit

    Raises
    ------
    TypeError
        ``logits`` or ``images`` are not floating point.
    ValueError
        Numbers or sizes of pictures differ, a value is NaN or infinite, no pixel is labelled, the refiner has
        no parameters, an option is out of its range, or the first loss is not finite.

    Examples
    --------
    >>> from flowcut.vision.refine import Refiner
    >>> image = torch.tensor([[[[0.9, 0.9, 0.9, 0.1, 0.1]]]])
    >>> logits, target = torch.tensor([[[[2.0, -1.0, 2.0, -2.0, 0.5]]]]), torch.tensor([[[1, 1, 1, 0, 0]]])
    >>> refiner = Refiner("soft_cut")
    >>> fit = fit_refiner(refiner, logits, image, target, steps=20)
    >>> fit.losses[fit.best] < fit.losses[0]
    True
    """
    if steps < 0 or isinstance(steps, bool):
        raise ValueError(f"steps: expected an integer >= 0, got {steps}")
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr: expected a finite number > 0, got {lr}")
    parameters = [p for p in refiner.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("refiner: expected parameters that ask for a gradient, got none")
    items = list(_items(logits, images, targets))
    refined = getattr(refiner, "relaxation", refiner)
    judge = _loss(loss, items[0][0].shape[1])

    def evaluate() -> float:
        """The loss; its gradient is left with the parameters."""
        total = 0.0
        for scores, image, target in items:
            one = judge(refined(scores, image), target) / len(items)
            one.backward()
            total += one.item()
        return total

    return _descend(parameters, evaluate, steps, lr)


def _descend(
    parameters: list[nn.Parameter], evaluate: Callable[[], float], steps: int, lr: float
) -> RefinerFit:
    """Adam, ending at the lowest loss."""
    optimizer = torch.optim.Adam(parameters, lr)
    losses: list[float] = []
    best, kept = 0, [p.detach().clone() for p in parameters]
    for step in range(steps + 1):
        optimizer.zero_grad()
        losses.append(evaluate())
        if not math.isfinite(losses[0]):
            raise ValueError(f"loss: expected a finite number before the first step, got {losses[0]}")
        if losses[step] < losses[best]:
            best, kept = step, [p.detach().clone() for p in parameters]
        # From what is not finite no step leads back.
        if not all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in parameters):
            break
        if step < steps:
            optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return RefinerFit(losses, best)


def _items(logits: Pictures, images: Pictures, targets: Pictures) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of one, checked; pictures without a label are left out."""
    if not len(logits) == len(images) == len(targets):
        raise ValueError(
            "logits: expected as many pictures as images and targets, got "
            f"{len(logits)}, {len(images)} and {len(targets)}"
        )
    labelled = 0
    for i, (scores, image, target) in enumerate(zip(logits, images, targets, strict=True)):
        for name, value in (("logits", scores), ("images", image)):
            check_floating(f"{name}[{i}]", value)
            check_finite(f"{name}[{i}]", value)
        if not scores.shape[1:] == image.shape[1:] == target.shape:
            raise ValueError(
                f"targets[{i}]: expected the size of logits and image, {tuple(scores.shape[1:])} and "
                f"{tuple(image.shape[1:])}, got {tuple(target.shape)}"
            )
        if bool((target != VOID).any()):
            labelled += 1
            yield scores[None].detach(), image[None], target[None]
    if not labelled:
        raise ValueError("targets: expected labelled pixels, got none")


def _loss(loss: Loss | nn.Module, channels: int) -> nn.Module:
    if isinstance(loss, nn.Module):
        return loss
    if loss not in _LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(_LOSSES)} or a module, got {loss!r}")
    return _LOSSES[loss]("binary" if channels == 1 else "multiclass")
