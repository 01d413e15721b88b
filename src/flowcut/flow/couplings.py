r"""Couplings of an S-flow: linear operators Omega on assignments (RAF (2), (3)).

An S-flow dS/dt = R_S(Omega S) with a symmetric Omega ascends the potential <S, Omega S> / 2:
d/dt of it is <Omega S, R_S(Omega S)>, a variance at every pixel. :class:`DenseCouplings` are used as given
(symmetry is the caller's), :class:`WindowCouplings` are symmetric by construction, and
:class:`ConvolutionCouplings` are where kernel[j, l, k] = kernel[l, j, -k].

Samples of Omega come first: M matrices, M sets of edges, M kernels; 1 is shared by all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.adjoint import average, average_transpose
from flowcut.flow.window import Window
from flowcut.kernels.guard import guarded


class Couplings(Protocol):
    """A linear operator on assignments (M, J, *spatial)."""

    @property
    def items(self) -> int:
        """Number M of operators; 1 where all samples share it."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the numbers."""

    def prepared(self, shape: tuple[int, ...], dtype: torch.dtype) -> Couplings:
        """The same in another type, checked against assignments of this shape, values and all."""

    def apply(self, assignments: Tensor) -> Tensor:
        """Omega S, differentiable in S and the couplings."""


@dataclass(frozen=True, eq=False)
class DenseCouplings:
    """One matrix over all pixels, the same for every label (RAF (2)).

    Parameters
    ----------
    matrix
        (M or 1, n, n), n = number of pixels in row-major order: entry [m, i, k] is what pixel i takes
        from pixel k. Only a symmetric matrix gives a potential.

    Raises
    ------
    TypeError, ValueError
        It is no such tensor.

    Examples
    --------
    >>> swap = DenseCouplings(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    >>> swap.apply(torch.tensor([[[0.9, 0.2], [0.1, 0.8]]])).tolist()
    [[[0.2..., 0.89...], [0.80..., 0.1...]]]
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        check_floating("matrix", self.matrix)
        if self.matrix.ndim != 3 or self.matrix.shape[1] != self.matrix.shape[2]:
            raise ValueError(f"matrix: expected shape (M, n, n), got {tuple(self.matrix.shape)}")

    @property
    def items(self) -> int:
        """M."""
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix."""
        return self.matrix.dtype

    def prepared(self, shape: tuple[int, ...], dtype: torch.dtype) -> DenseCouplings:
        """See :class:`Couplings`."""
        count = math.prod(shape[2:])
        if self.matrix.shape[1] != count:
            raise ValueError(
                f"matrix: expected {count} rows as there are pixels, got {tuple(self.matrix.shape)}"
            )
        return DenseCouplings(guarded(self.matrix.to(dtype), "matrix: expected finite values"))

    def apply(self, assignments: Tensor) -> Tensor:
        """(Omega S)_i = sum_k omega_ik S_k."""
        product = assignments.flatten(2) @ self.matrix.mT
        return product.reshape(*product.shape[:2], *assignments.shape[2:])


@dataclass(frozen=True, eq=False)
class WindowCouplings:
    """Symmetric couplings of neighbours: each tie once, used both ways.

    Parameters
    ----------
    edges
        (M or 1, K, *spatial), of any sign, or (M or 1, E) on a graph: entry [m, k, i] couples pixel i
        and pixel i + offset k. Entries that leave the picture are never read.
    diagonal
        A number or (M or 1, *spatial): how much a pixel is coupled to itself.
    neighborhood
        Offsets of the K ties or a graph. Default: inferred from K, see
        :meth:`flowcut.Neighborhood.infer`.

    Raises
    ------
    TypeError, ValueError
        Shapes do not fit.

    Examples
    --------
    >>> line = WindowCouplings(torch.tensor([[[1.0, 2.0, 9.0]]]))
    >>> line.apply(torch.tensor([[[1.0, 0.0, 0.5]]])).tolist()
    [[[0.0, 2.0, 0.0]]]
    """

    edges: Tensor
    diagonal: Tensor | float = 0.0
    neighborhood: Neighborhood | Graph | None = None

    def __post_init__(self) -> None:
        check_floating("edges", self.edges)
        if isinstance(self.diagonal, Tensor):
            check_floating("diagonal", self.diagonal)
        axes = self.edges.ndim - 2
        where = self.neighborhood
        if isinstance(where, Graph):
            fits = axes == 0 and self.edges.shape[1] == len(where)
            wanted = f"(M, {len(where)})"
        elif where is not None:
            fits = axes == where.ndim and self.edges.shape[1] == len(where)
            wanted = f"(M, {len(where)}, {where.ndim} spatial axes)"
        else:
            fits, wanted = axes > 0, "(M, K, *spatial)"
        if not fits:
            raise ValueError(f"edges: expected shape {wanted}, got {tuple(self.edges.shape)}")
        if where is None:
            object.__setattr__(self, "neighborhood", Neighborhood.infer(axes, self.edges.shape[1]))

    @property
    def items(self) -> int:
        """M."""
        own = self.diagonal.shape[0] if isinstance(self.diagonal, Tensor) else 1
        return _common(self.edges.shape[0], own)

    @property
    def dtype(self) -> torch.dtype:
        """The wider one of edges and diagonal."""
        if isinstance(self.diagonal, Tensor):
            return torch.promote_types(self.edges.dtype, self.diagonal.dtype)
        return self.edges.dtype

    @property
    def window(self) -> Window:
        """Where the edges stand, in one of their two directions."""
        where = self.neighborhood
        if isinstance(where, Graph):
            return Window((), where.edge_index.to(self.edges.device), where.num_nodes)
        assert where is not None  # set when this was made
        return Window(where.offsets)

    def prepared(self, shape: tuple[int, ...], dtype: torch.dtype) -> WindowCouplings:
        """See :class:`Couplings`."""
        spatial, window = shape[2:], self.window
        own = (window.num_nodes,) if window.pairs is not None else tuple(self.edges.shape[2:])
        if own != spatial:
            raise ValueError(f"edges: expected pixels {spatial} as in the assignments, got {own}")
        inside = window.inside(spatial, self.edges.device)
        edges = torch.where(inside, self.edges.to(dtype), 0)
        edges = guarded(edges, "edges: expected finite values inside the picture")
        diagonal = self.diagonal
        if isinstance(diagonal, Tensor):
            if tuple(diagonal.shape[1:]) != spatial or diagonal.shape[0] not in (1, self.items):
                raise ValueError(
                    f"diagonal: expected a number or shape ({self.items} or 1, "
                    f"{', '.join(map(str, spatial))}), got {tuple(diagonal.shape)}"
                )
            diagonal = guarded(diagonal.to(dtype), "diagonal: expected finite values")
        return replace(self, edges=edges, diagonal=diagonal)

    def apply(self, assignments: Tensor) -> Tensor:
        """(Omega S)_i = d_i S_i + sum_k e_k(i) S_{i+k} + e_k(i-k) S_{i-k}."""
        items = _common(self.items, assignments.shape[0])
        x = assignments.expand(items, *assignments.shape[1:])
        edges = self.edges.expand(items, *self.edges.shape[1:])
        own = self.diagonal.unsqueeze(1) if isinstance(self.diagonal, Tensor) else self.diagonal
        window = self.window
        return own * x + average(window, edges, x) + average_transpose(window, edges, x)


@dataclass(frozen=True, eq=False)
class ConvolutionCouplings:
    """The same couplings at every pixel, between labels too (RAF (3) and its first experiment).

    Parameters
    ----------
    kernel
        (J, J, *window), or (M or 1, J, J, *window), of odd sides: entry [j, l, k] is what label j takes
        from label l at the pixel i + k, k counted from the centre of the window. Pixels outside are zero.

    Raises
    ------
    TypeError, ValueError
        It is no such tensor.

    Examples
    --------
    >>> kernel = torch.zeros(2, 2, 3)
    >>> kernel[0, 1, 2] = 1.0  # label 0 takes from label 1 of the next pixel
    >>> ConvolutionCouplings(kernel).apply(torch.tensor([[[0.0, 0.0], [0.25, 0.75]]])).tolist()
    [[[0.75, 0.0], [0.0, 0.0]]]
    """

    kernel: Tensor

    def __post_init__(self) -> None:
        check_floating("kernel", self.kernel)
        shape = tuple(self.kernel.shape)
        # (J, J, w, ...) or (M, J, J, w, ...): the label axes are equal. Both readings can fit
        # where M = J = w; `apply` decides by the number of axes of the assignments.
        if not any(len(shape) > at + 2 and shape[at] == shape[at + 1] for at in (0, 1)):
            raise ValueError(f"kernel: expected shape (J, J, *window) or (M, J, J, *window), got {shape}")

    @property
    def dtype(self) -> torch.dtype:
        """Of the kernel."""
        return self.kernel.dtype

    @property
    def items(self) -> int:
        """M of a prepared kernel."""
        return self.kernel.shape[0]

    def prepared(self, shape: tuple[int, ...], dtype: torch.dtype) -> ConvolutionCouplings:
        """See :class:`Couplings`; the sample axis is added."""
        ndim, labels = len(shape) - 2, shape[1]
        kernel = self.kernel if self.kernel.ndim == ndim + 3 else self.kernel.unsqueeze(0)
        got = tuple(self.kernel.shape)
        if kernel.ndim != ndim + 3 or tuple(kernel.shape[1:3]) != (labels, labels):
            raise ValueError(
                f"kernel: expected shape ([M,] {labels}, {labels}, {ndim} window sides) "
                f"to fit the assignments, got {got}"
            )
        if any(side % 2 == 0 for side in kernel.shape[3:]):
            raise ValueError(f"kernel: expected odd window sides, got {got}")
        if ndim not in _CONVOLUTIONS:
            raise ValueError(f"kernel: expected 1 to 3 spatial axes, got {ndim}")
        return ConvolutionCouplings(guarded(kernel.to(dtype), "kernel: expected finite values"))

    def apply(self, assignments: Tensor) -> Tensor:
        """(Omega S)_ij = sum_kl kernel[j, l, k] S_{i+k, l}."""
        ndim = assignments.ndim - 2
        kernel = self.kernel if self.kernel.ndim == ndim + 3 else self.kernel.unsqueeze(0)
        convolve = _CONVOLUTIONS[ndim]
        padding = [side // 2 for side in kernel.shape[3:]]
        if kernel.shape[0] == 1:
            return convolve(assignments, kernel[0], padding=padding)
        # One group of channels for each sample.
        items, labels = kernel.shape[0], kernel.shape[1]
        x = assignments.expand(items, *assignments.shape[1:])
        if items == 0:  # zero groups are no convolution
            return x * kernel.sum()
        grouped = x.reshape(1, items * labels, *x.shape[2:])
        y = convolve(grouped, kernel.flatten(0, 1), padding=padding, groups=items)
        return y.reshape(x.shape)


_CONVOLUTIONS = {
    1: torch.nn.functional.conv1d,
    2: torch.nn.functional.conv2d,
    3: torch.nn.functional.conv3d,
}


def _common(first: int, second: int) -> int:
    """Number of samples where one of the two may be shared; also 0."""
    return second if first == 1 else first
