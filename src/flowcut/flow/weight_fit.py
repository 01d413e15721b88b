"""What learning weights gives, and what it needs to go on after an interruption."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from os import PathLike

from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.records import read_record, write_record
from flowcut.flow.rounding import round_assignment
from flowcut.flow.weights import weights_entropy

_VERSION = 1


@dataclass(frozen=True)
class WeightFit:
    """Learned weights and the way to them, as :func:`flowcut.learn_weights` returns them.

    Attributes
    ----------
    weights
        (N, K, *spatial), or (N, 2 E + n) on a graph.
    value
        (N, J, *spatial): V at these weights.
    losses, wrong
        Loss and share of wrong pixels after 0, 1, 2, ... steps.
    seconds
        Time passed at each of them.
    steps
        How many times the weights were moved.
    converged
        Whether ``stop_below`` was reached.
    neighborhood
        Offsets or graph of the weights, if it was not a window.

    Examples
    --------
    >>> fit = WeightFit(torch.ones(1, 1, 2), torch.zeros(1, 2, 2), [1.0], [0.5], [0.0], 0, False)
    >>> fit.entropy.abs().tolist(), fit.labels.tolist()
    ([[0.0, 0.0]], [[0, 0]])
    """

    weights: Tensor
    value: Tensor
    losses: list[float]
    wrong: list[float]
    seconds: list[float]
    steps: int
    converged: bool
    neighborhood: Neighborhood | Graph | None = None

    @property
    def labels(self) -> Tensor:
        """(N, *spatial) int64: the largest entry of V."""
        return round_assignment(self.value)

    @property
    def entropy(self) -> Tensor:
        """(N, *spatial): entropy of each pixel's weights in nats (LAF Fig. 5.1, right)."""
        return weights_entropy(self.weights, self.neighborhood)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything but the neighborhood to a file, whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        values = {name: getattr(self, name) for name in _SAVED}
        write_record(path, "weight_fit", _VERSION, values)

    @classmethod
    def load(cls, path: str | PathLike[str], neighborhood: Neighborhood | Graph | None = None) -> WeightFit:
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises
        ------
        OSError
            There is no such file.
        ValueError
            It is none of ours.
        """
        values = read_record(path, "weight_fit", _VERSION)
        return cls(**{name: values[name] for name in _SAVED}, neighborhood=neighborhood)


_SAVED = ("weights", "value", "losses", "wrong", "seconds", "steps", "converged")


@dataclass
class Progress:
    """Everything that a learning carries from step to step.

    Attributes
    ----------
    theta
        Natural parameters; changed in place.
    state
        What the descent remembers; changed in place.
    step
        Steps done.
    losses, wrong, seconds
        After each evaluation.
    """

    theta: Tensor
    state: dict[str, Tensor]
    step: int = 0
    losses: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def note(self, loss: float, wrong: float, seconds: float) -> None:
        """Write down an evaluation."""
        self.losses.append(loss)
        self.wrong.append(wrong)
        self.seconds.append(seconds)

    def write(self, path: str | PathLike[str]) -> None:
        """Save, so that :meth:`read` continues with the next evaluation."""
        values = {name: getattr(self, name) for name in _PROGRESS}
        write_record(path, "learning", _VERSION, values)

    def read(self, path: str | PathLike[str]) -> None:
        """Continue from a file, if there is one.

        Raises
        ------
        ValueError
            It was written by another problem or descent, or is none of ours.
        """
        if not os.path.exists(path):
            return
        values = read_record(path, "learning", _VERSION)
        saved, theta = values["state"], values["theta"]
        fits = theta.shape == self.theta.shape and theta.dtype == self.theta.dtype
        fits = fits and {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in self.state.items()}
        if not fits:
            raise ValueError(
                f"checkpoint: expected weights of shape {tuple(self.theta.shape)} and the same descent, "
                f"got {tuple(theta.shape)} in {os.fspath(path)}"
            )
        self.theta.copy_(theta)
        for name, value in saved.items():
            self.state[name].copy_(value)
        self.step, self.losses, self.wrong, self.seconds = (values[name] for name in _PROGRESS[2:])


_PROGRESS = ("theta", "state", "step", "losses", "wrong", "seconds")
