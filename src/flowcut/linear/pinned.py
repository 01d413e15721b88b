"""Pinned pixels (confidence = infinity): eliminated, never replaced by a huge number.

Split the pixels into free (f) and pinned (p) ones with values v. The free rows of A x = b are

    (diag(d_f) + L_ff + diag(sum_j in p w_ij)) x_f = b_f + sum_j in p w_ij v_j,

again a Laplacian plus a leak: what flows to a pinned neighbour is lost to the ground. Pinned
rows become x_i = v_i. Both extra sums are products with the Laplacian of the ties between
free and pinned pixels, so derivatives come along.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from flowcut.core.checks import distinct
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.linear.adjoint import product
from flowcut.linear.operator import GridOperator
from flowcut.linear.system import System


def eliminate_pinned(operator: GridOperator, value: Tensor, scaled: bool) -> tuple[System, Tensor]:
    """The system of all pixels and its right-hand side, with pinned pixels eliminated.

    Parameters
    ----------
    operator
        Whose confidence d may be infinite somewhere.
    value
        (N, C, *spatial).
    scaled
        True: ``value`` are scores s, and b = d s. False: ``value`` is b itself. At pinned
        pixels it is the value x takes, either way.
    """
    d = operator.full_confidence
    if operator.uniform == 1.0 or not may_be_pinned(d):
        return operator.system(), d * value if scaled and operator.uniform != 1.0 else value
    pinned = torch.isposinf(d)
    # 1 instead of infinity: what a masked place holds must still be finite for its gradient.
    finite = torch.where(pinned, torch.ones_like(d), d)
    b = torch.where(pinned, value, finite * value) if scaled else value
    here, there = _both_ends(pinned, operator)
    edges = operator.edges
    loose = torch.zeros_like(edges)
    between = operator.system(torch.zeros_like(finite), torch.where(here ^ there, edges, loose))
    held = torch.where(pinned, value, torch.zeros_like(value))
    lost = -product(between, pinned.to(edges.dtype).expand_as(value[:, : d.shape[1]]).contiguous())
    leak = torch.where(pinned, finite, finite + lost)
    rhs = torch.where(pinned, b, b - product(between, held))
    return operator.system(leak, torch.where(here | there, loose, edges)), rhs


def may_be_pinned(confidence: Tensor) -> bool:
    """Whether a pixel is pinned; True where the values cannot be looked at (compile, vmap)."""
    if torch.compiler.is_compiling():
        return True
    try:
        return bool(torch.isposinf(distinct(confidence.detach())).any())
    except RuntimeError:  # vmap: values of different examples under one name
        return True


def _both_ends(pinned: Tensor, operator: GridOperator) -> tuple[Tensor, Tensor]:
    """``pinned`` at either end of every tie, (N, D, K, *spatial) or (N, D, E) each."""
    neighborhood = cast(Neighborhood | Graph, operator.neighborhood)
    if isinstance(neighborhood, Graph):
        i, j = neighborhood.edge_index
        return pinned[..., i], pinned[..., j]
    axes = tuple(range(2, pinned.ndim))
    # Rolling wraps around the picture, into entries that are never read.
    there = [torch.roll(pinned, tuple(-o for o in offset), axes) for offset in neighborhood.offsets]
    return pinned.unsqueeze(2), torch.stack(there, dim=2)
