"""An assignment flow as the last layer of any network that gives scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowcut.vision.ties import WindowWeights

__all__ = ["FlowHead"]


class FlowHead(nn.Module):
    """Scores in, logits of the same shape out; in between, a flow averages over learned windows.

    Two labels read by a sigmoid are two labels of the flow. A score s > 0 speaks for label 1: label 0
    costs max(s, 0) and label 1 costs max(-s, 0). Their difference is s, and a shift common to all labels
    of a pixel changes no likelihood, so s/2 and -s/2 serve as distances, smooth in s. The logit of the
    sigmoid is the difference of the flow's two logits, because W_1 / W_0 = exp(v_1 - v_0). Several
    channels, read by a softmax, are as many labels with distances -s.

    Parameters
    ----------
    flow
        Called as ``flow(distances, weights)`` with distances (N, J, H, W), J >= 2, and weights
        (N, window**2, H, W) on the simplex; returns logits of the shape of the distances, for example
        :class:`flowcut.flow.linear.LinearAssignmentFlow`.
    window
        Side of the window in pixels, odd.

    Attributes
    ----------
    ties
        How a network's second branch becomes weights, see :mod:`flowcut.vision.ties`.

    Raises
    ------
    ValueError
        ``window`` is even or below 1.

    Examples
    --------
    >>> from flowcut.flow.nonlinear import AssignmentFlow
    >>> head, raw = FlowHead(AssignmentFlow(time=2.0), window=3), torch.zeros(1, 9, 1, 3)
    >>> doubtful = torch.tensor([[[[2.0, -0.5, 2.0]]]])
    >>> bool((head(doubtful, head.ties.read(raw)) > 0).all())
    True
    """

    def __init__(self, flow: nn.Module, window: int = 3) -> None:
        super().__init__()
        self.flow = flow
        self.ties = WindowWeights(window)

    def forward(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Logits of the shape of the scores.

        Parameters
        ----------
        scores
            (N, C, H, W): C = 1 read by a sigmoid, C >= 2 by a softmax.
        weights
            (N, window**2, H, W) on the simplex.

        Returns
        -------
        Tensor
            (N, C, H, W).

        Raises
        ------
        ValueError
            Shapes do not fit, or values are not what a flow takes.
        """
        if scores.shape[1] > 1:
            logits: Tensor = self.flow(-scores, weights)
            return logits
        half = scores / 2
        both: Tensor = self.flow(torch.cat([half, -half], dim=1), weights)
        return both[:, 1:] - both[:, :1]

    def extra_repr(self) -> str:
        """The window, as ``print`` shows it."""
        return f"window={self.ties.window}"
