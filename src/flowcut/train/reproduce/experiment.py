"""What one kind of experiment is, and what it hands back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = [
    "Kind",
    "Learning",
    "Outcome",
    "Row",
    "Table",
    "Workspace",
    "check_least",
    "check_positive",
    "percent",
]


@dataclass(frozen=True)
class Row:
    """One line of the comparison with a paper.

    Parameters
    ----------
    what : str
        What was measured.
    paper : str
        What the paper says of it; empty where it says nothing.
    ours : str
        What came out.
    timed : bool
        Whether it depends on the machine's speed, so that it differs from run to run.
    """

    what: str
    paper: str
    ours: str
    timed: bool = False


@dataclass(frozen=True)
class Table:
    """Several systems beside each other.

    Parameters
    ----------
    heading : str
    header : tuple of str
        Names of the columns.
    cells : tuple of tuple of str
        One tuple a row, as long as the header.
    """

    heading: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Outcome:
    """What an experiment gives.

    Parameters
    ----------
    rows : tuple of Row
        The comparison with the paper.
    values : mapping
        All numbers, plain; the same in every run with the same settings.
    seconds : mapping
        What took how long.
    picture : Tensor
        (3, H, W) in [0, 1]; free to be published.
    private : mapping
        Pictures by name that show data whose terms forbid to publish them.
    tables : tuple of Table
        Comparisons of systems, shown before the rows.
    """

    rows: tuple[Row, ...]
    values: Mapping[str, Any]
    seconds: Mapping[str, float]
    picture: Tensor
    private: Mapping[str, Tensor] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Workspace:
    """Where an experiment works.

    Parameters
    ----------
    folder : Path
        For checkpoints; exists.
    data : Path, optional
        Folder of data sets.
    say : callable
        Told what is being done, one line each.
    """

    folder: Path
    data: Path | None
    say: Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """One kind of experiment.

    Parameters
    ----------
    name : str
        As a YAML file names it.
    settings : type
        A frozen dataclass that checks its values.
    run : callable
        ``run(settings, workspace) -> Outcome``.
    """

    name: str
    settings: type
    run: Callable[[Any, Workspace], Outcome]


@dataclass(frozen=True)
class Learning:
    """How weights are learned (LAF section 4).

    Parameters
    ----------
    rho : float
        In the unit of the distances, > 0.
    time : float
        T > 0.
    krylov_dim : int
        m >= 1.
    rank : int
        Factors kept of the gradient, >= 1.
    step : float
        h of (4.2) in units of the number of pixels, > 0.
    steps : int
        At most so many, >= 0.
    stop_below : float, optional
        Share of wrong pixels at which learning stops, in [0, 1].

    Raises
    ------
    ValueError
        A value is out of its range.

    Examples
    --------
    >>> Learning(rho=0.0)
    Traceback (most recent call last):
        ...
    ValueError: learning.rho: expected a finite number > 0, got 0.0
    """

    rho: float = 1.0
    time: float = 5.0
    krylov_dim: int = 5
    rank: int = 3
    step: float = 1.0
    steps: int = 20
    stop_below: float | None = None

    def __post_init__(self) -> None:
        for name in ("rho", "time", "step"):
            check_positive(f"learning.{name}", getattr(self, name))
        for name, least in (("krylov_dim", 1), ("rank", 1), ("steps", 0)):
            check_least(f"learning.{name}", getattr(self, name), least)
        if self.stop_below is not None and not 0 <= self.stop_below <= 1:
            raise ValueError(f"learning.stop_below: expected a share in [0, 1], got {self.stop_below}")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite number > 0.

    Parameters
    ----------
    name : str
    value : float

    Raises
    ------
    ValueError
        It is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {value}")


def check_least(name: str, value: int, least: int) -> None:
    """Refuse an integer below `least`.

    Parameters
    ----------
    name : str
    value : int
    least : int

    Raises
    ------
    ValueError
        It is.
    """
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")


def percent(share: float) -> str:
    """Write a share with two significant digits.

    Parameters
    ----------
    share : float

    Returns
    -------
    str

    Examples
    --------
    >>> percent(0.9416), percent(0.00041), percent(0.0), percent(0.5)
    ('94 %', '0.041 %', '0 %', '50 %')
    """
    value = 100 * share
    if value == 0:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f} %"
