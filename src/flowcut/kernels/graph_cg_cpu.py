"""Jacobi-scaled conjugate gradients on a graph, in double precision, the loop in one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcut.kernels.graph_cpu import add_graph_flow
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.residual_cpu import EPSILON
from flowcut.kernels.solve_cpu import (
    BOUND,
    CONVERGED,
    NOT_CONVERGED,
    NOT_FINITE,
    RESIDUAL,
    STATUS,
    STEPS,
)


@inner
def _product(index: Any, edges: Any, leak: Any, x: Any, out: Any) -> None:
    for i in range(x.shape[0]):
        out[i] = leak[i] * x[i]
    add_graph_flow(index, edges, x, out)


@inner
def _dot(a: Any, b: Any) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@inner
def _cycle(
    index: Any, edges: Any, leak: Any, inverse: Any, r: Any, x: Any, p: Any, q: Any, goal: float, budget: int
) -> int:
    """Improve x on its residual r until the recursion's |r|^2 <= goal; returns the steps."""
    n = x.shape[0]
    for i in range(n):
        p[i] = inverse[i] * r[i]
    scaled = _dot(r, p)
    steps = 0
    while steps < budget and _dot(r, r) > goal:
        _product(index, edges, leak, p, q)
        curvature = _dot(p, q)
        if not curvature > 0.0:
            break
        alpha = scaled / curvature
        beta, scaled = scaled, 0.0
        for i in range(n):
            x[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            scaled += r[i] * r[i] * inverse[i]
        beta = scaled / beta
        for i in range(n):
            p[i] = inverse[i] * r[i] + beta * p[i]
        steps += 1
    return steps


@jit
def solve_graph(
    index: Any, edges: Any, leak: Any, b: Any, x: Any, report: Any, work: Any, rtol: float, max_steps: int
) -> None:
    """Solve for one right-hand side; edges (E,), leak, b, x (n,), report (4,), work (4, n), all float64."""
    n = b.shape[0]
    inverse, r, p, q = work[0], work[1], work[2], work[3]
    for i in range(n):
        inverse[i], r[i] = leak[i], b[i]
    for e in range(index.shape[1]):
        inverse[index[0, e]] += edges[e]
        inverse[index[1, e]] += edges[e]
    for i in range(n):
        inverse[i] = 1.0 / inverse[i]
        x[i] = 0.0
    size = _dot(b, b)
    norm, steps, bound, stalled = size, 0, 0.0, 0
    goal = rtol * rtol * size
    while np.isfinite(size) and size > goal and steps < max_steps and stalled < 3:
        before = size
        steps += _cycle(index, edges, leak, inverse, r, x, p, q, 0.81 * goal, max_steps - steps)
        _product(index, edges, leak, x, q)
        bound, level = 0.0, 0.0
        for i in range(n):
            r[i] = b[i] - q[i]
            level += (2 * EPSILON * x[i] / inverse[i]) ** 2
            # Rounding of the product itself: a few units in the last place of its largest term.
            slack = 1e-15 * (abs(b[i]) + abs(x[i]) / inverse[i])
            error = abs(r[i]) + slack
            if error > 0.0:
                bound = max(bound, error / leak[i])
        size = _dot(r, r)
        # As on grids: what rounding x leaves, no iteration removes.
        goal = max(goal, level)
        stalled = stalled + 1 if not size < 0.8 * before else 0
    finite = np.isfinite(size)
    if not finite:
        x[:] = np.nan
    report[STEPS] = steps
    report[RESIDUAL] = np.sqrt(size / norm) if norm > 0 else 0.0
    report[BOUND] = bound if finite else np.nan
    report[STATUS] = CONVERGED if size <= goal else (NOT_CONVERGED if finite else NOT_FINITE)
