"""Random walkers as the last layer of a network: from marked pixels, or from scores."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import OnFailure
from flowcut.cut.soft_cut import soft_cut
from flowcut.linear.auto import Auto
from flowcut.vision.pictures import VOID

__all__ = ["PriorWalkerHead", "RandomWalkerHead"]

# Of probabilities that are read as logits.
_LEAST_PROBABILITY = 1e-6


class RandomWalkerHead(nn.Module):
    """Logits of a random walker that starts anywhere and ends at a marked pixel.

    SoftCut with infinite confidence at the marked pixels and none elsewhere (Grady, IEEE TPAMI 28(11), 2006).
    Edges are all it learns from: pin a part of the scribbles and let the loss ask for the rest.

    Parameters
    ----------
    num_classes
        J >= 2.

    Raises
    ------
    ValueError
        ``num_classes`` < 2.

    Examples
    --------
    >>> seeds = torch.tensor([[[0, 255, 255, 1]]])
    >>> RandomWalkerHead()(seeds, torch.ones(1, 2, 1, 4)).softmax(dim=1)[0, 1].round(decimals=3)
    tensor([[0.0000, 0.3330, 0.6670, 1.0000]])
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes: expected 2 or more, got {num_classes}")
        self.num_classes = num_classes

    def forward(self, seeds: Tensor, edges: Tensor) -> Tensor:
        """Logarithms of probabilities.

        Parameters
        ----------
        seeds
            (N, *spatial) integer: labels, 255 where nothing is marked. At least one is marked in each item.
        edges
            (N, K, *spatial) > 0.

        Returns
        -------
        Tensor
            (N, J, *spatial), to be read by a softmax.
        """
        marked = seeds != VOID
        one_hot = F.one_hot(torch.where(marked, seeds, 0).long(), self.num_classes).movedim(-1, 1)
        hold = torch.where(marked, torch.inf, 0.0).to(edges.dtype)[:, None]
        potentials = soft_cut(one_hot.to(edges.dtype), edges, hold)
        return potentials.clamp(min=_LEAST_PROBABILITY).log()


class PriorWalkerHead(nn.Module):
    """Logits of a random walker that may stop anywhere and then draws a label from the scores.

    At a pixel the walker stops with probability c / (c + sum_k w_ik), c the confidence, and takes label r by
    the probabilities p_i = softmax(s_i) there; otherwise it goes on along edge w_ij with probability
    w_ij / (c + sum_k w_ik). The probability x_i of each label, for a start at i, solves (c + L) x = c p
    (Grady, CVPR 2005, "priors"): a SoftCut of probabilities where SoftCut takes scores. So no pixel, however
    large its scores, weighs more than any other, and the labels sum to 1 by themselves.

    Parameters
    ----------
    confidence
        c > 0, in units of the edges.
    solver, neighborhood, on_failure
        As in :func:`flowcut.soft_cut`.

    Raises
    ------
    ValueError
        ``confidence`` is not a finite number > 0.

    Examples
    --------
    Without ties the logits are the scores; the first of two tied pixels moves to (2 p_1 + p_2) / 3:

    >>> scores = torch.tensor([[[[-2.0, 2.0]]]])
    >>> PriorWalkerHead()(scores, torch.zeros(1, 2, 1, 2))
    tensor([[[[-2.0000,  2.0000]]]])
    >>> PriorWalkerHead()(scores, torch.ones(1, 2, 1, 2)).sigmoid()
    tensor([[[[0.3731, 0.6269]]]])
    """

    def __init__(
        self,
        confidence: float = 1.0,
        solver: Any = None,
        neighborhood: Neighborhood | Graph | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        if not (math.isfinite(confidence) and confidence > 0):
            raise ValueError(f"confidence: expected a finite number > 0, got {confidence}")
        self.confidence = confidence
        self.solver = Auto() if solver is None else solver
        self.neighborhood = neighborhood
        self.on_failure: OnFailure = on_failure

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Logarithms of the walker's probabilities; for one channel of their odds.

        Parameters
        ----------
        scores
            (N, C, *spatial): C = 1 read by a sigmoid, C >= 2 by a softmax.
        edges
            (N, K, *spatial) or (N, 1, K, *spatial) >= 0.

        Returns
        -------
        Tensor
            (N, C, *spatial); probabilities below 1e-6 count as that.

        Raises
        ------
        TypeError, ValueError
            As in :func:`flowcut.soft_cut`.
        """
        one = scores.shape[1] == 1
        p = scores.sigmoid() if one else scores.softmax(dim=1)
        x = soft_cut(p, edges, self.confidence, self.solver, self.neighborhood, self.on_failure)
        x = x.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return x.log() - (-x).log1p() if one else x.log()

    def extra_repr(self) -> str:
        """The confidence and the solver, as ``print`` shows them."""
        return f"confidence={self.confidence}, solver={self.solver}"
