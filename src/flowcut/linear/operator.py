"""The user's description of a system: :class:`GridOperator`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.linear.adjoint import product
from flowcut.linear.system import System


@dataclass(frozen=True, eq=False)
class GridOperator:
    """A = diag(confidence) + L, L the Laplacian of the ties (SoftCut thesis (15), (22)).

    Parameters
    ----------
    edges
        (N, K, *spatial) or (N, G, K, *spatial), >= 0, G = 1 (shared by the channels) or C. Entry
        [n, g, k, i] ties pixel i to pixel i + offset k; entries that leave the picture are never
        read. With a :class:`Graph`: (N, E) or (N, G, E).
    confidence
        How strongly a pixel holds on to its own value: a number or (N or 1, 1 or C, *spatial),
        >= 0. Infinity pins the pixel (its equation becomes x_i = b_i), 0 leaves it to its
        neighbours. Default 1, the thesis.
    neighborhood
        Offsets of the K ties, or a graph. Default: inferred from K.

    Raises
    ------
    TypeError
        A tensor is not floating point.
    ValueError
        Shapes do not match.

    Examples
    --------
    >>> A = GridOperator(torch.ones(1, 2, 1, 3))
    >>> A.to_dense()[0, 0].tolist()
    [[2.0, -1.0, 0.0], [-1.0, 3.0, -1.0], [0.0, -1.0, 2.0]]
    """

    edges: Tensor
    confidence: Tensor | float = 1.0
    neighborhood: Neighborhood | Graph | None = None
    # The number that confidence was given as, if it was one.
    uniform: float | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        check_floating("edges", self.edges)
        neighborhood = self.neighborhood or _infer(self.edges)
        edges = _with_groups(self.edges, neighborhood)
        spatial = _spatial(edges, neighborhood)
        confidence = _full_confidence(self.confidence, edges, spatial)
        uniform = None if isinstance(self.confidence, Tensor) else float(self.confidence)
        object.__setattr__(self, "uniform", uniform)
        object.__setattr__(self, "neighborhood", neighborhood)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "confidence", confidence)

    @property
    def full_confidence(self) -> Tensor:
        """The confidence as (N or 1, 1 or C, *spatial)."""
        return cast(Tensor, self.confidence)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Shape of one picture; (n,) on a graph."""
        return tuple(self.full_confidence.shape[2:])

    def system(self, confidence: Tensor | None = None, edges: Tensor | None = None) -> System:
        """The normal form that solvers take, optionally with other values."""
        leak = self.full_confidence if confidence is None else confidence
        ties = self.edges if edges is None else edges
        if isinstance(self.neighborhood, Graph):
            return System(ties, leak, self.neighborhood.edge_index, ())
        return System(ties, leak, None, cast(Neighborhood, self.neighborhood).offsets)

    def to(self, dtype: torch.dtype) -> GridOperator:
        """The same operator in another floating type."""
        confidence = self.full_confidence.to(dtype) if self.uniform is None else self.uniform
        return GridOperator(self.edges.to(dtype), confidence, self.neighborhood)

    def mv(self, x: Tensor) -> Tensor:
        """A x, differentiable in x, edges and confidence; no pixel may be pinned."""
        return product(self.system(), x)

    def to_dense(self) -> Tensor:
        """(N, P, n, n), for small pictures; no pixel may be pinned."""
        return self.system().to_dense()


def check_shapes(value: Tensor, operator: GridOperator, name: str = "scores") -> None:
    """Refuse a right-hand side that does not fit the operator.

    Raises
    ------
    ValueError
        Items, channels or spatial axes differ.
    """
    edges, d = operator.edges, operator.full_confidence
    channels = value.shape[1]
    if tuple(value.shape[2:]) != operator.spatial or value.shape[0] != edges.shape[0]:
        raise ValueError(
            f"{name}: expected {edges.shape[0]} items of spatial shape {operator.spatial} as in edges, "
            f"got {tuple(value.shape)}"
        )
    for what, count in (("edges", edges.shape[1]), ("confidence", d.shape[1])):
        if count not in (1, channels):
            raise ValueError(f"{what}: expected 1 or {channels} channels as in {name}, got {count}")


def _infer(edges: Tensor) -> Neighborhood:
    """The neighborhood of (N, K, *spatial) if K fits it, else of (N, G, K, *spatial)."""
    error: ValueError | None = None
    for lead in (2, 3):
        if edges.ndim > lead:
            try:
                return Neighborhood.infer(edges.ndim - lead, edges.shape[lead - 1])
            except ValueError as problem:
                error = error or problem
    raise error or ValueError(f"edges: expected shape (N, K, *spatial), got {tuple(edges.shape)}")


def _with_groups(edges: Tensor, neighborhood: Neighborhood | Graph) -> Tensor:
    ndim = 0 if isinstance(neighborhood, Graph) else neighborhood.ndim
    if edges.ndim == ndim + 2:
        edges = edges.unsqueeze(1)
    if edges.ndim != ndim + 3 or edges.shape[2] != len(neighborhood):
        what = "(N, [G,] E)" if ndim == 0 else f"(N, [G,] {len(neighborhood)}, {ndim} spatial axes)"
        raise ValueError(f"edges: expected shape {what}, got {tuple(edges.shape)}")
    return edges


def _spatial(edges: Tensor, neighborhood: Neighborhood | Graph) -> tuple[int, ...]:
    return (neighborhood.num_nodes,) if isinstance(neighborhood, Graph) else tuple(edges.shape[3:])


def _full_confidence(confidence: Tensor | float, edges: Tensor, spatial: tuple[int, ...]) -> Tensor:
    if not isinstance(confidence, Tensor):
        if not confidence >= 0:
            raise ValueError(f"confidence: expected a number >= 0, got {confidence}")
        return edges.new_full((1,) * (2 + len(spatial)), float(confidence)).expand(1, 1, *spatial)
    check_floating("confidence", confidence)
    shape = tuple(confidence.shape)
    if len(shape) != 2 + len(spatial) or shape[2:] != spatial or shape[0] not in (1, edges.shape[0]):
        raise ValueError(
            f"confidence: expected a number or shape ({edges.shape[0]} or 1, 1 or C, "
            f"{', '.join(map(str, spatial))}), got {shape}"
        )
    return confidence
