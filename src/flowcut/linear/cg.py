"""Conjugate gradients as a solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.linear.solver import State, check_stopping
from flowcut.linear.system import Solved, System


@dataclass(frozen=True)
class CG:
    """Conjugate gradients (Algorithm 2 of the SoftCut thesis), each right-hand side by itself.

    On 4- and 6-neighbour grids one colour of the checkerboard is eliminated first; always scaled
    by the diagonal. Single-precision data are iterated in single precision and refined on
    double-precision residuals. Deterministic, the same bits for any number of threads.

    Parameters
    ----------
    rtol
        Stop where ||b - A x|| <= rtol ||b||, for each item and channel, forward and backward
        alike. (The thesis stops by an absolute rule, which ruins gradients: see
        :class:`flowcut.linear.thesis_cg.ThesisCG`.)
    max_steps
        Give up after so many iterations.

    Raises
    ------
    ValueError
        ``rtol`` is not between 0 and 1 or ``max_steps`` < 1.

    Examples
    --------
    >>> CG(rtol=1e-4)
    CG(rtol=0.0001, max_steps=20000)
    """

    rtol: float = 1e-5
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        check_stopping(self.rtol, self.max_steps)

    def init(self, system: System, check: str) -> State:
        """Nothing to prepare: setting up costs less than keeping it."""
        return State(system, system.leak.new_empty(0, dtype=torch.int64))

    def compute(self, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
        """See :meth:`flowcut.linear.solver.Solver.compute`."""
        return state.system.cg(rhs, self.rtol, self.max_steps, check, on_failure)

    def transpose(self, state: State) -> State:
        """A is symmetric."""
        return state
