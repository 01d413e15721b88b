"""The part of `flowcut demo` that starts from pure noise: weights of an assignment flow are learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowcut.flow.distances import label_distances
from flowcut.flow.learning import learn_weights
from flowcut.flow.weight_fit import WeightFit
from flowcut.train.reproduce.scenes import multi_scale
from flowcut.vision.panel import colour_weights, encode_png

__all__ = ["learn_from_noise"]

# Blue, green, yellow, orange, red, magenta: the labels of Fig. 5.3 of the paper.
_COLOURS = torch.tensor([[0, 0, 1], [0, 0.6, 0], [1, 1, 0], [1, 0.55, 0], [0.9, 0, 0], [1, 0, 1]])
_SETTING: dict[str, Any] = {"rho": 0.5, "time": 6.0, "window": 5}


def learn_from_noise(size: int, steps: int, seed: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Learn weights with which a linear assignment flow turns noise into a given labeling.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    steps : int
        Steps of the descent.
    seed : int
        Seed of noise and labels.

    Returns
    -------
    dict, dict
        Numbers for ``demo.json``, and PNG files by title.
    """
    noise = torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))
    target = multi_scale((size, size), len(_COLOURS), seed)
    distances = label_distances(noise[None], _COLOURS)
    labels: list[Tensor] = []

    def keep(so_far: WeightFit) -> None:
        labels.append(so_far.labels[0])

    fit = learn_weights(distances, target[None], **_SETTING, steps=steps, callback=keep)
    numbers = {
        **_SETTING,
        "size": size,
        "labels": len(_COLOURS),
        "steps": fit.steps,
        "wrong_uniform": fit.wrong[0],
        "wrong_learned": fit.wrong[-1],
        "seconds": fit.seconds[-1],
    }
    pictures = {
        "pure noise": noise,
        "labels to learn": _paint(target),
        "uniform weights": _paint(labels[0]),
        "learned weights": _paint(labels[-1]),
        "entropy of the learned weights": colour_weights(fit.weights[0]),
    }
    return numbers, {title: encode_png(picture) for title, picture in pictures.items()}


def _paint(labels: Tensor) -> Tensor:
    return _COLOURS[labels].movedim(-1, 0)
