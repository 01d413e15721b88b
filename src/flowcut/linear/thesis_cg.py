"""The thesis' stopping rule, as a solver, for comparison only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.kernels.thesis_cg import thesis_cg
from flowcut.linear.solver import State
from flowcut.linear.system import Solved, System


@dataclass(frozen=True)
class ThesisCG:
    r"""Conjugate gradients as the SoftCut thesis ran them (section 3). Use :class:`flowcut.CG` instead.

    Starts at x0 = b and stops the whole batch when :math:`\sum |r| < 10^{-6} b h w`, forward and
    backward. Under a mean or Dice loss the adjoint's right-hand side has a size of 1 / (b h w), so the rule
    is met after a step or two and the gradient is mostly x0. Its ``result`` says whether *its own* rule
    was met; ``error_bound`` and ``residual`` are the truth.

    Parameters
    ----------
    atol
        The 1e-6 of the rule.
    max_steps
        Give up after so many iterations.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import soft_cut
    >>> soft_cut(torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 2), solver=ThesisCG()).round(decimals=4)
    tensor([[[0.6667, 0.3333]]])
    """

    atol: float = 1e-6
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        if not self.atol > 0:
            raise ValueError(f"atol: expected a number > 0, got {self.atol}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: expected at least 1, got {self.max_steps}")

    def init(self, system: System, check: str) -> State:
        """Nothing to prepare.

        Raises
        ------
        ValueError
            The system lives on a graph, which the thesis does not know.
        """
        if system.edge_index is not None:
            raise ValueError("neighborhood: ThesisCG is for grids; use flowcut.CG on a graph")
        return State(system, system.leak.new_empty(0, dtype=torch.int64))

    def compute(self, state: State, rhs: Tensor, check: str, on_failure: str) -> Solved:
        """See :meth:`flowcut.linear.solver.Solver.compute`."""
        edges, leak, _, _ = state.system
        return thesis_cg(edges, leak, rhs, state.system.flat, self.atol, self.max_steps, check, on_failure)

    def transpose(self, state: State) -> State:
        """A is symmetric."""
        return state
