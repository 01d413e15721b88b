"""Intel PARDISO in one shot: analysis, factorisation and solves for every image anew."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from benchmarks.peers.base import Array, Peer, Setting, Solve

SYMMETRIC_POSITIVE_DEFINITE = 2
ANALYSE_AND_FACTOR = 12
SOLVE = 33


class _Factor:
    """A PARDISO factor that gives its memory back when nobody holds it."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        import pypardiso

        self._matrix = matrix
        self._solver = pypardiso.PyPardisoSolver(mtype=SYMMETRIC_POSITIVE_DEFINITE)
        self._run(ANALYSE_AND_FACTOR, np.zeros(matrix.shape[0]))

    def __call__(self, rhs: Array) -> Array:
        return self._run(SOLVE, rhs)

    def __del__(self) -> None:
        self._solver.free_memory(everything=True)

    def _run(self, phase: int, rhs: Array) -> Array:
        # The package's own `solve` compares the whole matrix with a copy of it before each solve.
        self._solver.set_phase(phase)
        return self._solver._call_pardiso(self._matrix, rhs)


class Pardiso(Peer):
    """PyPardiso on the upper triangle of a symmetric positive definite matrix."""

    name = "PARDISO one-shot"
    package = "pypardiso"
    triangle = "upper"
    settle = 0.25

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Analyse and factor."""
        return _Factor(matrix)


PEERS = (Pardiso(),)
