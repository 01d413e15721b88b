"""Sparse Cholesky of other packages: cholespy, and CHOLMOD through cvxopt."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from benchmarks.peers.base import Array, Peer, Setting, Solve


class Cholespy(Peer):
    """cholespy, which stores the factor's inverse order for fast triangular solves."""

    name = "cholespy"
    package = "cholespy"
    settings: ClassVar = (Setting("float32"), Setting("float64"))

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Analyse and factor."""
        import cholespy

        kind = cholespy.CholeskySolverF if setting.dtype == "float32" else cholespy.CholeskySolverD
        factor = kind(matrix.shape[0], matrix.indptr, matrix.indices, matrix.data, cholespy.MatrixType.CSR)

        def solve(rhs: Array) -> Array:
            x = np.empty_like(rhs)
            factor.solve(rhs, x)
            return x

        return solve


class Cholmod(Peer):
    """CHOLMOD as cvxopt gives it."""

    name = "CHOLMOD (cvxopt)"
    package = "cvxopt.cholmod"
    triangle = "lower"

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Analyse and factor."""
        import cvxopt
        from cvxopt import cholmod

        triplets = matrix.tocoo()
        lower = cvxopt.spmatrix(triplets.data, triplets.row, triplets.col, size=matrix.shape)
        factor = cholmod.symbolic(lower)
        cholmod.numeric(lower, factor)

        def solve(rhs: Array) -> Array:
            x = cvxopt.matrix(rhs)
            cholmod.solve(factor, x)
            return np.asarray(x).ravel()

        return solve


PEERS = (Cholespy(), Cholmod())
