"""Fitting a randomized flow inside an experiment: kept when it is done, continued when it was interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from flowcut.core.atomic import atomic_write
from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.fitting import ObjectiveName
from flowcut.joint.gaussian import Covariance
from flowcut.joint.randomized import RandomizedAssignment, Start
from flowcut.train.reproduce.experiment import Workspace, check_least, check_positive

__all__ = ["Fit", "Flow", "fit_flow", "kept"]

_EVERY = 100


@dataclass(frozen=True)
class Flow:
    """A randomized flow and how it is fitted: options of `flowcut.RandomizedAssignment` and of its `fit`.

    Parameters
    ----------
    couplings : str
        ``all``: of all pairs of pixels. ``window``: of pixels in each other's window. ``convolution``:
        between labels, the same for all pixels.
    window : int
        Odd side, >= 3; of no account for all pairs.
    covariance, rank, start, start_covariance, components, time, step, growth, epsilon, initial
        Of the model.
    steps : int
        Of Adam, >= 0. What 0 means is said where a flow is used.
    samples : int
        m >= 2.
    lr, betas
        Of Adam.
    last_time : float, optional
        When labels are drawn at the end of the fit; default ``time``.
    beta, anneal, deepen, memory, objective
        Of the fit.
    """

    couplings: Literal["all", "window", "convolution"] = "all"
    window: int = 5
    covariance: Covariance = "low-rank"
    rank: int = 8
    start: Start = "random"
    start_covariance: Covariance | None = None
    components: int = 16
    time: float = 1.0
    step: float = 0.1
    growth: float = 1.15
    epsilon: float = 1e-3
    initial: Literal["scaled", "paper"] = "scaled"
    steps: int = 1500
    samples: int = 512
    lr: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    last_time: float | None = None
    beta: float = 0.1
    anneal: float = 0.5
    deepen: tuple[float, float] = (0.2, 0.7)
    memory: int = 0
    objective: ObjectiveName = "semi-implicit"

    def check(self, name: str, pixels: int) -> None:
        """Refuse values that are out of their range.

        Parameters
        ----------
        name : str
            Key of this flow in the settings.
        pixels : int
            Of the energy.

        Raises
        ------
        ValueError
            One is.

        Examples
        --------
        >>> Flow(rank=30).check("limit", 24)
        Traceback (most recent call last):
            ...
        ValueError: limit.rank: expected 0 to 24, the number of pixels, got 30
        """
        for key in ("time", "step", "epsilon", "lr", *(["last_time"] if self.last_time is not None else [])):
            check_positive(f"{name}.{key}", getattr(self, key))
        least = {"rank": 0, "components": 1, "steps": 0, "samples": 2, "memory": 0, "window": 3}
        for key, value in least.items():
            check_least(f"{name}.{key}", getattr(self, key), value)
        if self.rank > pixels:
            raise ValueError(f"{name}.rank: expected 0 to {pixels}, the number of pixels, got {self.rank}")
        if self.window % 2 == 0:
            raise ValueError(f"{name}.window: expected an odd side, got {self.window}")
        if not 1 <= self.growth < math.inf:
            raise ValueError(f"{name}.growth: expected a finite number >= 1, got {self.growth}")
        if not 0 < self.beta <= 1:
            raise ValueError(f"{name}.beta: expected a number in (0, 1], got {self.beta}")
        if not all(0 <= value < 1 for value in self.betas):
            raise ValueError(f"{name}.betas: expected two numbers in [0, 1), got {self.betas}")
        if not (0 <= self.anneal <= 1 and 0 <= self.deepen[0] <= self.deepen[1] <= 1):
            shares = f"{self.anneal}, {self.deepen}"
            raise ValueError(f"{name}.anneal, deepen: expected shares in [0, 1] in order, got {shares}")

    def model(self, shape: tuple[int, ...], seed: int) -> RandomizedAssignment:
        """The flow before it is fitted.

        Parameters
        ----------
        shape : tuple of int
            (J, *spatial).
        seed : int
            Of the initial parameters.

        Returns
        -------
        RandomizedAssignment

        Examples
        --------
        >>> Flow(couplings="window", window=3).model((3, 4, 4), seed=0).dynamics.size  # 42 ties, 16 pixels
        58
        """
        axes = len(shape) - 1
        couplings: Neighborhood | int | None = None
        if self.couplings == "convolution":
            couplings = self.window
        elif self.couplings == "window":
            # Every tie once: of two opposite offsets, the one that points forward.
            offsets = Neighborhood.window(axes, self.window).offsets
            couplings = Neighborhood(tuple(offset for offset in offsets if offset > (0,) * axes))
        return RandomizedAssignment(
            shape, couplings, self.covariance, self.rank, self.start, self.start_covariance, self.components,
            self.time, self.step, self.growth, self.epsilon, self.initial, seed,
        )  # fmt: skip


class Fit(NamedTuple):
    """A fitted flow.

    Attributes
    ----------
    model : RandomizedAssignment
    seconds : float
        That it took, over all runs that were resumed.
    """

    model: RandomizedAssignment
    seconds: float


def fit_flow(flow: Flow, energy: PottsEnergy, seed: int, workspace: Workspace, name: str) -> Fit:
    """Fit a flow, or read it where an earlier run of the same experiment has fitted it.

    Parameters
    ----------
    flow : Flow
    energy : PottsEnergy
        One energy.
    seed : int
        Of initial parameters and draws.
    workspace : Workspace
    name : str
        Unique in the experiment.

    Returns
    -------
    Fit
    """
    model = flow.model(energy.shape, seed)
    whole, part = workspace.folder / f"{name}.model.pt", workspace.folder / f"{name}.part.pt"

    def fit() -> dict[str, Any]:
        workspace.say(f"fitting: {name}")
        _warm_up(flow, energy)
        history = model.fit(
            energy, flow.steps, flow.samples, lr=flow.lr, betas=flow.betas, time=flow.last_time,
            beta=flow.beta, anneal=flow.anneal, deepen=flow.deepen, memory=flow.memory,
            objective=flow.objective, seed=seed, checkpoint=part, checkpoint_every=_EVERY,
        )  # fmt: skip
        model.save(whole)
        return {"seconds": history.seconds}

    seconds = kept(workspace, f"{name}.fit", fit)["seconds"]
    part.unlink(missing_ok=True)
    model.load(whole)
    return Fit(model, seconds)


def kept(workspace: Workspace, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Numbers that are made once and read when the experiment is resumed.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Unique in the experiment.
    make : callable
        Makes them; plain values alone.

    Returns
    -------
    dict
    """
    path = workspace.folder / f"{name}.json"
    if not path.exists():
        found = make()
        with atomic_write(path) as file:
            file.write(json.dumps(found).encode())
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known


def _warm_up(flow: Flow, energy: PottsEnergy) -> None:
    """One step of a throw-away model, so that no compilation is timed."""
    model = flow.model(energy.shape, 0)
    model.fit(energy, 1, 2, objective=flow.objective, memory=flow.memory)
    model.sample(2, limit=True)
