"""Optimizers and learning rates of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from flowcut.train.recipe import OptimizerRecipe

__all__ = ["build_optimizer", "build_schedules", "rate"]


def build_optimizer(recipe: OptimizerRecipe, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the optimizer of a recipe.

    Parameters
    ----------
    recipe : OptimizerRecipe
    parameters : iterable of Parameter

    Returns
    -------
    Optimizer
    """
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.kind == "adagrad":
        return torch.optim.Adagrad(parameters, **common)
    if recipe.kind == "adamw":
        return torch.optim.AdamW(parameters, **common)
    if recipe.kind == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **common)
    return torch.optim.Adam(parameters, **common)


def rate(recipe: OptimizerRecipe, step: int, steps: int, epochs: int) -> float:
    """Learning rate of a step, as a share of `optimizer.lr`; a function of its number alone.

    Parameters
    ----------
    recipe : OptimizerRecipe
        With a schedule other than ``plateau``.
    step : int
        From 0.
    steps, epochs : int
        Of the whole training, >= 1.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> cosine = OptimizerRecipe(schedule="cosine", warmup=1)
    >>> [round(rate(cosine, step, steps=6, epochs=3), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    warmup = recipe.warmup * steps // epochs
    if step < warmup:
        return (step + 1) / warmup
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2
    if recipe.schedule == "step":
        return recipe.factor ** (step * epochs // steps // recipe.step_epochs)
    return 1.0


def build_schedules(
    recipe: OptimizerRecipe, optimizer: Optimizer, steps: int, epochs: int
) -> list[dict[str, Any]]:
    """Make what changes the learning rate, as Lightning wants it described.

    Parameters
    ----------
    recipe : OptimizerRecipe
    optimizer : Optimizer
    steps, epochs : int
        Of the whole training, >= 1.

    Returns
    -------
    list of dict
        Empty for a constant rate.
    """
    if recipe.schedule != "plateau":
        if recipe.schedule == "constant" and not recipe.warmup:
            return []
        smooth = LambdaLR(optimizer, lambda step: rate(recipe, step, steps, epochs))
        return [{"scheduler": smooth, "interval": "step"}]
    # These two multiply what they find, so that either leaves the other's work alone.
    plateau = ReduceLROnPlateau(optimizer, factor=recipe.factor, patience=recipe.step_epochs)
    schedules: list[dict[str, Any]] = [{"scheduler": plateau, "interval": "epoch", "monitor": "val_loss"}]
    warmup = recipe.warmup * steps // epochs
    if warmup > 1:
        growing = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        schedules.append({"scheduler": growing, "interval": "step"})
    return schedules
