"""SciPy's conjugate gradients on a CSR matrix."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from benchmarks.peers.base import Array, Peer, Setting, Solve, TooSlowError

MAX_STEPS = 100_000


def watched(deadline: float) -> object:
    """A callback that stops a run past its deadline."""

    def callback(_: Array) -> None:
        if time.perf_counter() > deadline:
            raise TooSlowError

    return callback


class ScipyCG(Peer):
    """``scipy.sparse.linalg.cg``, plain or scaled by the diagonal."""

    name = "SciPy CG"
    package = "scipy"
    iterative = True
    settings: ClassVar = tuple(
        Setting(dtype, options={"jacobi": jacobi})
        for dtype in ("float32", "float64")
        for jacobi in (False, True)
    )

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Nothing but the diagonal needs a set-up."""
        scaling = sp.diags_array(1 / matrix.diagonal()).tocsr() if setting.options["jacobi"] else None

        def solve(rhs: Array) -> Array:
            callback = None if np.isinf(deadline) else watched(deadline)
            return spl.cg(
                matrix, rhs, rtol=setting.tolerance, maxiter=MAX_STEPS, M=scaling, callback=callback
            )[0]

        return solve


PEERS = (ScipyCG(),)
