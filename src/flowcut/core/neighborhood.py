"""Which pixels touch: :class:`Neighborhood` on grids, :class:`Graph` on anything else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Offset = tuple[int, ...]


@dataclass(frozen=True)
class Neighborhood:
    """The ties of a pixel, as offsets to its neighbours.

    Parameters
    ----------
    offsets
        K integer tuples, one entry per spatial axis. Channel k of an edge or weight
        tensor belongs to the tie between pixel i and pixel i + ``offsets[k]``.
    spacing
        Physical size of a pixel along each axis (any unit, > 0). It matters only where
        edges are made from pictures. Default: 1 along every axis.

    Examples
    --------
    >>> Neighborhood.edges(2).offsets
    ((1, 0), (0, 1))
    >>> len(Neighborhood.edges(3, connectivity=3)), len(Neighborhood.window(2, 3))
    (13, 9)
    """

    offsets: tuple[Offset, ...]
    spacing: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        offsets = tuple(tuple(int(o) for o in offset) for offset in self.offsets)
        if not offsets or not offsets[0]:
            raise ValueError("offsets: expected at least one offset with at least one axis, got none")
        ndim = len(offsets[0])
        if any(len(offset) != ndim for offset in offsets):
            raise ValueError(f"offsets: expected every offset to have {ndim} axes, got {offsets}")
        if len(set(offsets)) != len(offsets):
            raise ValueError(f"offsets: expected each offset once, got {offsets}")
        spacing = tuple(float(s) for s in self.spacing) or (1.0,) * ndim
        if len(spacing) != ndim or not all(0 < s < float("inf") for s in spacing):
            raise ValueError(f"spacing: expected {ndim} finite numbers > 0, got {self.spacing}")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "spacing", spacing)

    @classmethod
    def edges(cls, ndim: int, connectivity: int = 1, spacing: tuple[float, ...] = ()) -> Neighborhood:
        """Each undirected tie once: first the axes in order, then the diagonals.

        Parameters
        ----------
        ndim
            Number of spatial axes, >= 1.
        connectivity
            As in scikit-image: neighbours differ along at most so many axes. In 2-D, 1 is
            the 4- and 2 the 8-neighbourhood; in 3-D, 1, 2, 3 are 6, 18 and 26 neighbours.
        spacing
            Physical size of a pixel along each axis.

        Raises
        ------
        ValueError
            ``connectivity`` is not between 1 and ``ndim``.
        """
        _check_ndim(ndim)
        if not 1 <= connectivity <= ndim:
            raise ValueError(f"connectivity: expected 1 to {ndim} for {ndim} axes, got {connectivity}")
        # One of the two directions of each tie: the one whose first non-zero step is forward.
        forward = [o for o in itertools.product((1, 0, -1), repeat=ndim) if _first_nonzero(o) > 0]
        near = [o for o in forward if sum(map(abs, o)) <= connectivity]
        return cls(tuple(sorted(near, key=lambda o: sum(map(abs, o)))), spacing)

    @classmethod
    def window(cls, ndim: int, size: int, spacing: tuple[float, ...] = ()) -> Neighborhood:
        """The full window of odd side ``size``, centre included, in row-major order.

        Raises
        ------
        ValueError
            ``size`` is even or < 1.
        """
        _check_ndim(ndim)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size: expected an odd window side >= 1, got {size}")
        reach = range(-(size // 2), size // 2 + 1)
        return cls(tuple(itertools.product(reach, repeat=ndim)), spacing)

    @classmethod
    def infer(cls, ndim: int, num_offsets: int) -> Neighborhood:
        """The edge neighborhood of ``ndim`` axes that has ``num_offsets`` ties.

        Raises
        ------
        ValueError
            No connectivity of ``ndim`` axes has that many.

        Examples
        --------
        >>> Neighborhood.infer(2, 4).connectivity
        2
        """
        fits = [cls.edges(ndim, c) for c in range(1, ndim + 1)]
        for candidate in fits:
            if len(candidate) == num_offsets:
                return candidate
        known = ", ".join(str(len(f)) for f in fits)
        raise ValueError(
            f"edges: expected {known} channels for {ndim} spatial axes (connectivity 1 to {ndim}), "
            f"got {num_offsets}; pass neighborhood= for other ties"
        )

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.offsets[0])

    @property
    def connectivity(self) -> int:
        """The largest number of axes along which a neighbour differs."""
        return max(sum(1 for o in offset if o) for offset in self.offsets)

    @cached_property
    def flat(self) -> list[int]:
        """The offsets as one list of K * ndim integers: how operations take them."""
        return [o for offset in self.offsets for o in offset]

    @cached_property
    def lengths(self) -> tuple[float, ...]:
        """Physical length of each tie."""
        return tuple(
            sum((o * s) ** 2 for o, s in zip(offset, self.spacing, strict=True)) ** 0.5
            for offset in self.offsets
        )

    def inside(self, spatial: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Where the neighbour lies inside the picture.

        Returns
        -------
        Tensor
            (K, *spatial) bool.
        """
        mask = torch.zeros((len(self), *spatial), dtype=torch.bool, device=device)
        for k, offset in enumerate(self.offsets):
            mask[k][source_slices(offset, spatial)] = True
        return mask


_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Graph:
    """Undirected ties between ``num_nodes`` nodes, in PyTorch Geometric's convention.

    Takes the place of a :class:`Neighborhood` in every layer: tensors are then (N, C, n)
    and edges (N, G, E).

    Parameters
    ----------
    edge_index
        (2, E) integer tensor. Each tie stands once; entry e of an edge tensor belongs
        to the tie between ``edge_index[0, e]`` and ``edge_index[1, e]``.
    num_nodes
        Number n of nodes, > every entry of ``edge_index``.

    Examples
    --------
    >>> path = Graph(torch.tensor([[0, 1], [1, 2]]), 3)
    >>> len(path), path.num_nodes
    (2, 3)
    """

    edge_index: Tensor
    num_nodes: int

    def __post_init__(self) -> None:
        index = self.edge_index
        if index.ndim != 2 or index.shape[0] != 2 or index.dtype not in _INTEGERS:
            raise ValueError(
                f"edge_index: expected an integer tensor of shape (2, E), "
                f"got {index.dtype} {tuple(index.shape)}"
            )
        if index.numel():
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= self.num_nodes:
                raise ValueError(f"edge_index: expected nodes 0 to {self.num_nodes - 1}, got {low} to {high}")
            if bool((index[0] == index[1]).any()):
                raise ValueError("edge_index: expected no node tied to itself, got a self-loop")
        object.__setattr__(self, "edge_index", index.detach().to(torch.int64).contiguous())

    def __len__(self) -> int:
        return int(self.edge_index.shape[1])


def source_slices(offset: Offset, spatial: tuple[int, ...]) -> tuple[slice, ...]:
    """The pixels i of a grid for which i + offset is inside too."""
    return tuple(
        slice(max(0, -o), max(min(n, n - o), max(0, -o))) for o, n in zip(offset, spatial, strict=True)
    )


def target_slices(offset: Offset, spatial: tuple[int, ...]) -> tuple[slice, ...]:
    """The pixels i + offset that belong to :func:`source_slices`, in the same order."""
    return source_slices(tuple(-o for o in offset), spatial)


def _first_nonzero(offset: Offset) -> int:
    return next((o for o in offset if o), 0)


def _check_ndim(ndim: int) -> None:
    if ndim < 1:
        raise ValueError(f"ndim: expected at least one spatial axis, got {ndim}")
