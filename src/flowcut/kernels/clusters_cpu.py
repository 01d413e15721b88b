"""Numba kernels of the cluster samplers: union-find for all clusters, a search for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.gibbs_cpu import boltzmann, pick
from flowcut.kernels.gibbs_layout import adjacency
from flowcut.kernels.jit import inner, jit
from flowcut.kernels.random import BONDS, LABELS, SITES, sweep_key, uniform
from flowcut.kernels.threads import run_items

# Node updates that are worth handing to a thread.
_PIECE = 1 << 15


@inner
def _root(parent: Any, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@inner
def _grow(x: Any, pairs: Any, bonds: Any, key: Any, parent: Any) -> None:
    """Trees of clusters; the root is the smallest node, so that it does not depend on the order of ties."""
    for i in range(len(x)):
        parent[i] = i
    for e in range(len(pairs)):
        i, j = pairs[e, 0], pairs[e, 1]
        if x[i] == x[j] and uniform(key, e) < bonds[e]:
            i, j = _root(parent, i), _root(parent, j)
            parent[max(i, j)] = min(i, j)


@inner
def _relabel(x: Any, unary: Any, key: Any, parent: Any, costs: Any) -> None:
    """Every cluster draws a label by the sum of its unary costs; ``costs`` is zero before and after."""
    for i in range(len(x)):
        parent[i] = root = _root(parent, i)
        for j in range(unary.shape[1]):
            costs[root, j] += unary[i, j]
    for i in range(len(x)):  # a root comes before the others of its cluster
        root = parent[i]
        if root == i:
            boltzmann(costs[i], 1.0)
            x[i] = pick(costs[i], uniform(key, i))
            for j in range(unary.shape[1]):
                costs[i, j] = 0.0
        else:
            x[i] = x[root]


@jit
def _swendsen_wang(
    labels: Any, unary: Any, pairs: Any, bonds: Any, thin: int, seed: int, sweep: int, work: Any, out: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    x, parent, costs = work
    for m in range(first, last):
        for i in range(len(x)):
            x[i] = labels[m, i]
        for s in range(len(out) * thin):
            _grow(x, pairs, bonds[m % len(bonds)], sweep_key(seed, BONDS, m, sweep + s), parent)
            _relabel(x, unary[m % len(unary)], sweep_key(seed, LABELS, m, sweep + s), parent, costs)
            if (s + 1) % thin == 0:
                for i in range(len(x)):
                    out[s // thin, m, i] = x[i]


@inner
def _search(x: Any, site: int, ties: Any, bonds: Any, key: Any, mark: Any, stamp: int, members: Any) -> int:
    """Collect the cluster of a site; returns how many nodes it has."""
    starts, neighbours, numbers = ties
    members[0], mark[site], count, done = site, stamp, 1, 0
    while done < count:
        i = members[done]
        done += 1
        for e in range(starts[i], starts[i + 1]):
            j = neighbours[e]
            if x[j] == x[i] and mark[j] != stamp and uniform(key, numbers[e]) < bonds[numbers[e]]:
                mark[j], members[count] = stamp, j
                count += 1
    return count


@jit
def _wolff(
    labels: Any, unary: Any, ties: Any, bonds: Any, thin: int, seed: int, sweep: int, work: Any, out: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    x, mark, members = work
    for m in range(first, last):
        costs = unary[m % len(unary)]
        for i in range(len(x)):
            x[i], mark[i] = labels[m, i], -1
        for s in range(len(out) * thin):
            key = sweep_key(seed, SITES, m, sweep + s)
            site = int(uniform(key, 0) * len(x))
            bond_key = sweep_key(seed, BONDS, m, sweep + s)
            count = _search(x, site, ties, bonds[m % len(bonds)], bond_key, mark, s, members)
            old, new = x[site], int(uniform(key, 1) * (costs.shape[1] - 1))
            new += new >= old
            change = 0.0
            for c in range(count):
                change += costs[members[c], new] - costs[members[c], old]
            if uniform(key, 2) < math.exp(-change):
                for c in range(count):
                    x[members[c]] = new
            if (s + 1) % thin == 0:
                for i in range(len(x)):
                    out[s // thin, m, i] = x[i]


def swendsen_wang_cpu(
    labels: Tensor,
    unary: Tensor,
    pairs: Tensor,
    weights: Tensor,
    draws: int,
    thin: int,
    seed: int,
    sweep: int,
) -> Tensor:
    """``swendsen_wang_sweeps`` by Numba."""
    count, choices = unary.shape[1:]

    def work() -> tuple[Any, ...]:
        return np.empty(count, np.int32), np.empty(count, np.int64), np.zeros((count, choices))

    ties = pairs.contiguous().numpy()
    return _spread(_swendsen_wang, work, ties, labels, unary, weights, draws, thin, seed, sweep)


def wolff_cpu(
    labels: Tensor,
    unary: Tensor,
    pairs: Tensor,
    weights: Tensor,
    draws: int,
    thin: int,
    seed: int,
    sweep: int,
) -> Tensor:
    """``wolff_steps`` by Numba."""
    count = unary.shape[1]
    found = adjacency(pairs, count)
    ties = tuple(t.contiguous().numpy() for t in (found.starts, found.neighbours, found.ties))

    def work() -> tuple[Any, ...]:
        return np.empty(count, np.int32), np.empty(count, np.int64), np.empty(count, np.int64)

    return _spread(_wolff, work, ties, labels, unary, weights, draws, thin, seed, sweep)


def _spread(
    kernel: Any, work: Callable[[], tuple[Any, ...]], ties: Any, labels: Tensor, unary: Tensor,
    weights: Tensor, draws: int, thin: int, seed: int, sweep: int,
) -> Tensor:  # fmt: skip
    """Run the chains, in pieces of several, on all threads."""
    chains, count = labels.shape
    out = labels.new_empty((draws, chains, count))
    if not out.numel():
        return out
    bonds = -torch.expm1(-weights)  # the probability that equal labels bind
    given, costs, b, y = (t.contiguous().numpy() for t in (labels, unary, bonds, out))
    size = max(1, _PIECE // (count * draws * thin))

    def run(piece: int) -> None:
        first, last = piece * size, min(chains, piece * size + size)
        kernel(given, costs, ties, b, thin, seed, sweep, work(), y, first, last)

    run_items(run, -(-chains // size))
    return out
