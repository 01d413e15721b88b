"""Total variation by others: prox_tv where it is installed, and FISTA in NumPy with SciPy's isotonic fit."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from benchmarks.problem import Outcome, Problem

try:  # it needs LAPACK's headers to build
    prox_tv: Any = importlib.import_module("prox_tv")
except ImportError:
    prox_tv = None

Array = NDArray[Any]
HAVE_PROX_TV = prox_tv is not None
# Steps between two looks at the clock.
_STRIDE = 50


def arrays(problem: Problem) -> tuple[Array, Array, Array]:
    """Scores (H, W), edges (2, H, W) that are zero outside, incoming gradient; in double precision."""
    x, w, g = (np.array(t[0], dtype=np.float64) for t in (problem.scores, problem.edges, problem.cotangent))
    w = w.reshape(2, *x.shape[1:]).copy()
    w[0, -1], w[1, :, -1] = 0, 0
    return x[0], w, g[0]


def divergence(flow: Array) -> Array:
    """What leaves a pixel minus what comes in."""
    total: Array = flow[0] + flow[1]
    total[1:] -= flow[0, :-1]
    total[:, 1:] -= flow[1, :, :-1]
    return total


def steps_down(values: Array) -> Array:
    """(2, H, W): value minus that of the next pixel down, and to the right; zero outside."""
    out = np.zeros((2, *values.shape), dtype=values.dtype)
    out[0, :-1] = values[:-1] - values[1:]
    out[1, :, :-1] = values[:, :-1] - values[:, 1:]
    return out


def fista(x: Array, w: Array, steps: int, deadline: float) -> Array | None:
    """1/2 ||x - div f||^2 over |f| <= w by accelerated gradients with restarts; None if too slow."""
    flow = ahead = np.zeros_like(w)
    momentum = 1.0
    for count in range(steps):
        moved = np.clip(ahead + steps_down(x - divergence(ahead)) / 8, -w, w)
        if np.vdot(ahead - moved, moved - flow) > 0:
            momentum = 1.0
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = moved + (momentum - 1) / grown * (moved - flow)
        flow, momentum = moved, grown
        if count % _STRIDE == 0 and time.perf_counter() > deadline:
            return None
    return x - divergence(flow)


def isotonic(x: Array, w: Array, z: Array) -> Array:
    """The best picture with the order of z."""
    order = np.argsort(-z, axis=None, kind="stable")
    rank = np.empty(z.size, dtype=np.int64)
    rank[order] = np.arange(z.size)
    y = x - divergence(-np.sign(steps_down(rank.reshape(z.shape))) * w)
    fitted = np.empty(z.size)
    fitted[order] = isotonic_regression(y.reshape(-1)[order], increasing=False).x
    return fitted.reshape(z.shape)


def backward(z: Array, g: Array) -> tuple[Array, Array]:
    """Algorithm 1 of the thesis, with the sign that is right: means over equal values, anywhere."""
    _, inverse = np.unique(z, return_inverse=True)
    inverse = inverse.reshape(-1)
    means = (np.bincount(inverse, g.reshape(-1)) / np.bincount(inverse))[inverse].reshape(z.shape)
    return means, -np.sign(steps_down(z)) * steps_down(means)


def run_fista(problem: Problem, steps: int, deadline: float) -> Outcome | None:
    """Forward and backward."""
    x, w, g = arrays(problem)
    z = fista(x, w, steps, deadline)
    if z is None:
        return None
    z = isotonic(x, w, z)
    return Outcome(z, *backward(z, g))


def run_prox_tv(problem: Problem, steps: int, deadline: float) -> Outcome | None:
    """Forward (Douglas-Rachford over rows and columns) and backward; cannot be interrupted."""
    x, w, g = arrays(problem)
    z: Any = prox_tv.tv1w_2d(x, w[0, :-1].copy(), w[1, :, :-1].copy(), max_iters=steps)
    if time.perf_counter() > deadline:
        return None
    z = isotonic(x, w, np.asarray(z))
    return Outcome(z, *backward(z, g))
