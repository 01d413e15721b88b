"""How far predicted and true boundaries are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from flowcut.vision.metrics.shapes import Figure, ShapeMetric


class BoundaryMetric(ShapeMetric):
    """What both boundary metrics share: the distances between two boundaries.

    The boundary of a figure are its pixels that touch, along an axis, a pixel that is not in
    it; what lies outside the picture is not in it. Distances are Euclidean, between the
    centres of pixels. These are the conventions of MONAI.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int | None,
        spacing: float | Sequence[float],
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index, **kwargs)
        sizes = [spacing] if isinstance(spacing, int | float) else list(spacing)
        if not sizes or not all(0 < s < math.inf for s in sizes):
            raise ValueError(f"spacing: expected positive numbers, got {spacing}")
        self.spacing = spacing

    def distances(self, figure: Figure, truth: Figure) -> tuple[np.ndarray, np.ndarray]:
        """From each boundary pixel of one to the nearest of the other, there and back."""
        spacing = self._spacing(figure.ndim)
        ours, theirs = (np.argwhere(_boundary(f)) * spacing for f in (figure, truth))
        return KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]

    def _spacing(self, axes: int) -> np.ndarray:
        if isinstance(self.spacing, int | float):
            return np.full(axes, float(self.spacing))
        if len(self.spacing) != axes:
            raise ValueError(f"spacing: expected 1 or {axes} numbers, got {len(self.spacing)}")
        return np.asarray(self.spacing, dtype=float)


class HausdorffDistance(BoundaryMetric):
    """Hausdorff distance of the boundaries in each image, averaged over the images.

    The percentile (linearly interpolated) of the distances from the predicted boundary to
    the true one, or from the true to the predicted, whichever is larger. 95, "HD95", is not
    decided by single stray pixels; 100 is the Hausdorff distance itself. More than two
    labels: the mean over the foreground classes that occur in the image.

    Nothing against nothing has distance 0. A figure against nothing has the length of the
    picture's diagonal, the largest distance that two pixels of it can have, so that missing
    a figure is never better than finding it badly and the mean stays finite. Void pixels
    belong to no figure. An image without any labelled pixel does not count.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    percentile
        In (0, 100].
    spacing
        Size of a pixel, or its size along each axis; the result has its unit.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        A number is out of its range; in ``update``: ``spacing`` does not fit the axes.

    Examples
    --------
    >>> metric = HausdorffDistance()
    >>> metric(torch.tensor([[1, 0, 0, 0]]), torch.tensor([[0, 0, 1, 0]])).mean.item()
    2.0
    """

    higher_is_better = False
    perfect = 0.0

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int | None = 255,
        percentile: float = 95.0,
        spacing: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index, spacing, **kwargs)
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile: expected a number in (0, 100], got {percentile}")
        self.percentile = percentile

    def compare(self, figure: Figure, truth: Figure) -> float:
        """The larger of the two percentiles."""
        return max(float(np.percentile(d, self.percentile)) for d in self.distances(figure, truth))

    def one_empty(self, shape: tuple[int, ...]) -> float:
        """The diagonal, from the first pixel's centre to the last's."""
        return float(np.linalg.norm((np.array(shape) - 1) * self._spacing(len(shape))))


class NormalizedSurfaceDistance(BoundaryMetric):
    """Share of the boundaries that agree within a tolerance, averaged over the images.

    The number of boundary pixels, predicted and true, that lie at most ``tolerance`` from
    the other boundary, divided by the number of all; also called surface Dice. Every boundary
    pixel counts the same, whatever its area. More than two labels: the mean over the
    foreground classes that occur in the image.

    Nothing against nothing has 1, a figure against nothing 0. Void pixels belong to no
    figure. An image without any labelled pixel does not count.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    tolerance
        >= 0, in pixels, or in the unit of ``spacing``.
    spacing
        Size of a pixel, or its size along each axis.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        A number is out of its range; in ``update``: ``spacing`` does not fit the axes.

    Examples
    --------
    >>> x, y = torch.tensor([[1, 1, 1, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    >>> [NormalizedSurfaceDistance(tolerance=t)(x, y).mean.item() for t in (0, 1)]
    [0.5, 1.0]
    """

    higher_is_better = True
    perfect = 1.0

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int | None = 255,
        tolerance: float = 1.0,
        spacing: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index, spacing, **kwargs)
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance: expected a finite number >= 0, got {tolerance}")
        self.tolerance = tolerance

    def compare(self, figure: Figure, truth: Figure) -> float:
        """The share of boundary pixels within the tolerance."""
        both = np.concatenate(self.distances(figure, truth))
        # Three pixels of size 0.1 are 0.30000000000000004 apart: rounding must not decide.
        return float(np.mean(both <= self.tolerance * (1 + 1e-9)))

    def one_empty(self, shape: tuple[int, ...]) -> float:
        """No part agrees."""
        return 0.0


def _boundary(figure: Figure) -> Figure:
    inner = ndimage.binary_erosion(figure)
    return np.asarray(figure & ~inner)
