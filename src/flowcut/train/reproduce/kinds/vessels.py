"""LAF Fig. 5.1: noisy vessels, uniform and learned weights, and where the learned ones are not uniform."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from flowcut.flow.distances import label_distances
from flowcut.train.reproduce.experiment import (
    Kind,
    Learning,
    Outcome,
    Row,
    Workspace,
    check_least,
    check_positive,
    percent,
)
from flowcut.train.reproduce.learn import first_below, learn, uniform_labels
from flowcut.train.reproduce.scenes import vessels
from flowcut.vision.panel import colour_values, draw_panel

__all__ = ["KIND", "Settings"]

# Pixels this close to the other label see it in their window.
_NEAR = 2


@dataclass(frozen=True)
class Settings:
    """Settings of the figure.

    Parameters
    ----------
    size : tuple of int
        (height, width) in pixels, >= 32.
    seed : int
        Of vessels and noise, >= 0.
    noise : float
        Standard deviation, vessels being 1 and the rest 0; > 0.
    window : int
        Odd side.
    learning : Learning
    """

    size: tuple[int, int] = (256, 256)
    seed: int = 0
    noise: float = 0.5
    window: int = 5
    learning: Learning = field(default_factory=lambda: Learning(time=3.0, steps=10))

    def __post_init__(self) -> None:
        check_least("size", min(self.size), 32)
        check_least("seed", self.seed, 0)
        check_positive("noise", self.noise)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the figure.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    truth = vessels(settings.size, settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    picture = truth + settings.noise * torch.randn(settings.size, generator=generator)
    distances = label_distances(picture[None, None], torch.tensor([[0.0], [1.0]]))
    fit = learn(distances, truth[None], settings.learning, workspace, "vessels", settings.window)
    uniform = uniform_labels(distances, settings.learning, settings.window)
    near = _near_borders(truth)
    entropy = fit.entropy[0]
    inside, outside = float(entropy[near].mean()), float(entropy[~near].mean())
    alone = float((distances.argmin(dim=1)[0] != truth).float().mean())
    reached = first_below(fit, 1e-3)
    rows = (
        Row("wrong pixels, each by itself", "", percent(alone)),
        Row("wrong pixels, uniform weights", "", percent(fit.wrong[0])),
        Row("wrong pixels, learned weights", "< 0.1 %", percent(fit.wrong[-1])),
        Row("steps to 0.1 % wrong", "", str(reached)),
        Row(f"mean entropy of the weights, up to {_NEAR} pixels from a border", "low", f"{inside:.2f} nats"),
        Row("mean entropy of the weights, elsewhere", "high", f"{outside:.2f} nats"),
        Row("learning", "", f"{fit.seconds[-1]:.2f} s", timed=True),
    )
    columns = {
        "noisy vessels": [_grey((picture + 0.75) / 2.5)],
        "true labels": [_grey(truth)],
        f"uniform weights: {percent(fit.wrong[0])} wrong": [_grey(uniform[0])],
        f"learned weights: {percent(fit.wrong[-1])} wrong": [_grey(fit.labels[0])],
        "entropy of the learned weights": [colour_values(entropy, 0.0, math.log(settings.window**2))],
    }
    values = {
        "alone": alone,
        "losses": fit.losses,
        "wrong": fit.wrong,
        "steps_to_0.1_percent": reached,
        "entropy_near_borders": inside,
        "entropy_elsewhere": outside,
        "entropy_uniform": math.log(settings.window**2),
    }
    return Outcome(rows, values, {"learning": fit.seconds[-1]}, draw_panel(columns, height=256))


def _near_borders(labels: Tensor) -> Tensor:
    """(H, W) bool: pixels at most so many away from a pixel of the other label."""
    ones = labels.bool().numpy()
    distance = distance_transform_edt(ones) + distance_transform_edt(~ones)
    return torch.from_numpy(distance <= _NEAR)


def _grey(values: Tensor) -> Tensor:
    return values.float().clamp(0, 1).expand(3, -1, -1)


KIND = Kind("laf_fig_5_1", Settings, run)
