"""Minimum-cut instances for benchmarks: noise, smooth evidence, contrast-sensitive ties, and real ones."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood, source_slices, target_slices

KINDS = ("noisy", "smooth", "contrast")


class Instance(NamedTuple):
    """One problem: scores (1, 1, *spatial), ties both ways (1, K, *spatial), all float64."""

    name: str
    scores: Tensor
    edges: Tensor
    reverse: Tensor | None
    neighborhood: Neighborhood


def synthetic(kind: str, spatial: tuple[int, ...]) -> Instance:
    """A picture of noise under equal ties, smooth evidence under random ties, or a contrast-sensitive cut."""
    rng = np.random.default_rng(0)
    where = Neighborhood.edges(len(spatial))
    noise, ties = rng.standard_normal(spatial), (len(where), *spatial)
    if kind == "noisy":
        scores, edges = noise, np.full(ties, 0.5)
    else:
        field = gaussian_filter(rng.standard_normal(spatial), 3)
        field /= field.std()
        scores = field + (0.5 if kind == "smooth" else 1.0) * noise
        if kind == "smooth":
            edges = 2 * rng.random(ties)
        else:
            steps = [np.diff(field, axis=axis, append=0) for axis in range(len(spatial))]
            edges = 3 * np.exp(-5 * np.abs(np.stack(steps)))
    name = f"{kind}, {'×'.join(map(str, spatial))}"
    return Instance(name, torch.from_numpy(scores)[None, None], torch.from_numpy(edges)[None], None, where)


def real() -> list[Instance]:
    """The DIMACS instances of ``FLOWCUT_DATA``/mrf/maxflow, as the grids that they were made from."""
    folder = Path(os.environ.get("FLOWCUT_DATA", "")) / "mrf"
    if not os.environ.get("FLOWCUT_DATA") or not folder.is_dir():
        return []
    return [_read(path) for path in sorted((folder / "maxflow").glob("*.max.xz"))]


def _read(path: Path) -> Instance:
    """Node 1 is the source, 2 the sink, k + 3 pixel k; neighbours are the same numbers apart everywhere."""
    arcs, nodes = [], 0
    with lzma.open(path, "rt") as lines:
        for line in lines:
            if line.startswith("p"):
                nodes = int(line.split()[2]) - 2
            elif line.startswith("a"):
                arcs.append([int(word) for word in line.split()[1:4]])
    tail, head, weight = np.array(arcs).T
    scores = np.zeros(nodes)
    np.add.at(scores, head[tail == 1] - 3, weight[tail == 1])
    np.add.at(scores, tail[head == 2] - 3, -weight[head == 2])
    inner = (tail > 2) & (head > 2)
    tail, head, weight = tail[inner] - 3, head[inner] - 3, weight[inner]
    strides = np.unique(np.abs(head - tail))[::-1].tolist()
    spatial = tuple(a // b for a, b in zip([nodes, *strides[:-1]], strides, strict=True))
    edges, reverse = np.zeros((len(strides), nodes)), np.zeros((len(strides), nodes))
    for k, stride in enumerate(strides):
        for table, start, sign in ((edges, tail, 1), (reverse, head, -1)):
            chosen = head - tail == sign * stride
            np.add.at(table[k], start[chosen], weight[chosen])
    size = "×".join(map(str, spatial))
    shaped = [torch.from_numpy(t).reshape(1, -1, *spatial) for t in (scores, edges, reverse)]
    return Instance(f"{path.name.removesuffix('.max.xz')}, {size}", *shaped, Neighborhood.edges(len(spatial)))


def listed(instance: Instance) -> tuple[NDArray[np.int64], ...]:
    """Both ends and both weights of all ties inside."""
    spatial = tuple(instance.scores.shape[2:])
    pixels = np.arange(np.prod(spatial)).reshape(spatial)
    edges = instance.edges[0].numpy()
    reverse = edges if instance.reverse is None else instance.reverse[0].numpy()
    parts = []
    for k, offset in enumerate(instance.neighborhood.offsets):
        here, there = source_slices(offset, spatial), target_slices(offset, spatial)
        parts.append([t.reshape(-1) for t in (pixels[here], pixels[there], edges[k][here], reverse[k][here])])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def energy(instance: Instance, labels: NDArray[np.bool_]) -> float:
    """What a labeling costs, by plain NumPy."""
    s, ones = instance.scores.numpy().reshape(-1), labels.reshape(-1)
    i, j, forward, backward = listed(instance)
    cut = forward[ones[i] & ~ones[j]].sum() + backward[ones[j] & ~ones[i]].sum()
    return float(np.maximum(s, 0)[~ones].sum() + np.maximum(-s, 0)[ones].sum() + cut)
