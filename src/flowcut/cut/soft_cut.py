"""SoftCut: a graph cut relaxed to an electric circuit (SoftCut thesis, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import OnFailure
from flowcut.linear.adjoint import solve_state
from flowcut.linear.auto import Auto
from flowcut.linear.operator import GridOperator, check_shapes
from flowcut.linear.pinned import eliminate_pinned
from flowcut.linear.solver import Solver


def soft_cut(
    scores: Tensor,
    edges: Tensor,
    confidence: Tensor | float = 1.0,
    solver: Solver | None = None,
    neighborhood: Neighborhood | Graph | None = None,
    on_failure: OnFailure = "warn",
) -> Tensor:
    r"""Spread scores along strong edges: solve (diag(d) + L) x = d * scores.

    Each pixel is a node of a circuit, held at its score through conductance d and tied to its
    neighbours through the edge weights (thesis (14)-(16), (22)-(25); there d = 1). Strong edges
    average, weak edges separate, and min(scores) <= x <= max(scores). Differentiable, any
    number of times, in all three inputs.

    Parameters
    ----------
    scores
        (N, C, *spatial), float: evidence per label, higher means more likely. Half precision is
        solved in single precision.
    edges
        (N, K, *spatial) or (N, G, K, *spatial), >= 0, G = 1 (shared by the labels) or C: entry k ties
        pixel i to pixel i + offset k. Entries that leave the picture are never read.
    confidence
        d >= 0, a number or (N or 1, 1 or C, *spatial): how strongly a pixel holds on to its
        score. Infinity pins it, 0 leaves it to its neighbours.
    solver
        Default :class:`flowcut.Auto`. *Exact* in the thesis is :class:`flowcut.Cholesky`,
        *approximate* is :class:`flowcut.CG`.
    neighborhood
        Offsets of the K ties, or a :class:`flowcut.Graph` (then scores are (N, C, n) and edges
        (N, [G,] E)). Default: inferred from K, see :meth:`flowcut.Neighborhood.infer`.
    on_failure
        What to do when a solve misses its tolerance, forward or backward: "warn", "raise" or "ignore".

    Returns
    -------
    Tensor
        (N, C, *spatial) of the type of ``scores``: potentials, read like scores.

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, a value is NaN, infinite or negative where it may not be, or a
        connected piece of the picture has no confidence anywhere.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    Two pixels on one strong edge share their evidence; the third keeps its own:

    >>> scores = torch.tensor([[[[3.0, -1.0, -1.0]]]])
    >>> edges = torch.zeros(1, 2, 1, 3)
    >>> edges[0, 1, 0, 0] = 1e6
    >>> soft_cut(scores, edges).round(decimals=3)
    tensor([[[[ 1.,  1., -1.]]]])
    """
    ndim = _spatial_axes(scores, neighborhood)
    check_floating("edges", edges)
    if neighborhood is None:
        neighborhood = Neighborhood.infer(ndim, edges.shape[-ndim - 1] if edges.ndim > ndim else 0)
    dtype = _compute_type(scores, edges, confidence)
    if isinstance(confidence, Tensor):
        check_floating("confidence", confidence)
        confidence = confidence.to(dtype)
    operator = GridOperator(edges.to(dtype), confidence, neighborhood)
    check_shapes(scores, operator)
    if scores.numel() == 0:
        return scores.clone()
    system, rhs = eliminate_pinned(operator, scores.to(dtype), scaled=True)
    solver = Auto() if solver is None else solver
    state = solver.init(system, "scores")
    return solve_state(solver, state, rhs, "scores", on_failure)[0].to(scores.dtype)


class SoftCut(nn.Module):
    """:func:`soft_cut` as a module: the last layer of a segmentation network.

    Parameters
    ----------
    solver, neighborhood, on_failure
        As in :func:`soft_cut`.

    Examples
    --------
    >>> head = SoftCut()
    >>> head(torch.randn(2, 1, 8, 8), torch.rand(2, 2, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        solver: Solver | None = None,
        neighborhood: Neighborhood | Graph | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        self.solver = Auto() if solver is None else solver
        self.neighborhood = neighborhood
        self.on_failure = on_failure

    def forward(self, scores: Tensor, edges: Tensor, confidence: Tensor | float = 1.0) -> Tensor:
        """Potentials (N, C, *spatial), see :func:`soft_cut`."""
        return soft_cut(scores, edges, confidence, self.solver, self.neighborhood, self.on_failure)

    def extra_repr(self) -> str:
        """The solver and what happens on failure."""
        return f"solver={self.solver}, on_failure={self.on_failure!r}"


def _spatial_axes(scores: Tensor, neighborhood: Neighborhood | Graph | None) -> int:
    check_floating("scores", scores)
    if scores.ndim < 3:
        raise ValueError(f"scores: expected shape (N, C, *spatial), got {tuple(scores.shape)}")
    ndim = scores.ndim - 2
    expected = 1 if isinstance(neighborhood, Graph) else neighborhood.ndim if neighborhood else ndim
    if ndim != expected:
        raise ValueError(f"scores: expected {expected} spatial axes as in neighborhood, got {ndim}")
    return ndim


def _compute_type(scores: Tensor, edges: Tensor, confidence: Tensor | float) -> torch.dtype:
    """Double if anything is double, single otherwise."""
    inputs = [scores, edges] + ([confidence] if isinstance(confidence, Tensor) else [])
    return torch.float64 if any(t.dtype == torch.float64 for t in inputs) else torch.float32
