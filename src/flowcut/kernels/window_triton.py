"""Triton kernels of the window products."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.layout import common_type
from flowcut.kernels.triton_grid import (
    AVAILABLE,
    BLOCK,
    offset_tensor,
    programs,
    supported,
    three_axes,
)
from flowcut.kernels.window_reference import gradient_reference, product_reference, transpose_reference

if AVAILABLE:
    import triton
    import triton.language as tl

    from flowcut.kernels.triton_grid import neighbour, place

    @triton.jit
    def _product_kernel(  # type: ignore[no-untyped-def]
        weights, x, out, offsets, num_offsets, channels, depth, height, width,
        TRANSPOSE: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        image, pixel, pixels = place(depth, height, width, BLOCK)
        valid = pixel < pixels
        weights += (image // channels) * num_offsets * pixels
        x += image * pixels
        total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
        for k in range(num_offsets):
            if TRANSPOSE:
                other, inside = neighbour(pixel, offsets, k, -1, depth, height, width)
                w = tl.load(weights + k * pixels + other, mask=inside & valid, other=0)
            else:
                other, inside = neighbour(pixel, offsets, k, 1, depth, height, width)
                w = tl.load(weights + k * pixels + pixel, mask=inside & valid, other=0)
            total += w * tl.load(x + other, mask=inside & valid, other=0)
        tl.store(out + image * pixels + pixel, total, mask=valid)

    @triton.jit
    def _gradient_kernel(  # type: ignore[no-untyped-def]
        u, v, out, offsets, num_offsets, channels, depth, height, width, BLOCK: tl.constexpr
    ):
        n, pixel, pixels = place(depth, height, width, BLOCK)
        valid = pixel < pixels
        start = n * channels * pixels
        for k in range(num_offsets):
            other, inside = neighbour(pixel, offsets, k, 1, depth, height, width)
            inside = inside & valid
            total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
            for c in range(channels):
                a = tl.load(u + start + c * pixels + pixel, mask=inside, other=0)
                total += a * tl.load(v + start + c * pixels + other, mask=inside, other=0)
            tl.store(out + (n * num_offsets + k) * pixels + pixel, total, mask=valid)


def _image_product(weights: Tensor, x: Tensor, offsets: list[int], transpose: bool) -> Tensor:
    size, table = three_axes(tuple(x.shape[2:]), offsets)
    dtype = common_type(weights, x)
    weights, x_in = weights.to(dtype).contiguous(), x.to(dtype).contiguous()
    out = torch.empty_like(x_in)
    images = x.shape[0] * x.shape[1]
    if images:
        _product_kernel[programs(images, tuple(x.shape[2:]))](
            weights, x_in, out, offset_tensor(table, x.device), len(table), x.shape[1], *size,
            TRANSPOSE=transpose, BLOCK=BLOCK,
        )  # fmt: skip
    return out.to(x.dtype)


def product_cuda(weights: Tensor, x: Tensor, offsets: list[int]) -> Tensor:
    """``window_product`` by Triton; more than three axes go to the reference."""
    if not supported(tuple(x.shape[2:])):
        return product_reference(weights, x, offsets)
    return _image_product(weights, x, offsets, transpose=False)


def transpose_cuda(weights: Tensor, u: Tensor, offsets: list[int]) -> Tensor:
    """``window_product_transpose`` by Triton; more than three axes go to the reference."""
    if not supported(tuple(u.shape[2:])):
        return transpose_reference(weights, u, offsets)
    return _image_product(weights, u, offsets, transpose=True)


def gradient_cuda(u: Tensor, v: Tensor, offsets: list[int]) -> Tensor:
    """``window_weight_gradient`` by Triton; more than three axes go to the reference."""
    spatial = tuple(u.shape[2:])
    if not supported(spatial):
        return gradient_reference(u, v, offsets)
    size, table = three_axes(spatial, offsets)
    dtype = common_type(u, v)
    a, b = u.to(dtype).contiguous(), v.to(dtype).contiguous()
    out = a.new_empty((u.shape[0], len(table), *spatial))
    if u.shape[0] and u.shape[1]:
        _gradient_kernel[programs(u.shape[0], spatial)](
            a, b, out, offset_tensor(table, u.device), len(table), u.shape[1], *size, BLOCK=BLOCK
        )
    else:
        out.zero_()
    return out.to(u.dtype)
