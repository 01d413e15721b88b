"""Fitting a randomized flow to an energy: Adam with two schedules, resumable."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time as clock
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from flowcut.core.records import read_record, write_record
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.objective import Objective, log_assignments, paper_objective, semi_implicit

_VERSION = 1
_OBJECTIVES = {"semi-implicit": semi_implicit, "paper": paper_objective}
ObjectiveName = Literal["semi-implicit", "paper"]


@dataclass
class FitHistory:
    """What was seen while a model was fitted.

    Attributes
    ----------
    step
        Steps done.
    seconds
        Time spent, over all runs that were resumed.
    free_energy
        Estimate of E_P[beta E + log P] at every step; comparable where beta = 1.

    Examples
    --------
    >>> FitHistory(2, 0.1, [1.5, 1.2]).free_energy[-1]
    1.2
    """

    step: int = 0
    seconds: float = 0.0
    free_energy: list[float] = field(default_factory=list)


class Draw(NamedTuple):
    """Samples of what a flow is made of, samples last.

    Attributes
    ----------
    start
        (C, n, M): logits at time 0.
    couplings
        (D, M).
    """

    start: Tensor
    couplings: Tensor


class RandomizedFlow(Protocol):
    """What a fit needs of a model."""

    time: float

    def draw(self, count: int, generator: torch.Generator, stratified: bool = False) -> Draw:
        """Starts and couplings."""

    def logits(self, draw: Draw, time: float | None = None) -> Tensor:
        """(C, n, M) at a time."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is fitted."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take it over."""


def fit_model(
    model: RandomizedFlow,
    energy: PottsEnergy,
    steps: int,
    samples: int,
    lr: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
    time: float | None = None,
    beta: float = 0.1,
    anneal: float = 0.5,
    deepen: tuple[float, float] = (0.2, 0.7),
    memory: int = 0,
    objective: ObjectiveName = "semi-implicit",
    seed: int = 0,
    progress: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int = 200,
    callback: Callable[[FitHistory], bool | None] | None = None,
) -> FitHistory:
    """Fit a model to one energy, in place.

    Parameters
    ----------
    model
        A :class:`flowcut.RandomizedAssignment`.
    energy
        One energy of its shape.
    steps
        Steps of Adam in all, >= 0.
    samples
        Flows drawn in each, m >= 2. The law is estimated by a mixture of so many products: more give a
        tighter bound.
    lr, betas
        Of Adam. The rate is held until ``anneal`` and then falls as a cosine to 0.
    time
        When labels are drawn at the end of the fit; the model's is set to it. Later times bring S(t)
        nearer to its limit. Default: as it is.
    beta, anneal
        The inverse temperature grows geometrically from ``beta`` to 1 over this share of the steps, so that
        modes are found before they are sharp.
    deepen
        Shares of the steps between which the time grows geometrically to its last value.
    memory
        How many steps' draws join the mixture that estimates P; worth its time where S(t) is nearly
        integral. Not used by the paper's objective.
    objective
        "semi-implicit" or "paper", see :mod:`flowcut.joint.objective`.
    seed
        Of all draws.
    progress
        Print a line to standard error.
    checkpoint, checkpoint_every
        A file that the fit continues from if it exists, written every so many steps. A fit that was
        interrupted gives the same result.
    callback
        Called after every step; the fit ends early when it returns True.

    Returns
    -------
    FitHistory
        What was estimated.

    Raises
    ------
    ValueError
        A number is out of its range, the checkpoint belongs to another fit, or the loss is not finite.
    """
    last = model.time if time is None else float(time)
    _check(steps, samples, lr, last, beta, anneal, deepen, memory, objective, checkpoint_every)
    schedule = _Schedule(steps, lr, (model.time, last), beta, anneal, deepen)
    identity: dict[str, object] = {
        "energy": _fingerprint(energy),
        "steps": steps,
        "samples": samples,
        "lr": lr,
        "betas": list(betas),
        "time": last,
        "beta": beta,
        "anneal": anneal,
        "deepen": list(deepen),
        "memory": memory,
        "objective": objective,
    }
    run = _Run(model, betas, seed, memory, identity)
    if checkpoint is not None:
        run.read(checkpoint)
    energy = energy.to(dtype=next(model.parameters()).dtype)
    began, spent = clock.perf_counter(), run.history.seconds
    while run.history.step < steps:
        value = run.advance(energy, samples, schedule, _OBJECTIVES[objective])
        run.history.seconds = spent + clock.perf_counter() - began
        if progress and (run.history.step % 10 == 0 or run.history.step == steps):
            print(f"\rstep {run.history.step}/{steps}: free energy {value:.4f} ", end="", file=sys.stderr)
        if checkpoint is not None and run.history.step % checkpoint_every == 0:
            run.write(checkpoint)
        if callback is not None and callback(run.history):
            break
    if progress:
        print(file=sys.stderr)
    model.time = last
    return run.history


@dataclass(frozen=True)
class _Schedule:
    """Rate, inverse temperature and time as functions of the share of steps done."""

    steps: int
    lr: float
    times: tuple[float, float]
    beta: float
    anneal: float
    deepen: tuple[float, float]

    def rate(self, step: int) -> float:
        late = max(0.0, (step / self.steps - self.anneal) / max(1 - self.anneal, 1e-9))
        return self.lr * 0.5 * (1 + math.cos(math.pi * late))

    def inverse_temperature(self, step: int) -> float:
        early = max(0.0, 1 - step / self.steps / self.anneal) if self.anneal else 0.0
        return float(self.beta**early)

    def time(self, step: int) -> float:
        first, last = self.deepen
        share = min(1.0, max(0.0, (step / self.steps - first) / max(last - first, 1e-9)))
        return self.times[0] ** (1 - share) * self.times[1] ** share


class _Run:
    """Model, optimiser, generator and history: everything that an interrupted fit goes on with."""

    def __init__(
        self,
        model: RandomizedFlow,
        betas: tuple[float, float],
        seed: int,
        memory: int,
        identity: dict[str, object],
    ) -> None:
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, betas=betas)
        self.generator = torch.Generator().manual_seed(seed)
        self.history = FitHistory()
        self.earlier: deque[Tensor] = deque(maxlen=memory)
        self.identity = {**identity, "seed": seed, "start_time": model.time}

    def advance(
        self, energy: PottsEnergy, samples: int, schedule: _Schedule, objective: Callable[..., Objective]
    ) -> float:
        """One step of Adam; returns the estimate before it."""
        step = self.history.step
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        draw = self.model.draw(samples, self.generator, stratified=True)
        logits = self.model.logits(draw, schedule.time(step))
        earlier = torch.cat(list(self.earlier), dim=2) if self.earlier else None
        found = objective(logits, energy, schedule.inverse_temperature(step), self.generator, earlier)
        if self.earlier.maxlen:
            self.earlier.appendleft(log_assignments(logits.detach()))
        value = float(found.free_energy)
        if not math.isfinite(value):
            raise ValueError(
                f"energy: expected a finite estimate, got {value} at step {step}; lower lr or time"
            )
        self.optimiser.zero_grad()
        torch.autograd.backward(found.loss)
        self.optimiser.step()
        self.history.step = step + 1
        self.history.free_energy.append(value)
        return value

    def write(self, path: str | PathLike[str]) -> None:
        history = self.history
        write_record(
            path,
            "randomized_fit",
            _VERSION,
            {
                "identity": self.identity,
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "earlier": list(self.earlier),
                "history": [history.step, history.seconds, history.free_energy],
            },
        )

    def read(self, path: str | PathLike[str]) -> None:
        if not os.path.exists(path):
            return
        values = read_record(path, "randomized_fit", _VERSION)
        own = self.model.state_dict()
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        saved = {name: tuple(value.shape) for name, value in values["model"].items()}
        if shapes != saved:
            raise ValueError(f"checkpoint: expected a model of this shape, got another in {os.fspath(path)}")
        for name, value in self.identity.items():
            found = values["identity"].get(name)
            if found != value:
                raise ValueError(
                    f"checkpoint: expected a fit with {name} {value}, got {found} in {os.fspath(path)}"
                )
        self.model.load_state_dict(values["model"])
        self.optimiser.load_state_dict(values["optimiser"])
        self.generator.set_state(values["generator"])
        self.earlier.extend(values["earlier"])
        step, seconds, free_energy = values["history"]
        self.history = FitHistory(step, seconds, free_energy)


def _fingerprint(energy: PottsEnergy) -> str:
    """Of all costs."""
    digest = hashlib.sha256()
    for part in (energy.unary, energy.edges, energy.pairwise, energy.constant):
        if isinstance(part, Tensor):
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check(
    steps: int, samples: int, lr: float, time: float, beta: float, anneal: float,
    deepen: tuple[float, float], memory: int, objective: str, every: int,
) -> None:  # fmt: skip
    if steps < 0:
        raise ValueError(f"steps: expected an integer >= 0, got {steps}")
    if samples < 2:
        raise ValueError(f"samples: expected m >= 2, got {samples}")
    for name, number in (("lr", lr), ("time", time)):
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: expected a finite number > 0, got {number}")
    if not 0 < beta <= 1:
        raise ValueError(f"beta: expected a number in (0, 1], got {beta}")
    if not (0 <= anneal <= 1 and 0 <= deepen[0] <= deepen[1] <= 1):
        raise ValueError(f"anneal, deepen: expected shares in [0, 1] in order, got {anneal}, {deepen}")
    if objective not in _OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(_OBJECTIVES)}, got {objective!r}")
    if memory < 0:
        raise ValueError(f"memory: expected an integer >= 0, got {memory}")
    if every < 1:
        raise ValueError(f"checkpoint_every: expected an integer >= 1, got {every}")
