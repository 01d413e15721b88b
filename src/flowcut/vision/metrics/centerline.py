"""Agreement of thin, branching figures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor

from flowcut.vision.metrics.shapes import Figure, ShapeMetric


class CenterlineDice(ShapeMetric):
    """Centreline Dice (clDice) of each image, averaged over the images.

    The harmonic mean of two shares (Shit et al., CVPR 2021): that of the predicted skeleton
    inside the true figure, and that of the true skeleton inside the predicted figure. It
    asks whether vessels and roads are found and connected, not how wide they are. More than
    two labels: the mean over the foreground classes that occur in the image. Skeletons are
    scikit-image's; a connected piece that its thinning removes altogether (in 3-D a
    2 x 2 x 2 cube, for example) is its own skeleton. Pictures have two or three axes.

    Nothing against nothing has 1, a figure against nothing 0. Void pixels belong to no
    figure, so that skeletons are those of what is left. An image without any labelled pixel
    does not count.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        ``num_classes`` is below 2; in ``update``: there are not two or three axes.

    Examples
    --------
    >>> line, half = torch.zeros(2, 1, 5, 12).long()
    >>> line[:, 2, 1:11], half[:, 2, 1:6] = 1, 1
    >>> round(CenterlineDice()(half, line).mean.item(), 4)  # 2 (1 * 1/2) / (1 + 1/2)
    0.6667
    """

    higher_is_better = True
    perfect = 1.0

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Centreline Dice of each image: (N,) in [0, 1]."""
        if predictions.ndim not in (3, 4):
            raise ValueError(f"predictions: expected 2 or 3 spatial axes, got {predictions.ndim - 1}")
        return super().score(predictions, target, valid)

    def compare(self, figure: Figure, truth: Figure) -> float:
        """2 P S / (P + S), P = |skeleton in truth| / |skeleton| and S the other way round."""
        precision = float(truth[_skeleton(figure)].mean())
        sensitivity = float(figure[_skeleton(truth)].mean())
        total = precision + sensitivity
        return 2 * precision * sensitivity / total if total > 0 else 0.0

    def one_empty(self, shape: tuple[int, ...]) -> float:
        """Nothing is found, or nothing of it is there."""
        return 0.0


def _skeleton(figure: Figure) -> Figure:
    """scikit-image's skeleton, and the pieces it lost."""
    skeleton = skeletonize(figure)
    pieces, count = ndimage.label(figure, np.ones((3,) * figure.ndim))
    kept = np.bincount(pieces[skeleton], minlength=count + 1) > 0
    kept[0] = True
    return np.asarray(skeleton | ~kept[pieces])
