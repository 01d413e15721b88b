"""Scores of hard labelings, reported as a mean and its standard error over images."""

from flowcut.vision.metrics.accuracy import Accuracy
from flowcut.vision.metrics.boundary import HausdorffDistance, NormalizedSurfaceDistance
from flowcut.vision.metrics.centerline import CenterlineDice
from flowcut.vision.metrics.figures import DistinctFigures
from flowcut.vision.metrics.mean_and_error import MeanAndError
from flowcut.vision.metrics.mean_iou import MeanIoU
from flowcut.vision.metrics.overlap import Dice, IoU
from flowcut.vision.metrics.per_image import PerImageMetric

__all__ = [
    "Accuracy",
    "CenterlineDice",
    "Dice",
    "DistinctFigures",
    "HausdorffDistance",
    "IoU",
    "MeanAndError",
    "MeanIoU",
    "NormalizedSurfaceDistance",
    "PerImageMetric",
]
