"""Metrics that give every image one number."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from flowcut.vision.metrics.labels import check_num_classes, read_labels
from flowcut.vision.metrics.mean_and_error import MeanAndError


class PerImageMetric(Metric):
    """A metric that gives every image one number and reports their mean and its error.

    A subclass writes :meth:`score`. Sums are kept in float64 and added over processes, so
    that the result does not depend on how images are batched or spread.

    Parameters
    ----------
    num_classes
        Labels run from 0 to ``num_classes`` - 1, >= 2.
    ignore_index
        Target value of void pixels, or None.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        ``num_classes`` is below 2.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    total_squared: Tensor
    count: Tensor

    def __init__(self, num_classes: int = 2, ignore_index: int | None = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_num_classes(num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", zero.clone(), dist_reduce_fx="sum")
        self.add_state("total_squared", zero.clone(), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, target: Tensor) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions
            (N, *spatial) integer labels (see :func:`flowcut.vision.labels.predict_labels`).
        target
            (N, *spatial) integer labels or ``ignore_index``.

        Raises
        ------
        ValueError
            Shapes, types or labels do not fit.
        """
        labels = read_labels(predictions, target, self.num_classes, self.ignore_index)
        values, counts = self.score(*labels)
        values = torch.where(counts, values.double(), 0)
        self.total += values.sum()
        self.total_squared += values.square().sum()
        self.count += counts.sum()

    @abstractmethod
    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """One number an image.

        Parameters
        ----------
        predictions, target
            (N, *spatial) int64; ``target`` is 0 at void pixels.
        valid
            (N, *spatial) bool, False at void pixels.

        Returns
        -------
        values : Tensor
            (N,) the numbers.
        counts : Tensor
            (N,) bool, which images count.
        """

    def compute(self) -> MeanAndError:
        """Mean, standard error and number of the images seen since the last reset."""
        n = self.count.double()
        mean = self.total / n
        variance = (self.total_squared - n * mean.square()).clamp(min=0) / (n - 1)
        error = torch.where(n > 1, (variance / n).sqrt(), torch.nan)
        return MeanAndError(mean, error, self.count.clone())
