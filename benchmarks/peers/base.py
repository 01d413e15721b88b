"""What a peer is: it turns a matrix into a way to solve; the rest is the same for all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from benchmarks.problem import Array, Outcome, Problem, assemble, edge_gradient

Solve = Callable[[Array], Array]


class TooSlowError(Exception):
    """The peer ran past its deadline."""


@dataclass(frozen=True)
class Setting:
    """How a peer is run.

    Parameters
    ----------
    dtype
        Precision of matrix and vectors.
    tolerance
        Relative residual where an iterative method stops; None for direct ones.
    options
        The peer's own.
    """

    dtype: str = "float64"
    tolerance: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """One short text for tables."""
        words = [self.dtype] + [f"{key}={value}" for key, value in self.options.items()]
        return ", ".join(words + ([f"rtol={self.tolerance:.0e}"] if self.tolerance else []))


class Peer(ABC):
    """A solver of another library.

    A subclass says its ``name``, the ``package`` it needs, the settings worth trying, and
    :meth:`prepare`. ``settle`` is how many seconds its threads keep spinning after a call
    (Intel's OpenMP runtime: 0.2), which the next contender must not pay for.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]] = (Setting(),)
    iterative: ClassVar[bool] = False
    triangle: ClassVar[str] = "full"
    settle: ClassVar[float] = 0.0

    @abstractmethod
    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Set up once; the returned function serves the forward and the backward solve."""

    def forward_backward(self, problem: Problem, setting: Setting, deadline: float = np.inf) -> Outcome:
        """Value and gradients; assembly of the matrix is timed apart.

        Parameters
        ----------
        deadline
            ``time.perf_counter()`` after which an iterative method raises
            :class:`TooSlowError`.
        """
        start = time.perf_counter()
        edges = problem.edges[0].numpy().astype(setting.dtype)
        matrix = assemble(edges, self.triangle)
        assembled = time.perf_counter() - start
        solve = self.prepare(matrix, setting, deadline)
        value, adjoint = (
            np.asarray(solve(rhs[0, 0].numpy().astype(setting.dtype).ravel())).reshape(problem.shape)
            for rhs in (problem.scores, problem.cotangent)
        )
        return Outcome(value, adjoint, edge_gradient(value, adjoint), assembled)
