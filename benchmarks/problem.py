"""The problem every contender solves, its matrix, and a certified double-precision truth.

A x = s with A = I + L(w), L the weighted grid Laplacian; for a cotangent g of x the
gradients are

    grad scores = lambda = A^-1 g,      grad w_ij = -(lambda_i - lambda_j)(x_i - x_j),

because A is symmetric and d(A)/d(w_ij) = (e_i - e_j)(e_i - e_j)^T. So forward and
backward are two solves with one matrix and one pass over the ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
import torch
from numpy.typing import NDArray

from benchmarks.families import inside, make_family, num_pixels

Array = NDArray[np.floating]
ACCURACY = 1e-4
TRUTH_TRUSTED = 1e-8


@dataclass(frozen=True)
class Problem:
    """One item of one family, float32 as a network would give it."""

    name: str
    shape: tuple[int, ...]
    scores: torch.Tensor
    edges: torch.Tensor
    cotangent: torch.Tensor


@dataclass(frozen=True)
class Outcome:
    """What a contender returns: value and gradients of the spatial shape, and its assembly time."""

    value: Array
    grad_scores: Array
    grad_edges: Array
    assembly_seconds: float = 0.0


@dataclass(frozen=True)
class Truth:
    """Double-precision solution; no entry is further than ``error_bound`` from the exact one."""

    outcome: Outcome
    error_bound: float


def make_problem(name: str, shape: tuple[int, ...]) -> Problem:
    """The family's scores and edges, and a cotangent N(0, 1)."""
    scores, edges = make_family(name, shape)
    cotangent = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 1, *shape)))
    return Problem(name, shape, scores, edges, cotangent.to(scores.dtype))


@dataclass(frozen=True)
class Pattern:
    """Where the entries of A stand (CSR), and from which of [diagonal, -ties] each one comes."""

    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    source: NDArray[np.int64]


@cache
def grid_pattern(shape: tuple[int, ...], triangle: str = "full") -> Pattern:
    """The pattern depends on the shape alone: every peer gets it for free, as a careful user would.

    Parameters
    ----------
    shape
        Spatial size.
    triangle
        "full", "upper" or "lower".
    """
    count = num_pixels(shape)
    index = np.arange(count).reshape(shape)
    rows, cols, sources = [index.ravel()], [index.ravel()], [np.arange(count)]
    for axis in range(len(shape)):
        near = index.take(range(shape[axis] - 1), axis).ravel()
        far = index.take(range(1, shape[axis]), axis).ravel()
        source = count * (axis + 1) + near
        if triangle in ("full", "upper"):
            rows, cols, sources = [*rows, near], [*cols, far], [*sources, source]
        if triangle in ("full", "lower"):
            rows, cols, sources = [*rows, far], [*cols, near], [*sources, source]
    # Entries are source + 1, so that source 0 is no structural zero.
    entries = (np.concatenate(sources) + 1, (np.concatenate(rows), np.concatenate(cols)))
    matrix = sp.coo_matrix(entries, shape=(count, count)).tocsr()
    matrix.sort_indices()
    return Pattern(matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32), matrix.data - 1)


def sources(edges: Array) -> Array:
    """Diagonal of A, then the negative ties: what :class:`Pattern` picks its entries from.

    Parameters
    ----------
    edges
        (K, *shape), zero where the neighbour lies outside.
    """
    diagonal = np.ones(edges.shape[1:], edges.dtype)
    for axis, ties in enumerate(edges):
        diagonal += ties
        diagonal[_from(axis, 1, ties.ndim)] += ties[_until(axis, -1, ties.ndim)]
    return np.concatenate([diagonal.ravel(), -edges.ravel()])


def assemble(edges: Array, triangle: str = "full") -> sp.csr_matrix:
    """A as CSR, in the dtype of ``edges``."""
    pattern = grid_pattern(edges.shape[1:], triangle)
    count = num_pixels(edges.shape[1:])
    return sp.csr_matrix(
        (sources(edges)[pattern.source], pattern.indices, pattern.indptr), shape=(count, count), copy=False
    )


def edge_gradient(value: Array, adjoint: Array) -> Array:
    """-(lambda_i - lambda_j)(x_i - x_j), (K, *shape), zero where the neighbour lies outside."""
    gradient = np.zeros((value.ndim, *value.shape), value.dtype)
    for axis in range(value.ndim):
        ties = gradient[axis][_until(axis, -1, value.ndim)]
        np.multiply(np.diff(value, axis=axis), np.diff(adjoint, axis=axis), out=ties)
        np.negative(ties, out=ties)
    return gradient


def residual(edges: Array, value: Array, rhs: Array) -> Array:
    """The rest ``rhs - A value`` in difference form, which does not cancel at high contrast."""
    result = rhs - value
    for axis in range(value.ndim):
        near, far = _until(axis, -1, value.ndim), _from(axis, 1, value.ndim)
        current = edges[axis][near] * np.diff(value, axis=axis)
        result[near] += current
        result[far] -= current
    return result


def solve_truth(problem: Problem) -> Truth:
    """Direct solve in double precision with one step of refinement, and its certificate.

    The rows of A sum to 1, so the largest row sum of |A^-1| is 1 and no entry of x is
    further from the exact solution than the largest entry of the residual.

    Raises
    ------
    RuntimeError
        The certificate is too loose for the solution to serve as a truth.
    """
    edges = inside(problem.edges[0].double().numpy())
    factor = spl.splu(assemble(edges).tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    solutions, bounds = [], []
    for tensor in (problem.scores, problem.cotangent):
        rhs = tensor[0, 0].double().numpy()
        x = factor.solve(rhs.ravel()).reshape(rhs.shape)
        x += factor.solve(residual(edges, x, rhs).ravel()).reshape(rhs.shape)
        solutions.append(x)
        bounds.append(float(np.abs(residual(edges, x, rhs)).max()))
    if not max(bounds) <= TRUTH_TRUSTED:
        raise RuntimeError(f"{problem.name}: the direct truth is only certain to {max(bounds):.1e}")
    value, adjoint = solutions
    return Truth(Outcome(value, adjoint, edge_gradient(value, adjoint)), max(bounds))


def errors(outcome: Outcome, truth: Truth) -> dict[str, float]:
    """Largest error of the value and of each gradient, NaN counted as infinite.

    Value and score gradient are absolute, because scores and cotangents are N(0, 1); the
    edge gradient, a product whose size depends on the family, is relative to its largest entry.
    """
    exact = truth.outcome
    found = {
        "value": np.abs(outcome.value - exact.value).max(),
        "grad_scores": np.abs(outcome.grad_scores - exact.grad_scores).max(),
        "grad_edges": np.abs(outcome.grad_edges - exact.grad_edges).max() / np.abs(exact.grad_edges).max(),
    }
    return {key: float(np.nan_to_num(error, nan=np.inf)) for key, error in found.items()}


def is_accurate(found: dict[str, float]) -> bool:
    """Value and both gradients within :data:`ACCURACY`."""
    return max(found.values()) <= ACCURACY


def _from(axis: int, start: int, ndim: int) -> tuple[slice, ...]:
    return tuple(slice(start, None) if a == axis else slice(None) for a in range(ndim))


def _until(axis: int, stop: int, ndim: int) -> tuple[slice, ...]:
    return tuple(slice(None, stop) if a == axis else slice(None) for a in range(ndim))
