"""Number of connected figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import label as label_figures
from torch import Tensor

from flowcut.vision.metrics.per_image import PerImageMetric


class DistinctFigures(PerImageMetric):
    """Number of connected figures in each predicted labeling, averaged over the images.

    A figure is a connected set of pixels of one label other than 0. Speckled labelings have
    many. Figures of void pixels alone do not count; otherwise the target does not matter.
    A labeling without figures has 0, and an image that is void everywhere counts with 0.

    Parameters
    ----------
    num_classes
        Number of labels, >= 2.
    ignore_index
        Target value of void pixels, or None.
    connectivity
        Which pixels touch, as in scikit-image: those that differ by 1 in at most so many
        axes; 1 (along the axes: 4 neighbours in 2-D, 6 in 3-D) up to the number of axes
        (8 neighbours in 2-D, 26 in 3-D).
    **kwargs
        Passed on to :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        ``num_classes`` is below 2 or ``connectivity`` below 1; in ``update``:
        ``connectivity`` is above the number of axes.

    Examples
    --------
    >>> metric = DistinctFigures()
    >>> speckled = torch.tensor([[[1, 0, 1], [0, 1, 0]]])
    >>> metric(speckled, torch.zeros_like(speckled)).mean.item()
    3.0
    >>> DistinctFigures(connectivity=2)(speckled, torch.zeros_like(speckled)).mean.item()
    1.0
    """

    higher_is_better = False

    def __init__(
        self,
        num_classes: int = 2,
        ignore_index: int | None = 255,
        connectivity: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index, **kwargs)
        if connectivity < 1:
            raise ValueError(f"connectivity: expected 1 or more, got {connectivity}")
        self.connectivity = connectivity

    def score(self, predictions: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Number of figures of each image: (N,)."""
        axes = predictions.ndim - 1
        if self.connectivity > axes:
            raise ValueError(
                f"connectivity: expected 1 to {axes} for {axes} spatial axes, got {self.connectivity}"
            )
        figures = []
        for item, labelled in zip(predictions.cpu().numpy(), valid.cpu().numpy(), strict=True):
            numbers = self._figures(item)
            figures.append(np.count_nonzero(np.bincount(numbers[labelled], minlength=1)[1:]))
        values = torch.tensor(figures, dtype=torch.float64, device=predictions.device)
        return values, torch.ones_like(values, dtype=torch.bool)

    def _figures(self, item: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A number for each figure from 1 on, 0 for the background."""
        # SciPy knows only one foreground, but is two to four times as fast there.
        if self.num_classes == 2:
            touching = ndimage.generate_binary_structure(item.ndim, self.connectivity)
            return np.asarray(ndimage.label(item, touching)[0])
        return np.asarray(label_figures(item, background=0, connectivity=self.connectivity))
