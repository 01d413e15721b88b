"""Mean intersection over union of a whole data set."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from flowcut.vision.metrics.counts import count_classes, counted_classes
from flowcut.vision.metrics.labels import check_num_classes, read_labels
from flowcut.vision.metrics.mean_and_error import MeanAndError


class MeanIoU(Metric):
    r"""Mean over the classes of the IoU of all pixels of the data set.

    The mIoU of results tables: for each class the intersections and unions of all images
    are added before the one is divided by the other, so that large figures weigh more than
    small ones; :class:`IoU` gives every image the same weight instead.

    Classes that occur nowhere, neither predicted nor true, are left out of the mean; if
    that leaves none, prediction and target agree: 1. A class that is only predicted or only
    true has 0. Images without any labelled pixel do not count.

    The standard error over images follows from the delta method, derived at
    :meth:`_error`. It is 0 where no counted class occurs.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    include_background
        Whether label 0 is one of the classes of the mean; None: where there are more than
        two labels.
    average
        ``"macro"``: the mean. ``"none"``: every class by itself, label 0 too; ``mean`` and
        ``standard_error`` are then (C,), NaN for a class that occurs nowhere, and ``count``
        is (C,), the number of images in which the class occurs.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        ``num_classes`` is below 2, or ``average`` none of the two.

    Examples
    --------
    >>> metric = MeanIoU(3, average="none")
    >>> metric.update(torch.tensor([[1, 1, 0], [0, 0, 1]]), torch.tensor([[1, 0, 255], [0, 0, 1]]))
    >>> metric.compute().mean.tolist()
    [0.6666666666666666, 0.6666666666666666, nan]
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = True
    sums: Tensor
    products: Tensor
    occurrences: Tensor
    count: Tensor

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int | None = 255,
        include_background: bool | None = None,
        average: Literal["macro", "none"] = "macro",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_num_classes(num_classes)
        if average not in ("macro", "none"):
            raise ValueError(f"average: expected 'macro' or 'none', got {average!r}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.include_background = include_background
        self.average = average
        size = 2 * num_classes
        self.add_state("sums", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(size, size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("occurrences", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, target: Tensor) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions
            (N, *spatial) integer labels.
        target
            (N, *spatial) integer labels or ``ignore_index``.

        Raises
        ------
        ValueError
            Shapes, types or labels do not fit.
        """
        predictions, target, valid = read_labels(predictions, target, self.num_classes, self.ignore_index)
        counts = count_classes(predictions, target, valid, self.num_classes)
        x = torch.cat([counts.both, counts.union], dim=1)
        self.sums += x.sum(dim=0)
        self.products += x.T @ x
        self.occurrences += (counts.union > 0).sum(dim=0)
        self.count += valid.flatten(1).any(dim=1).sum()

    def compute(self) -> MeanAndError:
        """IoU of all images seen since the last reset, its standard error, and their number."""
        both, union = self.sums[: self.num_classes], self.sums[self.num_classes :]
        occurs = union > 0
        safe = torch.where(occurs, union, 1)
        # The derivatives of r_c = I_c / U_c with respect to I_c and U_c.
        by_both, by_union = 1 / safe, -both / safe.square()
        jacobian = torch.cat([by_both.diag(), by_union.diag()], dim=1)
        if self.average == "none":
            mean = torch.where(occurs, both / safe, torch.nan)
            error = torch.where(occurs, self._error(jacobian), torch.nan)
            return MeanAndError(mean, error, self.occurrences.clone())
        chosen = torch.zeros_like(occurs)
        chosen[counted_classes(self.num_classes, self.include_background)] = True
        weight = (chosen & occurs).double()
        number = weight.sum()
        mean = torch.where(number > 0, weight @ (both / safe) / number.clamp(min=1), 1)
        error = self._error((weight / number.clamp(min=1) @ jacobian).unsqueeze(0))[0]
        return MeanAndError(torch.where(self.count > 0, mean, torch.nan), error, self.count.clone())

    def _error(self, gradients: Tensor) -> Tensor:
        """Standard errors of functions of the sums whose gradients are the rows of (M, 2C).

        Delta method. Image i contributes x_i = (its intersections, its unions), drawn
        independently; a score f is a function of s = sum_i x_i that does not change when s
        is multiplied by a number, as ratios do not, so f(s) = f(s / n). To first order its
        error is grad f(m) . (s / n - m), m the mean of x, whose variance is 1/n times that
        of grad f(m) . x, estimated from the n images by

            1 / (n (n - 1)) sum_i (g_m . (x_i - s / n))^2,  g_m = grad f at s / n = n g,

        g the gradient at s. By Euler's rule for such f, g . s = 0, which leaves

            n / (n - 1) sum_i (g . x_i)^2 = n / (n - 1) g^T (sum_i x_i x_i^T) g.

        So the sum of products is all that has to be kept of the images. If all images have
        one union u it is the usual error of the mean of I_i / u. The classes that occur are
        taken as given.
        """
        n = self.count.double()
        square = torch.einsum("mi,ij,mj->m", gradients, self.products, gradients).clamp(min=0)
        return torch.where(n > 1, (square * n / (n - 1)).sqrt(), torch.nan)
