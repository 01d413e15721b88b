"""LAF section 1: weights learned on a volume."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
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
from flowcut.train.reproduce.learn import learn, uniform_labels
from flowcut.train.reproduce.scenes import blobs
from flowcut.vision.panel import colour_values, draw_panel

__all__ = ["KIND", "Settings"]

_SLICES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Parameters
    ----------
    size : int
        Side of the volume in voxels, >= 16.
    labels : int
        J, 2 to 8; their true values are 0, 1, 2, ...
    seed : int
        >= 0.
    noise : float
        Standard deviation, > 0.
    smooth : float
        Typical radius of a region in voxels, > 0.
    window : int
        Odd side.
    learning : Learning
    """

    size: int = 64
    labels: int = 3
    seed: int = 0
    noise: float = 1.0
    smooth: float = 3.0
    window: int = 3
    learning: Learning = field(default_factory=lambda: Learning(time=3.0, steps=10))

    def __post_init__(self) -> None:
        check_least("size", self.size, 16)
        check_least("labels", self.labels, 2)
        check_least("seed", self.seed, 0)
        check_positive("noise", self.noise)
        check_positive("smooth", self.smooth)
        if self.labels > 8:
            raise ValueError(f"labels: expected 2 to 8, got {self.labels}")


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Learn weights of a volume.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    truth = blobs((settings.size,) * 3, settings.labels, settings.seed, settings.smooth)
    generator = torch.Generator().manual_seed(settings.seed)
    volume = truth + settings.noise * torch.randn(truth.shape, generator=generator)
    prototypes = torch.arange(settings.labels, dtype=torch.float32)[:, None]
    distances = label_distances(volume[None, None], prototypes)
    fit = learn(distances, truth[None], settings.learning, workspace, "volume", settings.window)
    uniform = uniform_labels(distances, settings.learning, settings.window)
    alone = float((distances.argmin(dim=1)[0] != truth).double().mean())
    rows = (
        Row("voxels x labels x weights of a voxel", "", f"{settings.size}³ x {settings.labels} x "
            f"{settings.window**3}"),
        Row("wrong voxels, each by itself", "", percent(alone)),
        Row("wrong voxels, uniform weights", "", percent(fit.wrong[0])),
        Row("wrong voxels, learned weights", "\"even 3D volumes\"", percent(fit.wrong[-1])),
        Row("learning", "", f"{fit.seconds[-1]:.1f} s", timed=True),
    )  # fmt: skip
    top = settings.labels - 1
    span = top + 2 * settings.noise
    slices = [int(settings.size * at) for at in _SLICES]
    lowest, highest = float(fit.entropy.min()), float(fit.entropy.max())
    columns = {
        "noisy slices": [_grey((volume[k] + settings.noise) / span) for k in slices],
        "true labels": [_grey(truth[k] / top) for k in slices],
        f"uniform: {percent(fit.wrong[0])} wrong": [_grey(uniform[0, k] / top) for k in slices],
        f"learned: {percent(fit.wrong[-1])} wrong": [_grey(fit.labels[0, k] / top) for k in slices],
        "entropy of weights": [colour_values(fit.entropy[0, k], lowest, highest) for k in slices],
    }
    values = {"alone": alone, "losses": fit.losses, "wrong": fit.wrong}
    return Outcome(rows, values, {"learning": fit.seconds[-1]}, draw_panel(columns, height=192))


def _grey(values: Tensor) -> Tensor:
    return values.float().clamp(0, 1).expand(3, -1, -1)


KIND = Kind("laf_3d", Settings, run)
