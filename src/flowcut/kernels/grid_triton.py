"""Triton kernels of the products with a grid's Laplacian."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.grid_reference import edge_gradient_reference, product_reference
from flowcut.kernels.layout import common_type
from flowcut.kernels.triton_grid import (
    AVAILABLE,
    BLOCK,
    offset_tensor,
    programs,
    supported,
    three_axes,
)

if AVAILABLE:
    import triton
    import triton.language as tl

    from flowcut.kernels.triton_grid import neighbour, place

    @triton.jit
    def _product_kernel(  # type: ignore[no-untyped-def]
        edges, leak, x, out, offsets, num_offsets, channels, groups, leak_items, leak_channels,
        depth, height, width, BLOCK: tl.constexpr,
    ):  # fmt: skip
        image, pixel, pixels = place(depth, height, width, BLOCK)
        n, c = image // channels, image % channels
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
        image, pixel, pixels = place(depth, height, width, BLOCK)
        n, g = image // groups, image % groups
        per_group = channels // groups
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
    dtype = common_type(edges, leak, x)
    edges, leak, x_in = (t.to(dtype).contiguous() for t in (edges, leak, x))
    out = torch.empty_like(x_in)
    images = x.shape[0] * x.shape[1]
    if images:
        _product_kernel[programs(images, spatial)](
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
    dtype = common_type(u, v)
    a, b = u.to(dtype).contiguous(), v.to(dtype).contiguous()
    out = a.new_empty((u.shape[0], groups, len(table), *spatial))
    images = u.shape[0] * groups
    if images:
        _edge_gradient_kernel[programs(images, spatial)](
            a, b, out, offset_tensor(table, u.device), len(table), u.shape[1], groups, *size, BLOCK=BLOCK
        )
    return out.to(u.dtype)
