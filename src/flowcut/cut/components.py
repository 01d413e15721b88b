"""Connected components of label maps."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import check_ties
from flowcut.kernels.components import graph_components, grid_components


def connected_components(
    labels: Tensor, neighborhood: Neighborhood | Graph | None = None, background: bool = True
) -> Tensor:
    """Number the connected components of equal label, item by item.

    As ``skimage.measure.label``, for a batch: components are numbered in the order of their first pixels.

    Parameters
    ----------
    labels
        (N, *spatial): bool, integers, or floats (equal where they are exactly equal; NaN equals nothing).
    neighborhood
        Which pixels touch, or a :class:`flowcut.Graph` (then labels are (N, n)). Default: next neighbours
        along the axes.
    background
        Whether label 0 is no component: it gets number 0, and the others are numbered from 1. Otherwise all
        are numbered from 0.

    Returns
    -------
    Tensor
        (N, *spatial) int64.

    Raises
    ------
    TypeError
        ``labels`` is complex or no tensor.
    ValueError
        Shapes do not match.

    Examples
    --------
    >>> connected_components(torch.tensor([[3, 3, 0, 3, 5]])).tolist()
    [[1, 1, 0, 2, 3]]
    """
    if not isinstance(labels, Tensor) or labels.dtype.is_complex:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels: expected a tensor of bool, integers or floats, got {got}")
    if labels.ndim < 2:
        raise ValueError(f"labels: expected shape (N, *spatial), got {tuple(labels.shape)}")
    where = Neighborhood.edges(labels.ndim - 1) if neighborhood is None else neighborhood
    check_ties("labels", labels[:, None], where)
    values = labels.detach()
    none = torch.zeros((1, 0, *labels.shape[1:]), dtype=torch.float64, device=labels.device)
    if isinstance(where, Graph):
        pairs = where.edge_index.to(labels.device).T.contiguous()
        numbers: Tensor = graph_components(values, none[..., 0], pairs, background)
    else:
        numbers = grid_components(values, none, where.flat, background)
    return numbers
