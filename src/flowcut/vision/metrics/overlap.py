"""Overlap of predicted and true classes, image by image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from flowcut.vision.metrics.counts import Counts, count_classes, counted_classes
from flowcut.vision.metrics.per_image import PerImageMetric


class OverlapMetric(PerImageMetric):
    """The mean, over the classes that occur in an image, of a ratio of pixel counts."""

    higher_is_better = True

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int | None = 255,
        include_background: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index, **kwargs)
        self.include_background = include_background

    @abstractmethod
    def ratio(self, counts: Counts) -> Tensor:
        """(N, C) in [0, 1]; anything where a class does not occur."""

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Overlap of each image: (N,) in [0, 1]."""
        chosen = counted_classes(self.num_classes, self.include_background)
        counts = count_classes(predictions, target, valid, self.num_classes)
        occurs = (counts.union > 0)[:, chosen]
        total = torch.where(occurs, self.ratio(counts)[:, chosen], 0).sum(dim=1)
        number = occurs.sum(dim=1)
        # Nothing there and nothing found: agreement.
        return torch.where(number > 0, total / number.clamp(min=1), 1), valid.flatten(1).any(dim=1)


class IoU(OverlapMetric):
    """Intersection over union of each image, averaged over the images.

    Equation (9) of the SoftCut thesis. Two labels: the IoU of the foreground (label 1)
    alone. More: the mean over the classes, background included, that occur in the
    prediction or the target of that image. Void pixels are left out of intersection and
    union.

    An image in which no counted class occurs, neither in the prediction nor in the target,
    agrees perfectly: 1. A class in only one of the two scores 0. An image without any
    labelled pixel does not count. For intersections and unions of all images see
    :class:`MeanIoU`.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    include_background
        Whether label 0 is one of the classes of the mean; None: where there are more than
        two labels.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Examples
    --------
    >>> metric = IoU()
    >>> metric.update(torch.tensor([[1, 1, 0], [0, 0, 1]]), torch.tensor([[1, 0, 255], [0, 0, 1]]))
    >>> result = metric.compute()
    >>> result.mean.item(), result.standard_error.item(), result.count.item()
    (0.75, 0.25, 2)
    """

    def ratio(self, counts: Counts) -> Tensor:
        """|X and Y| / |X or Y|."""
        return counts.both / counts.union


class Dice(OverlapMetric):
    """Dice coefficient of each image, averaged over the images.

    2 |X and Y| / (|X| + |Y|), equation (5) of the SoftCut thesis, of the same classes and
    with the same empty cases as :class:`IoU`.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    include_background
        Whether label 0 is one of the classes of the mean; None: where there are more than
        two labels.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Examples
    --------
    >>> metric = Dice()
    >>> metric(torch.tensor([[1, 1, 0]]), torch.tensor([[1, 0, 255]])).mean.item()
    0.6666666666666666
    """

    def ratio(self, counts: Counts) -> Tensor:
        """2 |X and Y| / (|X| + |Y|)."""
        return 2 * counts.both / (counts.predicted + counts.true)
