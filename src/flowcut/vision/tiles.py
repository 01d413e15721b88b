"""Pictures cut into overlapping tiles, and tiles put together again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

__all__ = ["Combine", "Padding", "TileGrid", "Window", "tile", "untile"]

Padding = Literal["reflect", "edge"]
Combine = Literal["discard", "weighted"]
Window = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a picture lie: every ``size`` pixels one of ``size + overlap`` pixels.

    The SoftCut thesis cuts pictures into tiles of 256 + 32 pixels, so that a network sees what surrounds
    the 256 that are kept of each. The last tile of an axis is moved back so that it ends with the picture,
    and all tiles have one shape; an axis shorter than a tile has one tile, as long as the axis.

    Parameters
    ----------
    shape
        Of the picture, ``(*spatial)``, each side >= 1.
    size
        Pixels from one tile to the next, >= 1; one number or one for each axis.
    overlap
        Pixels that neighbouring tiles share, >= 0.
    padding
        None: tiles end with the picture, and a network treats the border as it does in the whole picture.
        "reflect" (the border pixel not repeated) or "edge" (only it): the picture is continued by
        ``overlap // 2`` pixels on each side, and at its ends until every tile is of size + overlap pixels.

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> grid = TileGrid((1024, 2048))
    >>> len(grid), grid.window
    (32, (288, 288))
    >>> grid.starts[0]
    (0, 256, 512, 736)
    """

    shape: tuple[int, ...]
    size: int | tuple[int, ...] = 256
    overlap: int = 32
    padding: Padding | None = None

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"image: expected at least one pixel, got the size {tuple(self.shape)}")
        if len(self.sizes) != len(self.shape) or min(self.sizes) < 1:
            raise ValueError(f"size: expected one number >= 1 or {len(self.shape)} of them, got {self.size}")
        if self.overlap < 0:
            raise ValueError(f"overlap: expected 0 or more, got {self.overlap}")
        if self.padding is not None and self.padding not in get_args(Padding):
            raise ValueError(f"padding: expected reflect, edge or None, got {self.padding!r}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """``size`` for each axis."""
        return (self.size,) * len(self.shape) if isinstance(self.size, int) else tuple(self.size)

    @property
    def window(self) -> tuple[int, ...]:
        """The shape of every tile."""
        whole = tuple(size + self.overlap for size in self.sizes)
        return whole if self.padding else tuple(map(min, whole, self.shape))

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """For each axis the first pixel of every tile; below 0 in front of the picture."""
        if self.padding:
            margin = self.overlap // 2
            return tuple(
                tuple(range(-margin, n - margin, size))
                for n, size in zip(self.shape, self.sizes, strict=True)
            )
        return tuple(
            tuple(min(j * size, n - window) for j in range(1 + math.ceil((n - window) / size)))
            for n, size, window in zip(self.shape, self.sizes, self.window, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    @cached_property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """For each tile, in order, its number along every axis; the last axis runs first."""
        return tuple(itertools.product(*(range(len(starts)) for starts in self.starts)))

    def cut(self, image: Tensor, k: int) -> Tensor:
        """Tile k, (C, *window), of a picture (C, *spatial); a copy."""
        for axis, (j, starts) in enumerate(zip(self.places[k], self.starts, strict=True)):
            index = torch.arange(starts[j], starts[j] + self.window[axis], device=image.device)
            image = image.index_select(axis + 1, _inside(index, self.shape[axis], self.padding))
        return image

    def part(self, k: int) -> tuple[slice, ...]:
        """The pixels of the picture that tile k covers."""
        return tuple(
            slice(max(starts[j], 0), min(starts[j] + length, n))
            for j, starts, length, n in zip(self.places[k], self.starts, self.window, self.shape, strict=True)
        )

    def share(self, k: int, combine: Combine = "discard", window: Window = "linear") -> list[Tensor]:
        """How much tile k counts at the pixels of :meth:`part`, one factor (pixels,) for each axis.

        Over all tiles the shares of a pixel sum to one.

        Let r_j rise from 0 to 1 over the pixels that tile j shares with the one in front of it, r_0 = 1 and
        r = 0 beyond the last. As r_j >= r_(j+1), the shares r_j - r_(j+1) are >= 0, vanish where tile j
        ends, and telescope to r_0 - 0 = 1, however far the last tile was moved back.
        """
        factors = []
        for axis, (j, pixels) in enumerate(zip(self.places[k], self.part(k), strict=True)):
            x = torch.arange(pixels.start, pixels.stop, dtype=torch.float64)
            starts = self.starts[axis]
            if combine == "weighted" and window == "constant":
                seen = sum(((x >= s) & (x < s + self.window[axis])).double() for s in starts)
                factors.append(1 / torch.as_tensor(seen))
                continue
            rise = torch.ones_like(x) if j == 0 else self._rise(x, starts[j], combine, window)
            if j + 1 < len(starts):
                rise = rise - self._rise(x, starts[j + 1], combine, window)
            factors.append(rise)
        return factors

    def _rise(self, x: Tensor, start: int, combine: Combine, window: Window) -> Tensor:
        """r of a tile that starts here."""
        if combine == "discard" or self.overlap == 0:
            return (x >= start + self.overlap // 2).double()
        ramp = ((x - start + 0.5) / self.overlap).clamp(0, 1)
        return torch.sin(math.pi / 2 * ramp) ** 2 if window == "cosine" else ramp


def tile(
    image: Tensor, size: int | tuple[int, ...] = 256, overlap: int = 32, padding: Padding | None = None
) -> tuple[Tensor, TileGrid]:
    """Cut a picture into overlapping tiles.

    Parameters
    ----------
    image
        (C, *spatial), any number of spatial axes.
    size, overlap, padding
        As in :class:`TileGrid`.

    Returns
    -------
    tiles : Tensor
        (T, C, *window), copies.
    grid : TileGrid
        Where they lie.

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> tiles, grid = tile(torch.rand(3, 500, 400))
    >>> tiles.shape
    torch.Size([4, 3, 288, 288])
    """
    if image.ndim < 2:
        raise ValueError(f"image: expected (C, *spatial), got {tuple(image.shape)}")
    grid = TileGrid(tuple(image.shape[1:]), size, overlap, padding)
    return torch.stack([grid.cut(image, k) for k in range(len(grid))]), grid


def untile(
    tiles: Tensor | Iterable[Tensor],
    grid: TileGrid,
    combine: Combine = "discard",
    window: Window = "linear",
) -> Tensor:
    """Put tiles, or what a network made of them, together.

    Parameters
    ----------
    tiles
        (T, C, *window), or one (C, *window) after the other, of which then only one is kept at a time.
    grid
        From :func:`tile`.
    combine
        "discard": each pixel comes from one tile, half of every overlap is thrown away, as in the SoftCut
        thesis; any type. "weighted": each pixel is a mean over the tiles that hold it; floating point.
    window
        With "weighted": weights that fall "linear" or as a "cosine" over the overlap, or "constant" ones.

    Returns
    -------
    Tensor
        (C, *spatial), of the type of the tiles.

    Raises
    ------
    ValueError
        An argument is none of those named, or there are other tiles than the grid has.

    Examples
    --------
    >>> image = torch.arange(35.0).view(1, 5, 7)
    >>> tiles, grid = tile(image, size=2, overlap=2)
    >>> torch.equal(untile(tiles, grid), image)
    True
    >>> bool((untile(tiles, grid, "weighted") - image).abs().max() < 1e-5)
    True
    """
    check_combine(combine, get_args(Combine), window)
    result, count = None, 0
    for k, piece in enumerate(tiles):
        if k >= len(grid) or tuple(piece.shape[1:]) != grid.window:
            raise ValueError(
                f"tiles: expected {len(grid)} of shape (C, *{grid.window}), got {tuple(piece.shape)} at {k}"
            )
        if result is None:
            result = piece.new_zeros((piece.shape[0], *grid.shape))
        _add(result, piece, grid, k, combine, window)
        count = k + 1
    if result is None or count != len(grid):
        raise ValueError(f"tiles: expected {len(grid)}, got {count}")
    return result


def check_combine(combine: str, known: tuple[str, ...], window: str) -> None:
    """Refuse ways to combine tiles that there are not.

    Raises
    ------
    ValueError
        One of the two is not known.
    """
    if combine not in known:
        raise ValueError(f"combine: expected one of {', '.join(known)}, got {combine!r}")
    if window not in get_args(Window):
        raise ValueError(f"window: expected one of {', '.join(get_args(Window))}, got {window!r}")


def _add(result: Tensor, piece: Tensor, grid: TileGrid, k: int, combine: Combine, window: Window) -> None:
    part, starts = grid.part(k), [s[j] for j, s in zip(grid.places[k], grid.starts, strict=True)]
    within: tuple[Any, ...] = (
        ...,
        *(slice(p.start - s, p.stop - s) for p, s in zip(part, starts, strict=True)),
    )
    piece = piece[within]
    factors = grid.share(k, combine, window)
    if combine == "discard":
        # Copied and not multiplied by 0 and 1: labels stay integers, and 0 * NaN is NaN.
        kept = [torch.nonzero(factor).flatten().tolist() for factor in factors]
        inner: tuple[Any, ...] = (..., *(slice(i[0], i[-1] + 1) for i in kept))
        outer: tuple[Any, ...] = (
            ...,
            *(slice(p.start + i[0], p.start + i[-1] + 1) for p, i in zip(part, kept, strict=True)),
        )
        result[outer] = piece[inner]
        return
    if not piece.is_floating_point():
        raise ValueError(f"tiles: expected floating point to take means of, got {piece.dtype}")
    for axis, factor in enumerate(factors):
        shape = [1] * piece.ndim
        shape[axis + 1] = len(factor)
        piece = piece * factor.to(piece).view(shape)
    here: tuple[Any, ...] = (..., *part)
    result[here] += piece


def _inside(index: Tensor, n: int, padding: Padding | None) -> Tensor:
    """The pixel that stands for each place, folded as often as it takes."""
    if padding == "reflect" and n > 1:
        index = index.remainder(2 * n - 2)
        return torch.minimum(index, 2 * n - 2 - index)
    return index.clamp(0, n - 1)
