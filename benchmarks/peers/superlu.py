"""SciPy's direct solver."""

from __future__ import annotations

import scipy.sparse as sp
import scipy.sparse.linalg as spl

from benchmarks.peers.base import Peer, Setting, Solve


class SuperLU(Peer):
    """``scipy.sparse.linalg.splu`` as its manual advises for symmetric matrices: no pivoting."""

    name = "SuperLU"
    package = "scipy"

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Analyse and factor."""
        # A symmetric matrix is its own transpose: CSR arrays are CSC arrays.
        columns = sp.csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        return spl.splu(
            columns, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        ).solve


PEERS = (SuperLU(),)
