"""What a solver is: a frozen dataclass with three methods.

A new solver implements :class:`Solver` and joins ``tests/zoo``; nothing else has to know it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from flowcut.linear.system import Solved, System


class State(NamedTuple):
    """What a solver made once of a system and uses for every right-hand side.

    Attributes
    ----------
    system
        The system itself.
    handle
        int64 scalar naming what the solver keeps outside of tensors (a factorisation); empty
        where it keeps nothing. A tensor, so that compiled programs can carry it.
    """

    system: System
    handle: Tensor


class Solver(Protocol):
    """Turn systems into solutions. Tolerances are fields of the dataclass, never globals.

    ``init`` is called once for a system; ``compute`` as often as there are right-hand sides
    (forward, adjoint, double backward); ``transpose`` gives the state of A^T.
    """

    def init(self, system: System, check: str) -> State:
        """Prepare; ``check`` names the right-hand side to come, "" when values may be anything."""
        ...

    def compute(self, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
        """Solve for (N, C, *spatial); returns x, error bound, residual, steps and result.

        The last four are (N, C). Success is judged by the true residual, and reported as
        ``on_failure`` says ("warn", "raise", "ignore"), inside the solver's operation.
        """
        ...

    def transpose(self, state: State) -> State:
        """The state for A^T: the same where A is symmetric."""
        ...


def check_stopping(rtol: float, max_steps: int) -> None:
    """Refuse a stopping rule that means nothing.

    Raises
    ------
    ValueError
        ``rtol`` is not between 0 and 1 or ``max_steps`` < 1.
    """
    if not 0 < rtol < 1:
        raise ValueError(f"rtol: expected a number between 0 and 1, got {rtol}")
    if max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, got {max_steps}")
