"""What an energy is made of, read and checked once."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import check_ties


def finite(name: str, value: Tensor) -> Tensor:
    """The tensor itself.

    Raises
    ------
    ValueError
        It holds NaN or infinity.
    """
    check_finite(name, value)
    return value


def find_neighborhood(
    unary: Tensor, edges: Tensor | None, pairwise: Tensor | None, given: Neighborhood | Graph | None
) -> Neighborhood | Graph:
    """The given ties, checked against the pixels, or the ones that the edges' channels stand for.

    Raises
    ------
    ValueError
        They do not fit, or there is nothing to infer them from.
    """
    axes = unary.ndim - 2
    if given is not None:
        check_ties("unary", unary, given, channels="J")
        return given
    if edges is not None:
        return Neighborhood.infer(axes, edges.shape[-axes - 1] if edges.ndim > axes else 0)
    if pairwise is not None and pairwise.ndim == axes + 4:
        return Neighborhood.infer(axes, pairwise.shape[1])
    raise ValueError("edges: expected weights, or pairwise tables for every tie, got neither")


def read_edges(unary: Tensor, edges: Tensor | None, where: Neighborhood | Graph) -> Tensor:
    """(N or 1, K, *spatial) or (N or 1, E) in the type of ``unary``, zero outside the picture.

    Raises
    ------
    TypeError, ValueError
        They are no such tensor.
    """
    shape = _tie_shape(unary, where)
    if edges is None:
        return _mask(unary.new_ones((1, *shape)), unary, where)
    check_floating("edges", edges)
    given = edges.squeeze(1) if edges.ndim == len(shape) + 2 and edges.shape[1] == 1 else edges
    if tuple(given.shape[1:]) != shape or given.ndim == 0 or given.shape[0] not in (1, unary.shape[0]):
        raise ValueError(
            f"edges: expected shape ({_items(unary)}, {', '.join(map(str, shape))}), got {tuple(edges.shape)}"
        )
    return finite("edges", _mask(given.to(unary.dtype), unary, where))


def read_pairwise(unary: Tensor, pairwise: Tensor | None, where: Neighborhood | Graph) -> Tensor | None:
    """None, (J, J), or a table for every tie, zero outside the picture.

    Raises
    ------
    TypeError, ValueError
        It is no such tensor.
    """
    if pairwise is None:
        return None
    check_floating("pairwise", pairwise)
    labels, ties = unary.shape[1], _tie_shape(unary, where)
    spatial = ties if isinstance(where, Graph) else ties[1:]
    full = (*ties[: len(ties) - len(spatial)], labels, labels, *spatial)
    if tuple(pairwise.shape) == (labels, labels):
        return finite("pairwise", pairwise.to(unary.dtype))
    if tuple(pairwise.shape[1:]) != full or pairwise.shape[0] not in (1, unary.shape[0]):
        raise ValueError(
            f"pairwise: expected shape ({labels}, {labels}) or "
            f"({_items(unary)}, {', '.join(map(str, full))}), got {tuple(pairwise.shape)}"
        )
    return finite("pairwise", _mask(pairwise.to(unary.dtype), unary, where))


def _tie_shape(unary: Tensor, where: Neighborhood | Graph) -> tuple[int, ...]:
    return (len(where),) if isinstance(where, Graph) else (len(where), *unary.shape[2:])


def _mask(values: Tensor, unary: Tensor, where: Neighborhood | Graph) -> Tensor:
    """Zero for ties that leave the picture; also where NaN stands there."""
    if isinstance(where, Graph):
        return values
    inside = where.inside(tuple(unary.shape[2:]), unary.device)
    tables = values.ndim - inside.ndim - 1
    return torch.where(inside.reshape(len(where), *(1,) * tables, *inside.shape[1:]), values, 0)


def _items(unary: Tensor) -> str:
    return "1" if unary.shape[0] == 1 else f"1 or {unary.shape[0]}"
