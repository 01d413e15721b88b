"""Direct factorisation by SciPy's SuperLU: everywhere, an order of magnitude slower than PARDISO."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu

from flowcut.linear.pattern import Pattern

# Symmetric positive definite: the diagonal is always a good pivot.
_OPTIONS: dict[str, Any] = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}


class SuperLUAnalysis:
    """Fill-reducing order of one pattern, found by the first factorisation and used by the next."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.order: NDArray[np.int64] | None = None

    def factor(self, data: NDArray[np.float64], threads: int) -> SuperLUFactor:
        """Factor the matrix with these entries of the upper triangle."""
        n = self.pattern.size
        upper = csr_array((data, self.pattern.indices, self.pattern.indptr), shape=(n, n))
        full = csc_array(upper + upper.T)
        full.setdiag(upper.diagonal())
        if self.order is None:
            lu = splu(full, permc_spec="MMD_AT_PLUS_A", **_OPTIONS)
            self.order = np.argsort(lu.perm_c)
            return SuperLUFactor(lu, None)
        ordered = full[self.order][:, self.order]
        return SuperLUFactor(splu(csc_array(ordered), permc_spec="NATURAL", **_OPTIONS), self.order)


class SuperLUFactor:
    """L U = P A P^T."""

    def __init__(self, lu: Any, order: NDArray[np.int64] | None) -> None:
        self.lu, self.order = lu, order

    def solve(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Solve for the rows of b, (m, n)."""
        if self.order is None:
            return np.ascontiguousarray(self.lu.solve(np.asfortranarray(b.T)).T)
        x = np.empty_like(b)
        x[:, self.order] = self.lu.solve(np.asfortranarray(b[:, self.order].T)).T
        return x
