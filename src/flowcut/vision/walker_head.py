"""A random walker as the last layer of a network that learns nothing but edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.cut.soft_cut import soft_cut
from flowcut.vision.pictures import VOID

__all__ = ["RandomWalkerHead"]

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
