"""Metrics that compare the predicted with the true figure of one class at a time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.vision.metrics.per_image import PerImageMetric

Figure = np.ndarray[Any, np.dtype[np.bool_]]


class ShapeMetric(PerImageMetric):
    """A comparison of two figures: its mean over the foreground classes of each image.

    All these metrics treat special cases alike. Void pixels belong to no figure, predicted
    or true, just as the world outside the picture. Label 0 is the background, whose
    boundary is that of the others, and is left out. Classes that occur neither in the
    prediction nor in the target of an image are left out of its mean; if that leaves none,
    the two agree, ``perfect``. If a class occurs in only one of the two, they are compared by
    ``one_empty``. An image without any labelled pixel does not count.
    """

    perfect: float

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the classes of each image: (N,)."""
        arrays = (t.cpu().numpy() for t in (predictions, target, valid))
        values = [self._score_image(*image) for image in zip(*arrays, strict=True)]
        result = torch.tensor(values, dtype=torch.float64, device=predictions.device)
        return result, valid.flatten(1).any(dim=1)

    def _score_image(self, prediction: Figure, target: Figure, valid: Figure) -> float:
        scores = []
        for c in range(1, self.num_classes):
            figure, truth = (prediction == c) & valid, (target == c) & valid
            found, there = figure.any(), truth.any()
            if found and there:
                scores.append(self.compare(figure, truth))
            elif found or there:
                scores.append(self.one_empty(valid.shape))
        return float(np.mean(scores)) if scores else self.perfect

    @abstractmethod
    def compare(self, figure: Figure, truth: Figure) -> float:
        """The score of two figures (*spatial), neither of them empty."""

    @abstractmethod
    def one_empty(self, shape: tuple[int, ...]) -> float:
        """The score of a figure against nothing in a picture of this shape."""
