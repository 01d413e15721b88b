"""From data to distances (LAF (2.5), "any metric space"), and prototypes to measure them from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor

from flowcut.core.checks import check_finite, check_floating

# Takes data (N, C, *spatial) and one label (1, C, 1, ...), gives (N, *spatial).
Metric = Callable[[Tensor, Tensor], Tensor]
MetricName = Literal["squared-euclidean", "euclidean", "manhattan"]

_METRICS: dict[str, Metric] = {
    "squared-euclidean": lambda data, label: (data - label).square().sum(dim=1),
    "euclidean": lambda data, label: torch.linalg.vector_norm(data - label, dim=1),
    "manhattan": lambda data, label: (data - label).abs().sum(dim=1),
}

# k-means fails when a cluster runs empty; another start then usually does not.
_STARTS = 20


def label_distances(
    data: Tensor, labels: Tensor, metric: MetricName | Metric = "squared-euclidean"
) -> Tensor:
    """Distance of every pixel to every label.

    One label is measured at a time: besides the result, the forward pass needs memory for one more picture
    (autograd, where it records, keeps one a label).

    Parameters
    ----------
    data
        (N, C, *spatial), float: colours or features.
    labels
        (J, C), float: prototypes.
    metric
        "squared-euclidean", "euclidean", "manhattan", or a function of data (N, C, *spatial) and one
        label (1, C, 1, ...) that gives (N, *spatial).

    Returns
    -------
    Tensor
        (N, J, *spatial), differentiable in data and labels.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        Shapes do not fit, or the metric is not known.

    Examples
    --------
    >>> label_distances(torch.tensor([[[0.0, 3.0]]]), torch.tensor([[0.0], [1.0]])).tolist()
    [[[0.0, 9.0], [1.0, 4.0]]]
    """
    check_floating("data", data)
    check_floating("labels", labels)
    if data.ndim < 3:
        raise ValueError(f"data: expected shape (N, C, *spatial), got {tuple(data.shape)}")
    if labels.ndim != 2 or not len(labels) or labels.shape[1] != data.shape[1]:
        raise ValueError(
            f"labels: expected shape (J, {data.shape[1]}) with J >= 1, got {tuple(labels.shape)}"
        )
    if not callable(metric):
        if metric not in _METRICS:
            known = ", ".join(_METRICS)
            raise ValueError(f"metric: expected a function or one of {known}, got {metric!r}")
        metric = _METRICS[metric]
    shaped = labels.reshape(len(labels), 1, -1, *(1,) * (data.ndim - 2))
    return torch.stack([metric(data, label) for label in shaped], dim=1)


def kmeans(data: Tensor, k: int, seed: int = 0, steps: int = 100) -> Tensor:
    """Choose k prototypes from the data by k-means with a k-means++ start (SciPy's ``kmeans2``).

    Parameters
    ----------
    data
        (N, C, *spatial), float.
    k
        Number of prototypes, >= 1.
    seed
        The same seed gives the same prototypes.
    steps
        Iterations, >= 1.

    Returns
    -------
    Tensor
        (k, C) of the type and device of ``data``, from the smallest sum over the channels to the
        largest (colours: from dark to bright). No gradient.

    Raises
    ------
    TypeError
        Integers.
    ValueError
        Fewer than k distinct values, NaN or infinity, ``k`` or ``steps`` < 1.

    Examples
    --------
    >>> kmeans(torch.tensor([[[0.0, 0.2, 5.0, 5.2]]]), 2)
    tensor([[0.1000],
            [5.1000]])
    """
    check_floating("data", data)
    if data.ndim < 3:
        raise ValueError(f"data: expected shape (N, C, *spatial), got {tuple(data.shape)}")
    for name, count in (("k", k), ("steps", steps)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1, got {count}")
    check_finite("data", data)
    points = data.detach().movedim(1, -1).reshape(-1, data.shape[1]).double().cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    if distinct < k:
        raise ValueError(f"k: expected at most {distinct}, the number of distinct values in data, got {k}")
    found = _cluster(points, k, seed, steps)
    found = found[np.lexsort([*found.T[::-1], found.sum(axis=1)])]
    return torch.from_numpy(found).to(dtype=data.dtype, device=data.device)


def _cluster(points: np.ndarray, k: int, seed: int, steps: int) -> np.ndarray:
    for start in np.random.SeedSequence(seed).spawn(_STARTS):
        try:
            found, _ = kmeans2(
                points, k, iter=steps, minit="++", missing="raise", seed=np.random.default_rng(start)
            )
        except ClusterError:
            continue
        return np.asarray(found)
    raise ValueError(f"k: expected a number of clusters that k-means can fill, got {k}")
