"""A mean over images and how well it is known."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MeanAndError(NamedTuple):
    """A mean over images and how well it is known.

    Attributes
    ----------
    mean : Tensor
        Scalar float64 (one number a class where a metric says so); NaN when no image counted.
    standard_error : Tensor
        Of the shape of the mean. Sample standard deviation over the images divided by the
        root of their number, unless the metric says otherwise; NaN for fewer than two
        images, whose spread is unknown.
    count : Tensor
        int64, the number of images that counted.
    """

    mean: Tensor
    standard_error: Tensor
    count: Tensor  # type: ignore[assignment]  # the field hides tuple.count
