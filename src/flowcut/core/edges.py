"""The paper's cropped edge arrays, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def edges_from_axes(arrays: Sequence[Tensor]) -> Tensor:
    """One edge tensor from one cropped array per axis (SoftCut thesis, section 2: C and R; E^1 ... E^d).

    Parameters
    ----------
    arrays
        d tensors (..., n_1, ..., n_m - 1, ..., n_d): the m-th, shorter by one along axis m, ties each
        pixel to its successor along that axis.

    Returns
    -------
    Tensor
        (..., d, n_1, ..., n_d), zero where the successor lies outside the picture.

    Raises
    ------
    ValueError
        The shapes do not belong to one picture.

    Examples
    --------
    >>> edges_from_axes([torch.ones(1, 3), torch.ones(2, 2)]).tolist()
    [[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]
    """
    ndim = len(arrays)
    got = ", ".join(str(tuple(a.shape)) for a in arrays) or "none"
    if ndim == 0 or any(a.ndim < ndim for a in arrays):
        raise ValueError(f"arrays: expected one array per axis, each with all axes, got shapes {got}")
    full = []
    for axis, array in enumerate(arrays):
        # Pads come last axis first, two numbers each: one more entry at the end of this axis.
        pad = [0, 0] * (ndim - axis - 1) + [0, 1]
        full.append(torch.nn.functional.pad(array, pad))
    shapes = {tuple(f.shape) for f in full}
    if len(shapes) != 1:
        raise ValueError(f"arrays: expected the m-th shorter by one along axis m, got shapes {got}")
    return torch.stack(full, dim=-ndim - 1)


def axes_from_edges(edges: Tensor, ndim: int | None = None) -> list[Tensor]:
    """The cropped arrays of an axis neighborhood: the inverse of :func:`edges_from_axes`.

    Parameters
    ----------
    edges
        (..., d, n_1, ..., n_d).
    ndim
        d. Default: inferred from the shape, where only one d fits.

    Raises
    ------
    ValueError
        The shape is not that of an axis neighborhood, or fits several d.

    Examples
    --------
    >>> [a.shape for a in axes_from_edges(torch.ones(2, 4, 5))]
    [torch.Size([3, 5]), torch.Size([4, 4])]
    """
    shape = tuple(edges.shape)
    fits = [d for d in range(1, edges.ndim) if shape[-d - 1] == d and ndim in (None, d)]
    if not fits:
        wanted = "d" if ndim is None else str(ndim)
        raise ValueError(f"edges: expected shape (..., {wanted}, n_1, ..., n_{wanted}), got {shape}")
    if len(fits) > 1:
        raise ValueError(f"edges: shape {shape} fits {' and '.join(map(str, fits))} axes; pass ndim=")
    d = fits[0]
    parts = edges.unbind(-d - 1)
    return [part.narrow(m - d, 0, max(0, part.shape[m - d] - 1)) for m, part in enumerate(parts)]
