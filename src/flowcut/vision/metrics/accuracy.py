"""Share of right pixels."""

from __future__ import annotations

from torch import Tensor

from flowcut.vision.metrics.per_image import PerImageMetric


class Accuracy(PerImageMetric):
    """Share of the labelled pixels of each image that are right, averaged over the images.

    Equation (8) of the SoftCut thesis, (TP + TN) / (TP + FP + TN + FN), for any number of
    labels. An image without any labelled pixel does not count.

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
