r"""A minimum cut relaxed to a quadratic program, solved by a library (SoftCut thesis (10), (11)).

The linear program (11) of a cut, in the terms of this package, is

    min -<s, m> + sum_e w_e d_e    over 0 <= m <= 1,  |m_i - m_j| <= d_e <= 1.

Its solutions are vertices: m is 0 or 1, so that its derivative is zero or does not exist. (10) adds a
quadratic term,

    ... + (r / 2) ||m - 1/2||^2,

after which m is unique, continuous and piecewise linear in s and w, and its derivative follows from the
implicit function theorem on the conditions of optimality (KKT), which is what the library does.

What comes out can be said in closed form. Completing the square,

    -<s, m> + (r / 2) ||m - 1/2||^2 = (r / 2) ||m - (1/2 + s / r)||^2 + constant,

so that m is total variation of 1/2 + s / r with edges w / r, kept in [0, 1]. (The box may be cut off
afterwards: clipping moves no two values apart and each towards its own box, so the conditions of optimality
stay satisfied by the same flow.) :func:`flowcut.total_variation` therefore gives the same numbers, for any
size, and is what tests compare with; the program stands here because it is one of the thesis' ways, and as a
start for programs with further constraints.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cvxpy
import numpy as np
import torch
from cvxpylayers.torch import CvxpyLayer
from scipy.sparse import coo_matrix
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import ties_of
from flowcut.cut.adjoint import differentiable_once
from flowcut.cut.total_variation_problem import read_problem

__all__ = ["MAX_PIXELS", "qp_cut"]

MAX_PIXELS = 1024
"""Larger programs are refused: time grows faster than the number of pixels, and total variation has no such
limit."""

# An edge of weight 0 leaves its d free, and the conditions of optimality singular; much less than this is as
# good as 0 to the library's solver. In units of r, edges below it are made so much stronger.
_LEAST_EDGE = 1e-4
# Up to so many pixels and ties the derivative's system is factored, otherwise solved by iteration.
_DENSE = 300
# The library's backward cannot be differentiated; where scores are used elsewhere too that would pass unseen.
_SECOND = "qp_cut: expected first derivatives only, got a second one; total_variation has them"
_TOLERANCES = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def qp_cut(
    scores: Tensor,
    edges: Tensor,
    regularization: float = 1.0,
    neighborhood: Neighborhood | Graph | None = None,
) -> Tensor:
    r"""A minimum cut relaxed to a strictly convex quadratic program, differentiated through its optimum.

    Minimises -<s, m> + sum_ij w_ij \|m_i - m_j\| + (r / 2) \|\|m - 1/2\|\|^2 over 0 <= m <= 1 (SoftCut thesis
    (11) with the term of (10); Amos and Kolter, 2017). For r -> 0, m tends to the labels of
    :func:`flowcut.max_flow`. Needs the extra ``lp``. For small grids, by a general solver.
    The same values are ``(0.5 + fc.total_variation(s / r, w / r)).clamp(0, 1)``, far faster, exact, and of
    any size.

    Parameters
    ----------
    scores
        (N, C, *spatial), float, finite: evidence; every channel has its own cut. Solved on the CPU.
    edges
        (N, K, *spatial) or (N, G, K, *spatial), finite, >= 0, G = 1 (shared by the channels) or C: w. Entries
        that leave the picture are never read.
    regularization
        r > 0, in units of the scores: the smaller, the harder the cut and the fewer pixels have a gradient.
    neighborhood
        Offsets of the K ties, or a :class:`flowcut.Graph` (then scores are (N, C, n) and edges (N, [G,] E)).
        Default: inferred from K.

    Returns
    -------
    Tensor
        (N, C, *spatial) of the type of ``scores``, in [0, 1]: m, to within 1e-5, and to within 1e-3 where
        edges are below 1e-4 r. Differentiable once in scores and edges; gradients are right to about 1e-5 / r
        but where blocks of equal value are about to change.

    Raises
    ------
    ImportError
        The extra is not installed (``flowcut.qp_cut`` says so).
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, a value is NaN or infinite, an edge is negative, ``regularization`` is not > 0,
        or there are more pixels than :data:`MAX_PIXELS`.

    Examples
    --------
    >>> from flowcut.cut.qp_cut import qp_cut
    >>> scores = torch.tensor([[[0.2, 1.0]]], dtype=torch.float64)
    >>> qp_cut(scores, torch.tensor([[[0.1, 0.0]]], dtype=torch.float64), 2.0).round(decimals=3)
    tensor([[[0.6500, 0.9500]]], dtype=torch.float64)
    """
    if not (math.isfinite(regularization) and regularization > 0):
        raise ValueError(f"regularization: expected a finite number > 0, got {regularization}")
    x, w, problem = read_problem(scores, edges, neighborhood)
    spatial = tuple(scores.shape[2:])
    pixels = math.prod(spatial)
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"scores: expected at most {MAX_PIXELS} pixels for a quadratic program, got {pixels}; "
            "total_variation has no such limit"
        )
    pairs, picked = _pairs(problem.where, spatial)
    if not pairs or scores.numel() == 0:
        return (0.5 + x / regularization).clamp(0, 1).to(scores.dtype)
    weights = w.expand(*scores.shape[:2], *w.shape[2:]).flatten(0, 1).flatten(1)[:, picked]
    x, weights = differentiable_once(x, weights, _SECOND)
    layer = _layer(pixels, pairs)
    # In units of r, so that tolerances mean the same whatever the scale of the scores.
    weights = weights / regularization
    weights = weights + _LEAST_EDGE * (weights.detach() < _LEAST_EDGE)
    threads = torch.get_num_threads()
    options: dict[str, Any] = {"solve_method": "Clarabel", "n_jobs_forward": threads, **_TOLERANCES}
    if torch.is_grad_enabled() and (x.requires_grad or w.requires_grad):
        # How the derivative is solved; without one the words are not known.
        options["mode"] = "dense" if pixels + len(pairs) <= _DENSE else "lsmr"
        options["n_jobs_backward"] = threads
    given = x.flatten(0, 1).flatten(1) / regularization
    (m,) = layer(given.cpu(), weights.cpu(), solver_args=options)
    return m.reshape(scores.shape).to(scores)


def _pairs(
    where: Neighborhood | Graph, spatial: tuple[int, ...]
) -> tuple[tuple[tuple[int, int], ...], Tensor]:
    """Pixels (i, j) of every tie, and where its weight stands among the flattened edges."""
    pixels = torch.arange(math.prod(spatial)).reshape(spatial)
    own = (len(where), *spatial) if isinstance(where, Neighborhood) else (len(where),)
    numbers = torch.arange(math.prod(own)).reshape(1, *own)
    found, picked = [], []
    for tie in ties_of(where, spatial, torch.device("cpu")):
        here, there = pixels[None][tie.here].flatten(), pixels[None][tie.there].flatten()
        found += list(zip(here.tolist(), there.tolist(), strict=True))
        picked.append(numbers[tie.own].flatten())
    return tuple(found), torch.cat(picked) if picked else torch.zeros(0, dtype=torch.long)


@lru_cache(maxsize=16)
def _layer(pixels: int, pairs: tuple[tuple[int, int], ...]) -> Any:
    """The program of a shape, analysed once."""
    m, d = cvxpy.Variable(pixels), cvxpy.Variable(len(pairs))
    scores, weights = cvxpy.Parameter(pixels), cvxpy.Parameter(len(pairs), nonneg=True)
    ties = np.arange(len(pairs))
    place = (np.tile(ties, 2), np.array(pairs).T.ravel())
    signs = np.repeat([1.0, -1.0], len(pairs))
    difference = coo_matrix((signs, place), (len(pairs), pixels)).tocsr() @ m
    cost = -scores @ m + weights @ d + cvxpy.sum_squares(m - 0.5) / 2
    constraints = [m >= 0, m <= 1, d >= difference, d >= -difference, d <= 1]
    return CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(cost), constraints), [scores, weights], [m])
