"""Segmentation from seeds: the random walker, with scikit-image's signature."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from flowcut.core.edges import edges_from_axes
from flowcut.core.results import Solution
from flowcut.core.warnings import FlowcutWarning
from flowcut.linear.auto import may_factor
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve

# So that no tie is ever cut altogether by a strong contrast; scikit-image's constant.
_LEAST_TIE = 1e-10
_MODES = ("bf", "cg", "cg_j", "cg_mg", None)


def random_walker(
    data: NDArray[Any],
    labels: NDArray[Any],
    beta: float = 130,
    mode: str | None = None,
    tol: float = 1e-5,
    copy: bool = True,
    return_full_prob: bool = False,
    spacing: Sequence[float] | None = None,
    *,
    prob_tol: float = 1e-3,
    channel_axis: int | None = None,
) -> NDArray[Any]:
    """Label every pixel by the seed that a random walker starting there reaches first.

    SoftCut with seeds pinned (confidence infinity) and no confidence elsewhere: harmonic
    potentials, one per label (Grady, IEEE TPAMI 28(11), 2006). A drop-in for
    ``skimage.segmentation.random_walker``; it is solved exactly or to a tight tolerance, so it agrees
    with that function's ``mode="bf"``. This differs from scikit-image: any number of axes, a tighter
    default ``tol``, and one-hot probabilities of the usual shape also when nothing is unlabeled.

    Parameters
    ----------
    data
        Image, spatial axes and optionally channels. Integers are scaled to [0, 1] by the largest value
        of their type.
    labels
        Integers of the spatial shape: > 0 seeds, 0 unlabeled, < 0 inactive (removed).
    beta
        Contrast: a tie has weight exp(-beta * (difference / spacing)^2 / (10 std(data))) + 1e-10, the
        exponent divided by sqrt(channels) where there are channels.
    mode
        "bf": by Cholesky. Anything else of scikit-image's ("cg", "cg_j", "cg_mg", None): by Cholesky where
        that fits (pictures to four million pixels), by conjugate gradients elsewhere.
    tol
        Conjugate gradients go on until no probability can be off by more.
    copy
        False: write the result into ``labels``.
    return_full_prob
        True: probabilities instead of labels.
    spacing
        Pixel size along each spatial axis. Default: 1.
    prob_tol
        Warn when a probability leaves [0, 1] by more.
    channel_axis
        Axis of the channels, None for grey pictures.

    Returns
    -------
    NDArray
        Labels 1 ... n (in the order of the given values; unlabeled pixels that no seed can reach are 0) of
        the type of ``labels``, or probabilities (n, *spatial).

    Raises
    ------
    ValueError
        Shapes or spacing do not fit, no seed, unknown mode, or NaN in the data.

    Examples
    --------
    >>> random_walker(np.array([[0.0, 0.1, 0.9, 1.0]]), np.array([[1, 0, 0, 2]]))
    array([[1, 1, 2, 2]])
    """
    image = _channels_last(np.asarray(data), labels, channel_axis)
    if mode not in _MODES:
        raise ValueError(f"mode: expected one of {_MODES}, got {mode!r}")
    if not np.isfinite(image).all():
        raise ValueError("data: expected finite values, got NaN or infinity")
    steps = _spacing(spacing, labels.ndim)
    values = np.unique(labels[labels > 0])
    if not len(values):
        raise ValueError("labels: expected at least one seed > 0, got none")
    numbered = _number_consecutively(labels, values)
    free = numbered == 0
    reached = _reached(numbered)
    if not (free & reached).any():
        why = "no pixel is unlabeled" if not free.any() else "every unlabeled pixel is cut off from the seeds"
        warnings.warn(f"labels: {why}; returned as they are", FlowcutWarning, stacklevel=2)
        numbered = np.where(free, -1, labels)
        return _finish(numbered, labels, _one_hot(labels, values), return_full_prob, copy)
    edges = contrast_edges(image, steps, beta, channel_axis is not None)
    probability = _harmonic(edges, numbered, free & reached, len(values), mode == "bf", tol)
    if probability.min() < -prob_tol or probability.max() > 1 + prob_tol:
        warnings.warn(
            "a probability left [0, 1] by more than prob_tol: decrease tol", FlowcutWarning, stacklevel=2
        )
    result = np.where(free & reached, probability.argmax(axis=0) + 1, numbered)
    return _finish(result, labels, probability, return_full_prob, copy)


def _channels_last(data: NDArray[Any], labels: NDArray[Any], channel_axis: int | None) -> NDArray[np.float64]:
    """(*spatial, channels) in double precision; integers scaled to [0, 1]."""
    if np.issubdtype(data.dtype, np.integer):
        image = data.astype(np.float64) / np.iinfo(data.dtype).max
    else:
        image = data.astype(np.float64)
    image = image[..., None] if channel_axis is None else np.moveaxis(image, channel_axis, -1)
    if image.shape[:-1] != labels.shape:
        raise ValueError(f"labels: expected the spatial shape of data {image.shape[:-1]}, got {labels.shape}")
    return image


def _spacing(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    steps = (1.0,) * ndim if spacing is None else tuple(float(s) for s in spacing)
    if len(steps) != ndim or not all(0 < s < np.inf for s in steps):
        raise ValueError(f"spacing: expected {ndim} numbers > 0, one per spatial axis, got {spacing}")
    return steps


def _number_consecutively(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Seeds numbered 1 ... n, everything else as it is."""
    return np.where(labels > 0, np.searchsorted(values, labels) + 1, labels).astype(np.int64)


def _reached(numbered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Active pixels that are connected to a seed."""
    reached: NDArray[np.bool_] = ndimage.binary_propagation(numbered > 0, mask=numbered >= 0)
    return reached


def contrast_edges(
    image: NDArray[np.float64], spacing: tuple[float, ...], beta: float, multichannel: bool
) -> Tensor:
    """(1, ndim, *spatial) edges from contrast, as scikit-image makes them."""
    deviation = float(image.std())
    # A constant picture has no contrast to scale.
    scale = beta / (10 * deviation) if deviation > 0 else 0.0
    if multichannel:
        scale /= float(np.sqrt(image.shape[-1]))
    arrays = []
    for axis, step in enumerate(spacing):
        square = ((np.diff(image, axis=axis) / step) ** 2).sum(axis=-1)
        arrays.append(torch.from_numpy(np.exp(-scale * square) + _LEAST_TIE))
    return edges_from_axes(arrays)[None]


def _harmonic(
    edges: Tensor, numbered: NDArray[np.int64], walk: NDArray[np.bool_], count: int, direct: bool, tol: float
) -> NDArray[np.float64]:
    """Probabilities (n, *spatial): harmonic where the walker walks, 0 or 1 elsewhere."""
    seeds = torch.from_numpy(np.stack([numbered == c + 1 for c in range(count)]).astype(np.float64))
    active = torch.from_numpy((walk | (numbered > 0)).astype(np.float64))
    confidence = torch.where(torch.from_numpy(walk), 0.0, torch.inf).double()
    for axis in range(active.ndim):
        # A tie into the inactive part does not exist; rolling wraps into entries never read.
        edges[0, axis] *= active * torch.roll(active, -1, dims=axis)
    operator = GridOperator(edges, confidence[None, None])
    if direct or may_factor(operator.system()):
        solution = solve(operator, seeds[None], solver=Cholesky())
    else:
        solution = _solve_to_bound(operator, seeds[None], tol)
    result: NDArray[np.float64] = solution.value[0].numpy()
    return result


def _solve_to_bound(operator: GridOperator, seeds: Tensor, tol: float) -> Solution:
    """Conjugate gradients until no probability can be off by more than ``tol``.

    A residual says little here: pieces that hang on ties of 1e-10 hardly show in it.
    """
    rtol = 1e-6
    while True:
        solution = solve(operator, seeds, solver=CG(rtol), on_failure="ignore")
        if bool((solution.error_bound <= tol).all()):
            return solution
        if rtol < 1e-13 or not solution.success:
            warnings.warn(
                f"tol: probabilities are within {float(solution.error_bound.max()):.1e}, not {tol:.1e}, of "
                'the exact ones: use mode="bf"',
                FlowcutWarning,
                stacklevel=4,
            )
            return solution
        rtol *= 1e-2


def _one_hot(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    return np.stack([labels == value for value in values]).astype(np.float64)


def _finish(
    result: NDArray[Any], labels: NDArray[Any], probability: NDArray[np.float64], full: bool, copy: bool
) -> NDArray[Any]:
    if not copy:
        labels[...] = result
    if full:
        return probability
    return labels if not copy else result.astype(labels.dtype)
