"""The small network of the SoftCut thesis."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from flowcut.vision.networks.headed import HeadedNetwork
from flowcut.vision.ties import BoundedEdges, ties_of


class BasicCnn(HeadedNetwork):
    """The small network of Fig. 13 of the SoftCut thesis.

    Three convolutions give the scores of every pixel. With a head, four further ones give
    what ties a pixel to its neighbours, and the head makes the scores coherent along these
    ties: the logarithms of edges for a cut (as in the figure), weights of a window for a flow.
    The head says how many channels it takes and how it reads them, see
    :mod:`flowcut.vision.ties`. There is no pooling, so that without a head a pixel sees no further than
    the three kernels reach. (The figure names neither widths nor kernel sizes.)

    Parameters
    ----------
    in_channels
        Channels of the picture, >= 1.
    num_classes
        Channels of the scores: 1 for a sigmoid, C >= 2 for a softmax.
    width
        Channels of the hidden layers, >= 1.
    kernel_size
        Side of all kernels in pixels, odd.
    head
        A module called as ``head(scores, ties)`` with scores (N, num_classes, H, W) that
        returns logits of their shape, for example ``SoftCut()`` or
        :class:`flowcut.vision.flow_head.FlowHead`. None: the scores are the logits.
    log_edge_limit
        Bound on the absolute logarithm of an edge, for heads that take edges, see
        :class:`flowcut.vision.ties.BoundedEdges`.

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    >>> network = BasicCnn(width=8)
    >>> network(torch.rand(2, 3, 16, 20)).shape
    torch.Size([2, 1, 16, 20])
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        width: int = 32,
        kernel_size: int = 3,
        head: nn.Module | None = None,
        log_edge_limit: float = 10.0,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            head,
            ties_of(head, lambda channels: BoundedEdges(channels, log_edge_limit)),
        )
        if width < 1:
            raise ValueError(f"width: expected 1 or more, got {width}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number >= 1, got {kernel_size}")
        self.score_layers = _convolutions([in_channels, width, width, num_classes], kernel_size)
        # The name that the weights have in checkpoints.
        self.edge_layers = (
            None
            if head is None
            else _convolutions([in_channels, width, width, width, self.ties.channels], kernel_size)
        )

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and raw ties, see :meth:`flowcut.vision.networks.headed.HeadedNetwork.raw_parts`."""
        return self.score_layers(images), None if self.edge_layers is None else self.edge_layers(images)


def _convolutions(channels: list[int], kernel_size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, kernel_size, padding="same"), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
