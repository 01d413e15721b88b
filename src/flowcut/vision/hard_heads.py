"""Heads that label and do not teach: exact cuts in the place of the head a network was trained with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.expansion import alpha_expansion
from flowcut.cut.max_flow import max_flow

__all__ = ["HARD_LOGIT", "ExpansionHead", "MaxFlowHead", "hard_logits"]

HARD_LOGIT = 40.0
"""The logit of what is certain. exp(-40) = 4e-18 is below the rounding of 1 in double precision, so that a
sigmoid, or a softmax of 40 against -40, is 0 or 1 to rounding, and Dice is that of the mask; yet 40 is
finite in half types too, so that a wrong pixel costs a cross-entropy 40 (or 80) and not infinity."""


def hard_logits(labels: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits of labels that are certain.

    Parameters
    ----------
    labels
        (N, *spatial), bool or integer: 0 and 1 for one channel, 0 to C - 1 for C.
    channels
        C >= 1.
    dtype
        Of the result.

    Returns
    -------
    Tensor
        (N, C, *spatial): 40 in the label's channel and -40 in the others; for one channel 40 is label 1.

    Examples
    --------
    >>> hard_logits(torch.tensor([[0, 1]]), 1).tolist(), hard_logits(torch.tensor([[2]]), 3).tolist()
    ([[[-40.0, 40.0]]], [[[-40.0], [-40.0], [40.0]]])
    """
    classes = torch.arange(1 if channels == 1 else 0, max(channels, 2), device=labels.device)
    chosen = labels[:, None] == classes.reshape(-1, *(1,) * (labels.ndim - 1))
    return torch.where(chosen, HARD_LOGIT, -HARD_LOGIT).to(dtype)


class _HardHead(nn.Module):
    """What exact cuts as heads share: the scale of the edges, and no training."""

    def __init__(self, edge_scale: float, neighborhood: Neighborhood | Graph | None) -> None:
        super().__init__()
        if not (math.isfinite(edge_scale) and edge_scale >= 0):
            raise ValueError(f"edge_scale: expected a finite number >= 0, got {edge_scale}")
        self.edge_scale = edge_scale
        self.neighborhood = neighborhood

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Logits of a hard labeling.

        Parameters
        ----------
        scores
            (N, C, *spatial): C = 1 read by a sigmoid, C >= 2 by a softmax.
        edges
            (N, K, *spatial) or (N, G, K, *spatial), >= 0, G = 1 or C.

        Returns
        -------
        Tensor
            (N, C, *spatial) of the type of the scores, see :func:`hard_logits`; without a gradient.

        Raises
        ------
        RuntimeError
            In training mode, where a gradient is asked for: a hard labeling has none.
        ValueError
            Shapes or values do not fit.
        """
        if self.training and torch.is_grad_enabled() and (scores.requires_grad or edges.requires_grad):
            raise RuntimeError(
                f"{type(self).__name__}: expected evaluation mode or no gradients, got a training (a hard "
                "labeling has no gradient; train with another head, for example SoftCut)"
            )
        with torch.no_grad():
            labels = self.label(scores, self.edge_scale * _shared(edges, scores, self.neighborhood))
        return hard_logits(labels, scores.shape[1], scores.dtype)

    def label(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Labels (N, *spatial) of scores (N, C, *spatial) and scaled edges shared by the channels."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The scale of the edges, as ``print`` shows it."""
        return f"edge_scale={self.edge_scale}"


class MaxFlowHead(_HardHead):
    """A minimum cut on the scores and edges of a network that learned them with another head.

    Scores are terminal weights and edges capacities, as they are: the labels m in {0, 1} minimise
    E(m) = -sum_i s_i m_i + sum_ij w_ij |m_i - m_j|, as in Experiment 8 of the SoftCut thesis. SoftCut relaxes
    this very cut, so that a network trained with it offers scores and edges of a fitting scale; yet not the
    same labeling: across a difference d an edge costs the cut w |d| and SoftCut w d^2 / 2, which is less
    below 2 and more above. Total variation thresholded at 0 is this cut (but for pixels exactly at 0), so
    that behind a network trained with it nothing changes but that the logits become hard.

    Two channels are one on their difference, whose cut has the same energy up to a constant.

    Parameters
    ----------
    edge_scale
        Factor on the edges, >= 0.
    neighborhood
        As in :func:`flowcut.max_flow`.

    Raises
    ------
    ValueError
        ``edge_scale`` is out of its range.

    Examples
    --------
    >>> head = MaxFlowHead()
    >>> head(torch.tensor([[[2.0, -1.0, 2.0]]]), torch.ones(1, 1, 3)).tolist()
    [[[40.0, 40.0, 40.0]]]
    """

    def __init__(self, edge_scale: float = 1.0, neighborhood: Neighborhood | Graph | None = None) -> None:
        super().__init__(edge_scale, neighborhood)

    def label(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Labels (N, *spatial) of scores (N, 1 or 2, *spatial)."""
        self.check_channels(scores.shape[1])
        evidence = scores if scores.shape[1] == 1 else scores[:, 1:] - scores[:, :1]
        return max_flow(evidence, edges, self.neighborhood)

    @staticmethod
    def check_channels(channels: int) -> None:
        """Refuse more labels than a single cut tells apart.

        Raises
        ------
        ValueError
            There are more than two channels.
        """
        if channels > 2:
            raise ValueError(
                f"max_flow: expected scores of one or two channels, got {channels}; use alpha_expansion "
                "for more than two labels"
            )


class ExpansionHead(_HardHead):
    """Expansion moves for the Potts energy of a network's scores and edges.

    E(x) = sum_i -s_i[x_i] + sum w_ij [x_i != x_j] by :func:`flowcut.alpha_expansion`. For one channel a
    single cut is exact and takes the place of the moves, see :class:`MaxFlowHead`. Edges that differ among
    the channels become their mean, because a Potts tie has one weight: a pair labeled a and b would pay
    (w_a + w_b) / 2 if each channel had its own cut; the mean over all channels is that for two channels and
    for equal edges.

    Parameters
    ----------
    edge_scale
        Factor on the edges, >= 0.
    neighborhood, max_cycles
        As in :func:`flowcut.alpha_expansion`.

    Raises
    ------
    ValueError
        An argument is out of its range.

    Examples
    --------
    >>> scores = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0]]])
    >>> ExpansionHead()(scores, torch.tensor([[[3.0, 1.0, 0.0]]])).argmax(dim=1).tolist()
    [[0, 0, 2]]
    """

    def __init__(
        self,
        edge_scale: float = 1.0,
        neighborhood: Neighborhood | Graph | None = None,
        max_cycles: int | None = None,
    ) -> None:
        super().__init__(edge_scale, neighborhood)
        if max_cycles is not None and max_cycles < 0:
            raise ValueError(f"max_cycles: expected a number >= 0 or None, got {max_cycles}")
        self.max_cycles = max_cycles

    def label(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Labels (N, *spatial) of scores (N, C, *spatial)."""
        if scores.shape[1] == 1:
            return max_flow(scores, edges, self.neighborhood)
        return alpha_expansion(-scores, edges, None, self.neighborhood, max_cycles=self.max_cycles)


def _shared(edges: Tensor, scores: Tensor, neighborhood: Neighborhood | Graph | None) -> Tensor:
    """Edges (N, K, *spatial) from those or from (N, G, K, *spatial): the mean over the groups."""
    grouped = 3 if isinstance(neighborhood, Graph) else scores.ndim + 1
    if edges.ndim != grouped:
        return edges
    if edges.shape[1] not in (1, scores.shape[1]):
        raise ValueError(
            f"edges: expected 1 or {scores.shape[1]} groups (N, G, K, ...), got {edges.shape[1]}"
        )
    return edges.mean(dim=1)
