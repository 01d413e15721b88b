"""PyAMG's algebraic multigrid as a preconditioner of conjugate gradients."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from benchmarks.peers.base import Array, Peer, Setting, Solve
from benchmarks.peers.scipy_cg import watched

MAX_CYCLES = 400


class PyamgRugeStuben(Peer):
    """Classical (Ruge-Stuben) coarsening; one hierarchy for forward and backward."""

    name = "pyamg RS+CG"
    package = "pyamg"
    iterative = True

    def build(self, matrix: sp.csr_matrix) -> object:
        """The multigrid hierarchy."""
        import pyamg

        return pyamg.ruge_stuben_solver(matrix)

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Build the hierarchy once."""
        hierarchy = self.build(matrix)

        def solve(rhs: Array) -> Array:
            callback = None if np.isinf(deadline) else watched(deadline)
            return hierarchy.solve(
                rhs, tol=setting.tolerance, maxiter=MAX_CYCLES, accel="cg", callback=callback
            )

        return solve


class PyamgSmoothedAggregation(PyamgRugeStuben):
    """Smoothed aggregation, with and without a threshold on the strength of ties."""

    name = "pyamg SA+CG"
    settings: ClassVar = (Setting(),)

    def build(self, matrix: sp.csr_matrix) -> object:
        """The multigrid hierarchy."""
        import pyamg

        return pyamg.smoothed_aggregation_solver(matrix)


PEERS = (PyamgRugeStuben(), PyamgSmoothedAggregation())
