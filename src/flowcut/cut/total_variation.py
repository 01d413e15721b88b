"""Total variation: a cut with graded answers, exactly (SoftCut thesis (13), with one half)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.adjoint import minimiser
from flowcut.cut.total_variation_alternating import alternate, refine
from flowcut.cut.total_variation_iterative import iterate
from flowcut.cut.total_variation_problem import Problem, read_problem

Method = Literal["exact", "iterative", "alternating"]
Refinement = Literal["isotonic"]
Gradient = Literal["blocks", "values"]
# prox_tv's number of rounds, which the thesis used.
_ROUNDS = 35
_STEPS = 3200


@dataclass(frozen=True)
class TotalVariationSolution:
    """What :func:`solve_total_variation` returns.

    Attributes
    ----------
    value
        (N, C, *spatial): z, differentiable.
    flow
        (N, C, K, *spatial) or (N, C, E), float64: f with |f| <= w, positive from pixel i to pixel i + offset
        k; zero for ties that leave the picture. For the minimiser, z = x - div f.
    blocks
        (N, C, *spatial) int64: the number of the block of each pixel, which backward averages over. With
        ``gradient="blocks"`` numbered in the order of their first pixels.
    gap
        (N, C) float64: what ``value`` (as rounded to its type) costs minus the bound that ``flow`` proves.
    steps
        (N, C) int64: rounds or iterations; 0 where the exact method gave the answer.

    Examples
    --------
    >>> solution = solve_total_variation(torch.tensor([[[0.0, 4.0, 5.0]]]).double(), torch.ones(1, 1, 3))
    >>> solution.value.tolist(), solution.flow[..., :2].tolist(), solution.blocks.tolist()
    ([[[1.0, 4.0, 4.0]]], [[[[-1.0, -1.0]]]], [[[0, 1, 1]]])
    >>> solution.gap.item(), solution.error_bound.item()
    (0.0, 0.0)
    """

    value: Tensor
    flow: Tensor
    blocks: Tensor
    gap: Tensor
    steps: Tensor

    @property
    def error_bound(self) -> Tensor:
        """(N, C): ||value - z*|| is no more than this, sqrt(2 gap), as the problem is strongly convex."""
        return (2 * self.gap).clamp(min=0).sqrt()


def total_variation(
    scores: Tensor,
    edges: Tensor,
    neighborhood: Neighborhood | Graph | None = None,
    method: Method = "exact",
    refine: Refinement | None = None,
    gradient: Gradient = "blocks",
    max_steps: int | None = None,
    tolerance: float = 1e-6,
) -> Tensor:
    """Flatten scores along strong edges: minimise 1/2 ||z - x||^2 + sum_ij w_ij |z_i - z_j|.

    Thesis (13), with the factor 1/2 of the library behind it. Pixels come out in blocks of equal value, and
    z > 0 is a minimum cut (:func:`flowcut.max_flow`). Solved in double precision. Differentiable in scores
    and edges: the exact derivative of a piecewise linear function, where two pieces meet that of one of them.

    Parameters
    ----------
    scores
        (N, C, *spatial), float, finite: evidence per label, higher means more likely.
    edges
        (N, K, *spatial) or (N, G, K, *spatial), finite, >= 0, G = 1 (shared by the labels) or C: w. Entry k
        ties pixel i to pixel i + offset k. Entries that leave the picture are never read.
    neighborhood
        Offsets of the K ties, or a :class:`flowcut.Graph` (then scores are (N, C, n) and edges (N, [G,] E)).
        Default: inferred from K, see :meth:`flowcut.Neighborhood.infer`.
    method
        "exact": divide and conquer on one flow, on the CPU. "iterative": an accelerated gradient method on
        the flow, made of array operations alone; what it cannot prove to be within ``tolerance``, the exact
        method does. "alternating": the thesis' peers, exact along each axis in turn, a fixed number of
        rounds whatever comes out; needs ties along the axes.
    refine
        "isotonic": make the best of the order of the pixels that "alternating" has found. The other methods
        need no refinement, or do it anyway.
    gradient
        "blocks": backward averages over connected blocks of equal value (right). "values": over all pixels
        of exactly equal value, wherever they are (thesis, Algorithm 1, as printed but for the sign).
    max_steps
        Rounds ("alternating", default 35, as the thesis) or iterations ("iterative", default 3200).
    tolerance
        For "iterative": ||z - z*|| <= tolerance ||x - mean x|| has to be proved.

    Returns
    -------
    Tensor
        (N, C, *spatial) of the type of ``scores``.

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not match, a value is NaN, infinite, or a negative edge, or an option is not known.

    See Also
    --------
    flowcut.solve_total_variation : The same with a certificate.

    Examples
    --------
    >>> scores = torch.tensor([[[0.0, 4.0, 5.0]]])
    >>> total_variation(scores, torch.ones(1, 1, 3)).tolist()
    [[[1.0, 4.0, 4.0]]]
    """
    options = _Options(method, refine, gradient, max_steps, tolerance)
    return _solve(scores, edges, neighborhood, options, proof=False)[0].to(scores.dtype)


def solve_total_variation(
    scores: Tensor,
    edges: Tensor,
    neighborhood: Neighborhood | Graph | None = None,
    method: Method = "exact",
    refine: Refinement | None = None,
    gradient: Gradient = "blocks",
    max_steps: int | None = None,
    tolerance: float = 1e-6,
) -> TotalVariationSolution:
    """:func:`total_variation` with its certificate: a flow, and how far from optimal the answer can be.

    Parameters
    ----------
    scores, edges, neighborhood, method, refine, gradient, max_steps, tolerance
        As in :func:`total_variation`.

    Returns
    -------
    TotalVariationSolution
        Value, flow, blocks, gap, steps; ``error_bound`` bounds the distance to the minimiser.

    Raises
    ------
    TypeError, ValueError
        As in :func:`total_variation`.

    Examples
    --------
    >>> solution = solve_total_variation(torch.randn(2, 1, 8, 8).double(), torch.rand(2, 2, 8, 8))
    >>> bool((solution.error_bound < 1e-12).all())
    True
    """
    options = _Options(method, refine, gradient, max_steps, tolerance)
    z, flow, blocks, steps, problem = _solve(scores, edges, neighborhood, options, proof=True)
    value = z.to(scores.dtype)
    return TotalVariationSolution(value, flow, blocks, problem.gap(value.detach().double(), flow), steps)


class TotalVariation(nn.Module):
    """:func:`total_variation` as a module: the last layer of a segmentation network.

    Parameters
    ----------
    neighborhood, method, refine, gradient, max_steps, tolerance
        As in :func:`total_variation`.

    Examples
    --------
    >>> head = TotalVariation()
    >>> head(torch.randn(2, 1, 8, 8), torch.rand(2, 2, 8, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        neighborhood: Neighborhood | Graph | None = None,
        method: Method = "exact",
        refine: Refinement | None = None,
        gradient: Gradient = "blocks",
        max_steps: int | None = None,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__()
        self.neighborhood = neighborhood
        self.options = _Options(method, refine, gradient, max_steps, tolerance)

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Flattened scores (N, C, *spatial), see :func:`total_variation`."""
        return _solve(scores, edges, self.neighborhood, self.options, proof=False)[0].to(scores.dtype)

    def extra_repr(self) -> str:
        """How it is solved and differentiated."""
        return f"method={self.options.method!r}, gradient={self.options.gradient!r}"


class _Options(NamedTuple):
    """How to solve, checked by :func:`_solve`."""

    method: str
    refine: str | None
    gradient: str
    max_steps: int | None
    tolerance: float

    def check(self) -> None:
        for name, value, known in (
            ("method", self.method, get_args(Method)),
            ("refine", self.refine, (None, *get_args(Refinement))),
            ("gradient", self.gradient, get_args(Gradient)),
        ):
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        if self.max_steps is not None and not self.max_steps >= 1:
            raise ValueError(f"max_steps: expected a number >= 1 or None, got {self.max_steps}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance: expected a number > 0, got {self.tolerance}")
        if self.refine is not None and self.method != "alternating":
            raise ValueError(f"refine: expected None for method {self.method!r}, got {self.refine!r}")


class _Solved(NamedTuple):
    """z in double precision, differentiable; flow, blocks, steps; and the problem."""

    z: Tensor
    flow: Tensor
    blocks: Tensor
    steps: Tensor
    problem: Problem


def _solve(
    scores: Tensor, edges: Tensor, neighborhood: Neighborhood | Graph | None, options: _Options, proof: bool
) -> _Solved:
    options.check()
    x, w, problem = read_problem(scores, edges, neighborhood)
    steps = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
    if options.method == "exact" or not scores.numel():
        z, flow, blocks = problem.exact(proof)
    elif options.method == "alternating":
        rounds = _ROUNDS if options.max_steps is None else options.max_steps
        z, flow = alternate(problem, rounds)
        z = z if options.refine is None else refine(problem, z)
        blocks, steps = problem.blocks(z), steps + rounds
    else:
        z, flow, blocks, steps = _iterative(problem, options)
    if options.gradient == "values":
        blocks = equal_values(z)
    return _Solved(minimiser(x, w, z, blocks, problem.ends, problem.offsets), flow, blocks, steps, problem)


def _iterative(problem: Problem, options: _Options) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the iteration cannot prove, the exact method does."""
    z, flow, steps, met = iterate(
        problem, options.tolerance, _STEPS if options.max_steps is None else options.max_steps
    )
    blocks = problem.blocks(z)
    left = (~met).flatten().nonzero()[:, 0]
    if len(left):
        exact = problem.items(left).exact(True)
        n, c = left // met.shape[1], left % met.shape[1]
        for whole, part in zip((z, flow, blocks), exact, strict=True):
            whole[n, c] = part[:, 0]
        steps = torch.where(met, steps, 0)
    return z, flow, blocks, steps


def equal_values(values: Tensor) -> Tensor:
    """(N, C, *spatial) int64: the same number for equal values of one item and channel, wherever they are.

    Examples
    --------
    >>> equal_values(torch.tensor([[[2.0, 1.0, 2.0]]])).tolist()
    [[[1, 0, 1]]]
    """
    flat = values.flatten(2)
    ordered, order = flat.sort(dim=2)
    new = torch.nn.functional.pad((ordered[..., 1:] != ordered[..., :-1]).long(), (1, 0))
    return torch.zeros_like(order).scatter(2, order, new.cumsum(dim=2)).reshape(values.shape)
