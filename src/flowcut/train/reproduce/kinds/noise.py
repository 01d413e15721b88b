"""LAF Fig. 5.3: a picture made of pure noise by weights alone, and the flow applied again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from flowcut.flow.distances import label_distances
from flowcut.flow.linear import integrate_linear_flow
from flowcut.flow.rounding import round_assignment
from flowcut.flow.weight_fit import WeightFit
from flowcut.train.reproduce.experiment import Kind, Learning, Outcome, Row, Workspace, check_least, percent
from flowcut.train.reproduce.learn import first_below, learn, uniform_labels
from flowcut.train.reproduce.scenes import multi_scale
from flowcut.vision.panel import draw_panel

__all__ = ["COLOURS", "KIND", "Settings", "noise_problem"]

# Blue, green, yellow, orange, red, magenta.
COLOURS = torch.tensor(
    [[0.0, 0.0, 1.0], [0.0, 0.8, 0.0], [1.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
)
_ORANGE = 3


@dataclass(frozen=True)
class Settings:
    """Settings of the figure.

    Parameters
    ----------
    size : int
        Side in pixels, >= 32.
    seed : int
        Of noise and labels, >= 0.
    orange : float
        Share of the orange pixels, in (0, 1/6]. Averaged noise is grey, orange is the label nearest to
        grey: uniform weights are right where the true label is orange.
    window, larger : int
        Odd sides of two windows.
    more_steps : int
        Of learning with the larger window, and with the result as data; >= 0.
    again_time, again : float, int
        The flow is linearised anew at its last state and run for another such time, so many times.
    learning : Learning
    """

    size: int = 512
    seed: int = 1
    orange: float = 0.03
    window: int = 5
    larger: int = 7
    more_steps: int = 20
    again_time: float = 1.0
    again: int = 2
    learning: Learning = field(
        default_factory=lambda: Learning(rho=0.5, time=6.0, steps=40, stop_below=0.0099)
    )

    def __post_init__(self) -> None:
        check_least("size", self.size, 32)
        check_least("seed", self.seed, 0)
        check_least("again", self.again, 1)
        check_least("more_steps", self.more_steps, 0)
        if not 0 < self.orange <= 1 / 6:
            raise ValueError(f"orange: expected a share in (0, 1/6], got {self.orange}")


def noise_problem(size: int, seed: int, orange: float) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform noise in RGB, its distances to the six colours, and labels it has nothing to do with.

    Parameters
    ----------
    size, seed, orange
        As in :class:`Settings`.

    Returns
    -------
    noise, distances, target : Tensor
        (3, size, size); (1, 6, size, size); (1, size, size) int64.
    """
    noise = torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))
    target = multi_scale((size, size), len(COLOURS), seed, (_ORANGE, orange))
    return noise, label_distances(noise[None], COLOURS), target[None]


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
    noise, distances, target = noise_problem(settings.size, settings.seed, settings.orange)
    learning = settings.learning
    more = replace(learning, steps=settings.more_steps, stop_below=None)
    fit = learn(distances, target, learning, workspace, "window", settings.window)
    larger = learn(distances, target, more, workspace, "larger", settings.larger)
    uniform = uniform_labels(distances, learning, settings.window)
    balanced = multi_scale((settings.size, settings.size), len(COLOURS), settings.seed)
    again = _again(distances, fit, settings)
    # The result as data, with weights learned for it: the flow applied to what it has made.
    second = learn(1 - _assignment(fit.value), target, more, workspace, "second", settings.window)
    shares = {
        "uniform": _wrong(uniform, target),
        "uniform_balanced": _wrong(uniform, balanced[None]),
        "learned": fit.wrong[-1],
        "larger_window": larger.wrong[-1],
        "again": _wrong(again, target),
        "second_flow": second.wrong[-1],
    }
    columns = {
        "noise": [noise],
        f"uniform weights: {percent(shares['uniform'])} wrong": [_colour(uniform)],
        f"learned weights: {percent(shares['learned'])} wrong": [_colour(fit.labels)],
        "wrong pixels": [_mistakes(fit.labels, target)],
        f"wrong after a second flow: {percent(shares['second_flow'])}": [_mistakes(second.labels, target)],
    }
    fits = {"window": fit, "larger": larger, "second_flow": second}
    values = {
        **shares,
        "steps": {name: one.steps for name, one in fits.items()},
        "steps_to_1_percent": {name: first_below(one, 0.01) for name, one in fits.items()},
        "wrong_by_step": {name: one.wrong for name, one in fits.items()},
    }
    seconds = {name: one.seconds[-1] for name, one in fits.items()}
    return Outcome(_rows(settings, shares, fits), values, seconds, draw_panel(columns, height=288))


def _rows(settings: Settings, shares: dict[str, float], fits: dict[str, WeightFit]) -> tuple[Row, ...]:
    fit, larger, second = fits["window"], fits["larger"], fits["second_flow"]
    small, large = f"{settings.window}x{settings.window}", f"{settings.larger}x{settings.larger}"
    reached = first_below(fit, 0.01)
    return (
        Row("wrong pixels, uniform weights", "> 90 %", percent(shares["uniform"])),
        Row("the same, all labels equally frequent", "", percent(shares["uniform_balanced"])),
        Row(f"wrong pixels, learned weights {small}", "well below 1 %",
            f"{percent(shares['learned'])} after {fit.steps} steps"),
        Row("learning it", "< 10 s", f"{fit.seconds[-1]:.1f} s", timed=True),
        Row("learning to less than 1 %", "",
            "-" if reached is None else f"{fit.seconds[reached]:.1f} s, {reached} steps", timed=True),
        Row(f"a larger neighborhood, {large}", "corrects the rest",
            f"{percent(shares['larger_window'])} after {larger.steps} steps"),
        Row("learning it, larger neighborhood", "", f"{larger.seconds[-1]:.1f} s", timed=True),
        Row(f"linearised {settings.again} more times at the last state, T = {settings.again_time:g}",
            "corrects the rest", percent(shares["again"])),
        Row("the flow applied to its result, weights learned anew", "corrects the rest",
            f"{percent(shares['second_flow'])} after {second.steps} steps"),
    )  # fmt: skip


def _again(distances: Tensor, fit: WeightFit, settings: Settings) -> Tensor:
    """Labels after more linearisations, each at the last state, (1, H, W)."""
    logits = len(COLOURS) * fit.value
    moved = integrate_linear_flow(
        distances,
        fit.weights,
        settings.learning.rho,
        settings.again_time,
        settings.learning.krylov_dim,
        initial_logits=logits,
        relinearizations=settings.again - 1,
    )
    return round_assignment(logits + moved)


def _assignment(value: Tensor) -> Tensor:
    """W = Exp(V) at the barycenter (2.7a)."""
    return (value.shape[1] * value).softmax(dim=1)


def _wrong(labels: Tensor, target: Tensor) -> float:
    return float((labels != target).double().mean())


def _colour(labels: Tensor) -> Tensor:
    return COLOURS[labels[0]].movedim(-1, 0)


def _mistakes(labels: Tensor, target: Tensor) -> Tensor:
    """Wrong pixels in black on a pale picture of the right labels; each stands out by its neighbours."""
    pale = 0.75 + 0.25 * _colour(target)
    wrong = (labels != target).float()
    # One pixel would be lost when the picture is reduced.
    seen = torch.nn.functional.max_pool2d(wrong[None], 3, stride=1, padding=1)[0, 0]
    return pale * (1 - seen)


KIND = Kind("laf_fig_5_3", Settings, run)
