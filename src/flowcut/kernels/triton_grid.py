"""What the Triton kernels share: grids of up to three axes seen as (depth, height, width)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    AVAILABLE = True
except ImportError:  # no Triton on this platform: CUDA runs the plain-PyTorch reference
    AVAILABLE = False

BLOCK = 256
MAX_AXES = 3
# Places within one image are 32-bit numbers.
_MAX_PIXELS = (1 << 31) - BLOCK


def supported(spatial: tuple[int, ...]) -> bool:
    """Whether the kernels can take this grid; otherwise the reference does the work."""
    return AVAILABLE and len(spatial) <= MAX_AXES and 0 < math.prod(spatial) < _MAX_PIXELS


def three_axes(spatial: tuple[int, ...], offsets: list[int]) -> tuple[tuple[int, int, int], list[list[int]]]:
    """Grid and offsets with leading axes of length 1 added."""
    ndim = len(spatial)
    pad = [0] * (MAX_AXES - ndim)
    depth, height, width = [1] * len(pad) + list(spatial)
    table = [pad + offsets[i : i + ndim] for i in range(0, len(offsets), ndim)]
    return (depth, height, width), table


def offset_tensor(table: list[list[int]], device: torch.device) -> Tensor:
    """(K, 3) int32 on the device."""
    return torch.tensor(table, dtype=torch.int32, device=device)


def programs(images: int, spatial: tuple[int, ...]) -> tuple[int]:
    """Launch grid: the blocks of all images in one row, the only axis without a low limit."""
    return (images * -(-math.prod(spatial) // BLOCK),)


if AVAILABLE:

    @triton.jit
    def place(depth, height, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        """Image and pixels of this program, and how many pixels an image has."""
        # 64-bit from here on: a batch can hold more than 2**31 numbers.
        pixels = tl.full((), 1, tl.int64) * depth * height * width
        count = tl.cdiv(depth * height * width, BLOCK)
        image = tl.program_id(0) // count
        pixel = (tl.program_id(0) % count) * BLOCK + tl.arange(0, BLOCK)
        return image, pixel, pixels

    @triton.jit
    def neighbour(pixel, offsets, k, sign, depth, height, width):  # type: ignore[no-untyped-def]
        """Flat index of pixel + sign * offset k, and whether it lies inside."""
        column = pixel % width + sign * tl.load(offsets + 3 * k + 2)
        row = (pixel // width) % height + sign * tl.load(offsets + 3 * k + 1)
        plane = pixel // (width * height) + sign * tl.load(offsets + 3 * k)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        inside = inside & (plane >= 0) & (plane < depth)
        return (plane * height + row) * width + column, inside
