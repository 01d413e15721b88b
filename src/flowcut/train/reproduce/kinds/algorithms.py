"""LAF Fig. 5.2: the loss by algorithm at equal time, by Krylov dimension, by step size and window."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from flowcut.flow.linear import Gradient
from flowcut.train.reproduce.chart import Chart, Colour, Line, draw_charts
from flowcut.train.reproduce.experiment import Kind, Learning, Outcome, Row, Workspace, check_least
from flowcut.train.reproduce.kinds.noise import noise_problem
from flowcut.train.reproduce.learn import curve

__all__ = ["KIND", "Settings"]

_ALGORITHMS: dict[Gradient, tuple[str, Colour]] = {
    "convolution": ("ours", (200, 40, 40)),
    "paper": ("the paper's form", (235, 150, 30)),
    "autograd-arnoldi": ("autograd, Arnoldi", (30, 110, 190)),
    "autograd-euler": ("autograd, Euler", (40, 140, 70)),
}


@dataclass(frozen=True)
class Settings:
    """Settings of the figure.

    Parameters
    ----------
    size : int
        Side of the noise picture of Fig. 5.3, >= 32.
    seed : int
        >= 0.
    window : int
        Odd side, where it is not varied.
    krylov_dims : tuple of int
        m's that are compared.
    step_sizes : tuple of float
        h's that are compared.
    windows : tuple of int
        Odd sides that are compared.
    euler_steps : int
        Of explicit Euler (3.16), >= 1; chosen so that a gradient takes about as long as the others'.
    learning : Learning
    """

    size: int = 256
    seed: int = 1
    window: int = 5
    krylov_dims: tuple[int, ...] = (2, 3, 5, 10, 15)
    step_sizes: tuple[float, ...] = (0.3, 1.0, 3.0)
    windows: tuple[int, ...] = (3, 5, 7)
    euler_steps: int = 10
    learning: Learning = field(default_factory=lambda: Learning(rho=0.5, time=6.0, steps=30))

    def __post_init__(self) -> None:
        check_least("size", self.size, 32)
        check_least("seed", self.seed, 0)
        for name in ("krylov_dims", "step_sizes", "windows"):
            check_least(f"{name}, their number", len(getattr(self, name)), 1)
        check_least("euler_steps", self.euler_steps, 1)
        check_least("learning.steps", self.learning.steps, 1)


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
    _, distances, target = noise_problem(settings.size, settings.seed, 0.03)
    problem = (distances, target)
    algorithms = _by_algorithm(settings, workspace, problem)
    dims = {
        m: curve(
            *problem, replace(settings.learning, krylov_dim=m), workspace, f"krylov_{m}", settings.window
        )
        for m in settings.krylov_dims
    }
    grid = {
        (window, h): curve(
            *problem, replace(settings.learning, step=h), workspace, f"window_{window}_step_{h:g}", window
        )
        for window in settings.windows
        for h in settings.step_sizes
    }
    equal = _equal_time(algorithms)
    values = {
        "loss_by_algorithm": {name: found["losses"] for name, found in algorithms.items()},
        "exact_loss_by_algorithm": {name: found["exact_loss"] for name, found in algorithms.items()},
        "loss_by_krylov_dim": {str(m): found["losses"] for m, found in dims.items()},
        "loss_by_window_and_step": {f"{k} {h:g}": found["losses"] for (k, h), found in grid.items()},
    }
    seconds: dict[str, float] = {name: found["seconds"][-1] for name, found in algorithms.items()}
    picture = draw_charts(_charts(algorithms, dims, grid))
    return Outcome(_rows(algorithms, dims, grid, equal, settings), values, seconds, picture)


def _by_algorithm(
    settings: Settings, workspace: Workspace, problem: tuple[Tensor, Tensor]
) -> dict[Gradient, dict[str, Any]]:
    euler = replace(settings.learning, krylov_dim=settings.euler_steps)
    return {
        name: curve(
            *problem,
            euler if name == "autograd-euler" else settings.learning,
            workspace,
            name,
            settings.window,
            name,
        )
        for name in _ALGORITHMS
    }


def _equal_time(algorithms: dict[Gradient, dict[str, Any]]) -> dict[str, float]:
    """The loss of each algorithm when the fastest has done its steps."""
    limit = min(found["seconds"][-1] for found in algorithms.values())
    done = {name: sum(s <= limit for s in found["seconds"]) for name, found in algorithms.items()}
    return {name: found["losses"][max(0, done[name] - 1)] for name, found in algorithms.items()}


def _rows(
    algorithms: dict[Gradient, dict[str, Any]],
    dims: dict[int, dict[str, Any]],
    grid: dict[tuple[int, float], dict[str, Any]],
    equal: dict[str, float],
    settings: Settings,
) -> tuple[Row, ...]:
    steps = settings.learning.steps
    limit = min(found["seconds"][-1] for found in algorithms.values())
    last = [found["exact_loss"] for found in algorithms.values()]
    last_grid = [found["losses"][-1] for found in grid.values()]
    rows = [
        Row(
            f"loss after {steps} steps, {label} (of the exact flow)",
            "curves close together",
            f"{algorithms[name]['losses'][-1]:.4f} ({algorithms[name]['exact_loss']:.4f})",
        )
        for name, (label, _) in _ALGORITHMS.items()
    ]
    rows += [
        Row(f"loss at equal time ({limit:.2g} s), {label}", "about equal", f"{equal[name]:.4f}", timed=True)
        for name, (label, _) in _ALGORITHMS.items()
    ]
    rows += [
        Row(f"loss after {steps} steps, m = {m}", "m = 5 is sufficient" if m == 5 else "",
            f"{found['losses'][-1]:.4f}")
        for m, found in dims.items()
    ]  # fmt: skip
    ratio, among = max(last) / min(last), max(last_grid) / min(last_grid)
    rows += [
        Row("largest over smallest loss, algorithms", "negligible beside the next", f"{ratio:.2f}"),
        Row("largest over smallest loss, step sizes and windows", "", f"{among:.1f}"),
    ]
    return tuple(rows)


def _charts(
    algorithms: dict[Gradient, dict[str, Any]],
    dims: dict[int, dict[str, Any]],
    grid: dict[tuple[int, float], dict[str, Any]],
) -> list[Chart]:
    by_time = [
        Line(label, algorithms[name]["seconds"], algorithms[name]["losses"], colour)
        for name, (label, colour) in _ALGORITHMS.items()
    ]
    by_dim = [
        Line(f"m = {m}", range(len(found["losses"])), found["losses"], _shade(i, len(dims)), dashed=i > 2)
        for i, (m, found) in enumerate(dims.items())
    ]
    windows = sorted({window for window, _ in grid})
    sizes = sorted({h for _, h in grid})
    by_setting = [
        Line(
            f"{k}x{k}, h = {h:g}",
            range(len(found["losses"])),
            found["losses"],
            _shade(windows.index(k), len(windows)),
            width=1.0 + sizes.index(h),
            dashed=sizes.index(h) == 0,
        )
        for (k, h), found in grid.items()
    ]
    return [
        Chart("Loss by algorithm", "seconds", by_time),
        Chart("Loss by Krylov dimension", "steps", by_dim),
        Chart("Loss by window and step size", "steps", by_setting),
    ]


def _shade(index: int, count: int) -> Colour:
    """Colours from red over violet to blue and green, equally dark."""
    hue = (1.0 - 0.62 * index / max(1, count - 1)) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


KIND = Kind("laf_fig_5_2", Settings, run)
