"""Scores of hard labelings, one number an image, reported as mean and standard error."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.measure import label as connected_components
from torch import Tensor
from torchmetrics import Metric

from flowcut.vision.targets import LABEL_DTYPES, split_void


class MeanAndError(NamedTuple):
    """A mean over images and how well it is known.

    Attributes
    ----------
    mean : Tensor
        Scalar float64; NaN when no image counted.
    standard_error : Tensor
        Sample standard deviation over the images divided by the root of their number;
        NaN for fewer than two images, whose spread is unknown.
    count : Tensor
        Scalar int64, the number of images that counted.
    """

    mean: Tensor
    standard_error: Tensor
    count: Tensor  # type: ignore[assignment]  # the field hides tuple.count


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
        if num_classes < 2:
            raise ValueError(f"num_classes: expected 2 or more, got {num_classes}")
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
        for name, labels in (("predictions", predictions), ("target", target)):
            if labels.dtype not in LABEL_DTYPES:
                raise ValueError(f"{name}: expected integer labels, got {labels.dtype}")
        if predictions.shape != target.shape or predictions.ndim < 2:
            raise ValueError(
                f"target: expected predictions and target of one shape (N, *spatial), "
                f"got {tuple(predictions.shape)} and {tuple(target.shape)}"
            )
        predictions, _ = split_void(predictions, self.num_classes, None, "predictions")
        target, valid = split_void(target, self.num_classes, self.ignore_index)
        values, counts = self.score(predictions, target, valid)
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


class IoU(PerImageMetric):
    """Intersection over union of each image, averaged over the images.

    Two classes: the IoU of the foreground (label 1) alone. More: the mean over the classes,
    background included, that occur in the prediction or the target of that image. Void
    pixels are left out of intersection and union.

    An image whose prediction and target both have no foreground agrees perfectly: 1. An
    image without any labelled pixel does not count.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
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

    higher_is_better = True

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Intersection over union of each image: (N,) in [0, 1]."""
        predictions, target, valid = (t.flatten(1) for t in (predictions, target, valid))
        classes = [1] if self.num_classes == 2 else range(self.num_classes)
        total = torch.zeros(len(target), dtype=torch.float64, device=target.device)
        present = torch.zeros_like(total)
        for c in classes:
            in_prediction, in_target = (predictions == c) & valid, (target == c) & valid
            union = (in_prediction | in_target).sum(dim=1).double()
            total += (in_prediction & in_target).sum(dim=1) / union.clamp(min=1)
            present += union > 0
        return torch.where(present > 0, total / present.clamp(min=1), 1), valid.any(dim=1)


class Accuracy(PerImageMetric):
    """Share of the labelled pixels of each image that are right, averaged over the images.

    An image without any labelled pixel does not count.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Examples
    --------
    >>> metric = Accuracy()
    >>> metric(torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 255]])).mean.item()
    0.6666666666666666
    """

    higher_is_better = True

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Share of right pixels of each image: (N,) in [0, 1]."""
        right = ((predictions == target) & valid).flatten(1).sum(dim=1).double()
        labelled = valid.flatten(1).sum(dim=1)
        return right / labelled.clamp(min=1), labelled > 0


class DistinctFigures(PerImageMetric):
    """Number of connected figures in each predicted labeling, averaged over the images.

    A figure is a connected set of pixels of one label other than 0; pixels touch along the
    axes (4 neighbours in 2-D). Speckled labelings have many. Figures of void pixels alone do
    not count; otherwise the target does not matter.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Examples
    --------
    >>> metric = DistinctFigures()
    >>> speckled = torch.tensor([[[1, 0, 1], [0, 1, 0]]])
    >>> metric(speckled, torch.zeros_like(speckled)).mean.item()
    3.0
    """

    higher_is_better = False

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Number of figures of each image: (N,)."""
        figures = []
        for item, labelled in zip(predictions.cpu().numpy(), valid.cpu().numpy(), strict=True):
            numbers = connected_components(item, background=0, connectivity=1)
            figures.append(len(np.unique(numbers[labelled & (numbers > 0)])))
        values = torch.tensor(figures, dtype=torch.float64, device=predictions.device)
        return values, torch.ones_like(values, dtype=torch.bool)
