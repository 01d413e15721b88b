"""KLU, the direct solver of the SoftCut thesis."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.families import inside, num_pixels
from benchmarks.peers.base import Array, Outcome, Peer, Problem, Setting, Solve
from benchmarks.problem import grid_pattern


class Klu(Peer):
    """KLU through PyKLU, one factorisation for the forward and the backward solve."""

    name = "KLU"
    package = "PyKLU"

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Analyse and factor."""
        import PyKLU

        columns = sp.csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        return PyKLU.Klu(columns).solve


class KluTwice(Peer):
    """KLU as the thesis calls it: analysed and factored in the forward and again in the backward."""

    name = "KLU, factored twice"
    package = "PyKLU"

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Nothing is kept between solves."""
        import PyKLU

        columns = sp.csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)

        def solve(rhs: Array) -> Array:
            return PyKLU.Klu(columns).solve(rhs)

        return solve


class TorchSparseSolve(Peer):
    """torch_sparse_solve, the package of the thesis; its build needs the headers of SuiteSparse."""

    name = "torch_sparse_solve"
    package = "torch_sparse_solve"

    def prepare(self, matrix: sp.csr_matrix, setting: Setting, deadline: float) -> Solve:
        """Not used: the package differentiates by itself."""
        raise NotImplementedError

    def forward_backward(self, problem: Problem, setting: Setting, deadline: float = np.inf) -> Outcome:
        """Value, and gradients by the package's own backward."""
        from torch_sparse_solve import solve

        start = time.perf_counter()
        edges = problem.edges[0].double().requires_grad_()
        matrix = _torch_matrix(edges)
        assembled = time.perf_counter() - start
        scores = problem.scores.double().reshape(1, -1, 1).requires_grad_()
        value = solve(matrix, scores)
        value.backward(problem.cotangent.double().reshape(1, -1, 1))
        assert scores.grad is not None
        assert edges.grad is not None
        shape = problem.shape
        return Outcome(_flat(value, shape), _flat(scores.grad, shape), inside(edges.grad.numpy()), assembled)


def _torch_matrix(edges: torch.Tensor) -> torch.Tensor:
    """A as a differentiable sparse tensor (1, n, n)."""
    pattern = grid_pattern(tuple(edges.shape[1:]))
    count = num_pixels(tuple(edges.shape[1:]))
    diagonal = 1 + edges.sum(0)
    for axis in range(edges.ndim - 1):
        # Ties that would leave the picture are zero, so rolling wraps nothing round.
        diagonal = diagonal + edges[axis].roll(1, axis)
    values = torch.cat([diagonal.ravel(), -edges.ravel()])[torch.from_numpy(pattern.source)]
    rows = np.repeat(np.arange(count), np.diff(pattern.indptr))
    places: Any = np.stack([np.zeros_like(rows), rows, pattern.indices.astype(np.int64)])
    return torch.sparse_coo_tensor(
        torch.from_numpy(places), values, (1, count, count), is_coalesced=True, check_invariants=False
    )


def _flat(tensor: torch.Tensor, shape: tuple[int, ...]) -> Array:
    return tensor.detach().reshape(shape).numpy()


PEERS = (Klu(), KluTwice(), TorchSparseSolve())
