"""SoftCut by a dense matrix, entry by entry from equation (22) of the thesis."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

Offsets = tuple[tuple[int, ...], ...]


def grid_ties(spatial: tuple[int, ...], offsets: Offsets) -> list[tuple[int, tuple[int, ...], int, int]]:
    """(k, pixel, flat index, flat index of the neighbour) of every tie inside the picture."""
    number = {pixel: n for n, pixel in enumerate(itertools.product(*map(range, spatial)))}
    ties = []
    for pixel, n in number.items():
        for k, offset in enumerate(offsets):
            other = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            if other in number:
                ties.append((k, pixel, n, number[other]))
    return ties


def dense_matrix(edges: Tensor, leak: Tensor, offsets: Offsets) -> Tensor:
    """A (n, n) of one item and channel; edges (K, *spatial), leak (*spatial)."""
    matrix = torch.diag(leak.reshape(-1))
    ties = grid_ties(tuple(leak.shape), offsets)
    if not ties:
        return matrix
    w = torch.stack([edges[(k, *pixel)] for k, pixel, _, _ in ties])
    i, j = torch.tensor([tie[2:] for tie in ties]).T
    index = torch.cat([i, j, i, j]), torch.cat([i, j, j, i])
    return matrix.index_put(index, torch.cat([w, w, -w, -w]), accumulate=True)


def dense_soft_cut(scores: Tensor, edges: Tensor, leak: Tensor, offsets: Offsets) -> Tensor:
    """x of (N, C, *spatial); edges (N, G, K, *spatial), leak (N or 1, 1 or C, *spatial), all finite."""
    out = torch.empty_like(scores)
    for n, c in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        own = leak[n % leak.shape[0], c % leak.shape[1]]
        matrix = dense_matrix(edges[n, c % edges.shape[1]], own, offsets)
        x = torch.linalg.solve(matrix, (own * scores[n, c]).reshape(-1))
        out[n, c] = x.reshape(own.shape)
    return out
