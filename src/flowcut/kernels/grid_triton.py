"""Triton kernels of the products with a grid's Laplacian."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.grid_reference import edge_gradient_reference, product_reference
from flowcut.kernels.triton_grid import (
    AVAILABLE,
    BLOCK,
    blocks,
    offset_tensor,
    supported,
    three_axes,
)

if AVAILABLE:
    import triton
    import triton.language as tl

    from flowcut.kernels.triton_grid import neighbour

    @triton.jit
    def _product_kernel(  # type: ignore[no-untyped-def]
        edges, leak, x, out, offsets, num_offsets, channels, groups, leak_items, leak_channels,
        depth, height, width, BLOCK: tl.constexpr,
    ):  # fmt: skip
        # 64-bit from here on: a batch can hold more than 2**31 numbers.
        pixels = tl.full((), 1, tl.int64) * depth * height * width
        image = tl.program_id(1)
        n, c = image // channels, image % channels
        pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        valid = pixel < pixels
        x += image * pixels
        edges += (n * groups + c % groups) * num_offsets * pixels
        leak += ((n % leak_items) * leak_channels + c % leak_channels) * pixels
        centre = tl.load(x + pixel, mask=valid, other=0)
        total = tl.load(leak + pixel, mask=valid, other=0) * centre
        for k in range(num_offsets):
            tie = edges + k * pixels
            other, inside = neighbour(pixel, offsets, k, 1, depth, height, width)
            inside = inside & valid
            w = tl.load(tie + pixel, mask=inside, other=0)
            total += w * (centre - tl.load(x + other, mask=inside, other=0))
            other, inside = neighbour(pixel, offsets, k, -1, depth, height, width)
            inside = inside & valid
            w = tl.load(tie + other, mask=inside, other=0)
            total += w * (centre - tl.load(x + other, mask=inside, other=0))
        tl.store(out + image * pixels + pixel, total, mask=valid)

    @triton.jit
    def _edge_gradient_kernel(  # type: ignore[no-untyped-def]
        u, v, out, offsets, num_offsets, channels, groups,
        depth, height, width, BLOCK: tl.constexpr,
    ):  # fmt: skip
        pixels = tl.full((), 1, tl.int64) * depth * height * width
        image = tl.program_id(1)
        n, g = image // groups, image % groups
        per_group = channels // groups
        pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        valid = pixel < pixels
        start = (n * channels + g * per_group) * pixels
        for k in range(num_offsets):
            other, inside = neighbour(pixel, offsets, k, 1, depth, height, width)
            inside = inside & valid
            total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
            for c in range(per_group):
                here, there = start + c * pixels + pixel, start + c * pixels + other
                du = tl.load(u + here, mask=inside, other=0) - tl.load(u + there, mask=inside, other=0)
                dv = tl.load(v + here, mask=inside, other=0) - tl.load(v + there, mask=inside, other=0)
                total += du * dv
            tl.store(out + (image * num_offsets + k) * pixels + pixel, total, mask=valid)


def product_cuda(edges: Tensor, leak: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """``grid_product`` by Triton; more than three axes go to the reference."""
    spatial = tuple(x.shape[2:])
    if not supported(spatial):
        return product_reference(edges, leak, x, offsets)
    size, table = three_axes(spatial, offsets)
    dtype = torch.promote_types(torch.promote_types(edges.dtype, leak.dtype), x.dtype)
    edges, leak, x_in = (t.to(dtype).contiguous() for t in (edges, leak, x))
    out = torch.empty_like(x_in)
    images = x.shape[0] * x.shape[1]
    if images:
        _product_kernel[(blocks(x[0, 0].numel()), images)](
            edges, leak, x_in, out, offset_tensor(table, x.device), len(table), x.shape[1],
            edges.shape[1], leak.shape[0], leak.shape[1], *size, BLOCK=BLOCK,
        )  # fmt: skip
    return out.to(x.dtype)


def edge_gradient_cuda(u: Tensor, v: Tensor, offsets: list[int], groups: int) -> Tensor:
    """``grid_edge_gradient`` by Triton; more than three axes go to the reference."""
    spatial = tuple(u.shape[2:])
    if not supported(spatial):
        return edge_gradient_reference(u, v, offsets, groups)
    size, table = three_axes(spatial, offsets)
    u, v = u.contiguous(), v.to(u.dtype).contiguous()
    out = u.new_empty((u.shape[0], groups, len(table), *spatial))
    images = u.shape[0] * groups
    if images:
        _edge_gradient_kernel[(blocks(u[0, 0].numel()), images)](
            u, v, out, offset_tensor(table, u.device), len(table), u.shape[1], groups, *size, BLOCK=BLOCK
        )
    return out
