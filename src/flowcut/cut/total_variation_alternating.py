"""Total variation by alternating over the axes, as the thesis' peers do, and isotonic refinement."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.differences import differences
from flowcut.cut.total_variation_problem import Problem
from flowcut.kernels.layout import is_axis_neighborhood
from flowcut.kernels.total_variation_lines import isotonic_fit, lines_total_variation


def alternate(problem: Problem, steps: int) -> tuple[Tensor, Tensor]:
    """z and flow after so many rounds of exact prox steps along every axis in turn.

    (13) is 1/2 ||z - x||^2 plus one sum of total variations of lines for each axis. With u_a the divergence
    of the flow along axis a, z = x - sum_a u_a; one step minimises over u_a with the others as they are: the
    prox of the lines at z + u_a (Dykstra's method; Barbero and Sra 2018). Exact after one round
    where there is one axis only.

    Raises
    ------
    ValueError
        The ties are not those between next neighbours along the axes.
    """
    where = problem.where
    if not (isinstance(where, Neighborhood) and is_axis_neighborhood(where.offsets)):
        raise ValueError('method: expected ties along the axes of a grid for "alternating", got others')
    z = problem.scores.clone()
    edges = problem.edges.expand(*z.shape[:2], *problem.edges.shape[2:])
    moved = torch.zeros((z.ndim - 2, *z.shape), dtype=z.dtype, device=z.device)
    for _ in range(steps):
        for axis in range(z.ndim - 2):
            before = z + moved[axis]
            z = _along(before, edges[:, :, axis], axis + 2)
            moved[axis] = before - z
    # u_a is what leaves minus what comes in, so its sums along the axis are the flow.
    flow = torch.stack([moved[a].cumsum(dim=a + 2) for a in range(len(moved))], dim=2)
    limit = torch.where(problem.inside, edges, 0.0)
    return z, torch.maximum(torch.minimum(flow, limit), -limit)


def _along(values: Tensor, edges: Tensor, axis: int) -> Tensor:
    """The prox of all lines along an axis."""
    x, w = values.movedim(axis, -1), edges.movedim(axis, -1)
    lines = lines_total_variation(x.reshape(-1, x.shape[-1]), w.reshape(-1, x.shape[-1]))
    return lines.reshape(x.shape).movedim(-1, axis)


def refine(problem: Problem, z: Tensor) -> Tensor:
    """The best picture in which pixels have the same order as in z (equal values may separate).

    In that order every tie runs down from i to j and w |z_i - z_j| = w (z_i - z_j) is linear: what is left is
    to minimise 1/2 ||z - y||^2, y = x - (sum of w to lower pixels - sum of w to higher ones), among pictures
    of that order, an isotonic regression (Bach 2013, "Learning with submodular functions"). If
    the order is that of the minimiser, this is the minimiser.
    """
    flat = z.flatten(0, 1).flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=z.device).expand(order.shape)
    rank = torch.empty_like(order).scatter_(1, order, places).reshape(z.shape)
    down = torch.where(
        problem.inside, -differences(rank, problem.ends, problem.offsets).sign() * problem.edges, 0.0
    )
    y = (problem.scores - problem.divergence(down)).flatten(0, 1).flatten(1)
    fitted = isotonic_fit(y.gather(1, order))
    return torch.empty_like(y).scatter_(1, order, fitted).reshape(z.shape)
