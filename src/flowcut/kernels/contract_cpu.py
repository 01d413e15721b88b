"""Numba kernels that turn Krylov bases and small coefficients into images and into gradients of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.crew import next_piece
from flowcut.kernels.flat import BLOCK, flat_layout, pack_rows, whole_vectors
from flowcut.kernels.flat_blocks import PIECES, Runner, run_images, share
from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.jit import atomic_add, inner, jit
from flowcut.kernels.layout import common_type, offsets_from_flat, row_tables
from flowcut.kernels.taps_cpu import add_four, add_one
from flowcut.kernels.workspace import aligned, fresh


@inner
def combine_block(basis: Any, coefficients: Any, column: int, c: int, out: Any, at: int, n: int) -> None:
    """out = sum_j coefficients[j, column] basis[j, c] on n places from ``at``."""
    for i in range(n):
        out[i] = 0
    for j in range(basis.shape[0]):
        factor = basis.dtype.type(coefficients[j, column])
        if factor != 0:
            row = basis[j, c, at:]
            for i in range(n):
                out[i] += factor * row[i]


@jit
def _combine(basis: Any, coefficients: Any, out: Any, starts: Any, lead: bool, crew: Any) -> None:
    """out (G, C, R, W) from basis (m + 1, C, length), coefficients (m + 1, G)."""
    piece = next_piece(crew, 0, PIECES)
    while piece >= 0:
        start, stop = share(len(starts), piece, PIECES)
        for g in range(out.shape[0]):
            for c in range(out.shape[1]):
                for r in range(start, stop):
                    combine_block(basis, coefficients, g, c, out[g, c, r], starts[r], out.shape[3])
        piece = next_piece(crew, 0, PIECES)


@inner
def _factor_blocks(basis: Any, coefficients: Any, out: Any, start: int, stop: int) -> None:
    """out (G C, length): the factors, in the flat layout."""
    channels = basis.shape[1]
    for block in range(start, stop):
        at = block * BLOCK
        for g in range(coefficients.shape[1]):
            for c in range(channels):
                combine_block(basis, coefficients, g, c, out[g * channels + c, at:], at, BLOCK)


@inner
def _left_factors(
    similarity: Any, left_basis: Any, left: Any, mean_column: Any, right_basis: Any, images: Any,
    factors: Any, work: Any, at: int, n: int,
) -> None:  # fmt: skip
    """factors (G C + C, n): S (alpha_g - <S, alpha_g>) for every g, then gamma.

    gamma = sum_g (a_g u_g - S <1, a_g u_g>) + R_S mean with a_g = alpha_g - <S, alpha_g>, u_g = A beta_g;
    work (C + 3, n).
    """
    channels, ranks = similarity.shape[0], left.shape[1]
    total, sums, u = work[channels], work[channels + 1], work[channels + 2]
    gamma = factors[ranks * channels :]
    for i in range(n):
        total[i], sums[i] = 0, 0
    for c in range(channels):
        combine_block(left_basis, mean_column, 0, c, gamma[c], at, n)
        add_one(total, similarity[c, at:], gamma[c], n)
    for c in range(channels):
        s = similarity[c, at:]
        for i in range(n):
            gamma[c, i] = s[i] * (gamma[c, i] - total[i])
    for g in range(ranks):
        for i in range(n):
            total[i] = 0
        for c in range(channels):
            combine_block(left_basis, left, g, c, work[c], at, n)
            add_one(total, similarity[c, at:], work[c], n)
        for c in range(channels):
            s, alpha, factor = similarity[c, at:], work[c], factors[g * channels + c]
            combine_block(right_basis, images, g, c, u, at, n)
            for i in range(n):
                a = alpha[i] - total[i]
                factor[i] = s[i] * a
                gamma[c, i] += a * u[i]
                sums[i] += a * u[i]
    for c in range(channels):
        s = similarity[c, at:]
        for i in range(n):
            gamma[c, i] -= s[i] * sums[i]


@jit
def _prepare(
    similarity: Any, evidence: Any, packed: Any, targets: Any, starts: Any, basis: Any, coefficients: Any,
    first: int, last: int, lead: bool, crew: Any,
) -> None:  # fmt: skip
    """packed = S; targets (G C + C, length) = beta_g and then the evidence: what meets at the neighbour."""
    own = len(targets) - len(evidence)
    piece = next_piece(crew, 0, PIECES)
    while piece >= 0:
        start, stop = share(len(starts), piece, PIECES)
        pack_rows(similarity, packed, starts, start, stop)
        pack_rows(evidence, targets[own:], starts, start, stop)
        start, stop = share(last - first, piece, PIECES)
        _factor_blocks(basis, coefficients, targets, first + start, first + stop)
        if piece == 0:
            for e in range(own):
                for i in range(first * BLOCK):
                    targets[e, i] = 0
                for i in range(last * BLOCK, targets.shape[1]):
                    targets[e, i] = 0
        piece = next_piece(crew, 0, PIECES)


@jit
def _contract(
    similarity: Any, left_basis: Any, left: Any, mean_column: Any, right_basis: Any, images: Any,
    targets: Any, gradient: Any, gamma: Any, starts: Any, shifts: Any, forward: Any, shift: Any,
    rooms: Any, lead: bool, crew: Any,
) -> None:  # fmt: skip
    """gradient (K, R, W): sum_e factors_e(i) targets_e(i + k); gamma (C, R, W); targets (G C + C, length)."""
    count = targets.shape[0]
    own, room = count - similarity.shape[0], rooms[atomic_add(crew, 2, 1)]
    factors, work, acc = room[:count], room[count : len(room) - 1], room[-1]
    piece = next_piece(crew, 0, PIECES)
    while piece >= 0:
        start, stop = share(len(starts), piece, PIECES)
        for r in range(start, stop):
            _left_factors(
                similarity, left_basis, left, mean_column, right_basis, images, factors, work, starts[r],
                factors.shape[1],
            )  # fmt: skip
            for c in range(gamma.shape[0]):
                for i in range(gamma.shape[2]):
                    gamma[c, r, i] = factors[own + c, i]
            _correlate_row(factors, targets, gradient, acc, r, starts[r], shifts, forward, shift)
        piece = next_piece(crew, 0, PIECES)


@inner
def _correlate_row(
    factors: Any,
    targets: Any,
    gradient: Any,
    acc: Any,
    r: int,
    at: int,
    shifts: Any,
    forward: Any,
    shift: Any,
) -> None:
    """gradient[:, r] = sum_e factors_e targets_e at the neighbour; 0 where there is none."""
    width, count, n = gradient.shape[2], targets.shape[0], factors.shape[1]
    for k in range(len(shifts)):
        lo, hi = 0, 0
        if forward[k, r] >= 0:
            lo, hi = max(0, -shift[k, r]), min(width, width - shift[k, r])
            p = at + shifts[k]
            for i in range(n):
                acc[i] = 0
            for e in range(0, count - 3, 4):
                add_four(
                    acc, factors[e], factors[e + 1], factors[e + 2], factors[e + 3],
                    targets[e, p:], targets[e + 1, p:], targets[e + 2, p:], targets[e + 3, p:], n,
                )  # fmt: skip
            for e in range(count - count % 4, count):
                add_one(acc, factors[e], targets[e, p:], n)
        target = gradient[k, r]
        for i in range(min(lo, width)):
            target[i] = 0
        for i in range(lo, hi):
            target[i] = acc[i]
        for i in range(max(lo, hi), width):
            target[i] = 0


def combine_cpu(basis: Tensor, coefficients: Tensor, spatial: list[int], offsets: list[int]) -> Tensor:
    """``flow_combine`` by Numba."""
    table = offsets_from_flat(list(offsets), len(spatial))
    out = fresh((basis.shape[0], coefficients.shape[2], basis.shape[2], *spatial), basis.dtype)
    if not out.numel():
        return out
    layout = flat_layout(tuple(spatial), table)
    q, c, y = basis.numpy(), coefficients.contiguous().numpy(), rows_view(out, 3, tuple(spatial))

    def work(n: int, run: Runner) -> None:
        run(_combine, (q[n], c[n], y[n], layout.starts))

    run_images(len(q), int(np.prod(spatial)), work)
    return out


def contract_cpu(
    similarity: Tensor, evidence: Tensor, left_basis: Tensor, left: Tensor, right_basis: Tensor,
    right: Tensor, images: Tensor, offsets: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``flow_contract`` by Numba."""
    spatial = tuple(similarity.shape[2:])
    table = offsets_from_flat(list(offsets), len(spatial))
    dtype = common_type(similarity, evidence, left_basis, right_basis)
    gradient = fresh((len(similarity), len(table), *spatial), dtype)
    gamma = fresh(similarity.shape, dtype)
    if not gradient.numel():
        return gradient, gamma
    layout = flat_layout(spatial, table)
    s, l, g, y = (rows_view(t.to(dtype), 2, spatial) for t in (similarity, evidence, gradient, gamma))
    p, q = (t.to(dtype).contiguous().numpy() for t in (left_basis, right_basis))
    a, b, u = (t.contiguous().numpy() for t in (left, right, images))

    tables, width, kind = row_tables(spatial, table), spatial[-1], s.dtype
    ranks, channels = b.shape[2], s.shape[1]

    def work(n: int, run: Runner) -> None:
        packed = aligned((channels, layout.length), kind)
        targets = aligned((ranks * channels + channels, layout.length), kind)
        # For every thread a row of factors, of what they are made from, and of the gradient.
        rooms = aligned((torch.get_num_threads(), len(targets) + channels + 4, whole_vectors(width)), kind)
        run(
            _prepare,
            (s[n], l[n], packed, targets, layout.starts, q[n], b[n], layout.first, layout.last),
        )
        run(_contract, (
            packed, p[n], np.ascontiguousarray(a[n][:, :ranks]), np.ascontiguousarray(a[n][:, ranks:]), q[n],
            u[n], targets, g[n], y[n], layout.starts, layout.shifts, tables.forward, tables.shift, rooms,
        ))  # fmt: skip

    run_images(len(s), int(np.prod(spatial)), work)
    return gradient, gamma
