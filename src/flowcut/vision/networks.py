"""Networks that give scores, and ties between pixels where a head asks for them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flowcut.vision.heads import build_head
from flowcut.vision.resize import check_size
from flowcut.vision.ties import ties_of


class BasicCnn(nn.Module):
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
        super().__init__()
        for name, number in (("in_channels", in_channels), ("num_classes", num_classes), ("width", width)):
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number >= 1, got {kernel_size}")
        self.in_channels = in_channels
        self.score_layers = _convolutions([in_channels, width, width, num_classes], kernel_size)
        self.head = head
        self.ties = ties_of(head, log_edge_limit)
        # The name that the weights have in checkpoints.
        self.edge_layers = (
            None
            if head is None
            else _convolutions([in_channels, width, width, width, self.ties.channels], kernel_size)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel.

        Parameters
        ----------
        images
            (N, in_channels, H, W) in [0, 1].

        Returns
        -------
        Tensor
            (N, num_classes, H, W).

        Raises
        ------
        ValueError
            ``images`` is not of that shape.
        """
        return self.forward_parts(images)["logits"]

    def forward_parts(self, images: Tensor) -> dict[str, Tensor]:
        """The logits and what they were made from, for pictures of the inside.

        Parameters
        ----------
        images
            (N, in_channels, H, W) in [0, 1].

        Returns
        -------
        dict of str to Tensor
            ``scores`` and ``logits`` (N, num_classes, H, W), and with a head its ties under
            their name: ``edges`` (N, 2, H, W), the tie to the pixel below and to the pixel on
            the right, or ``weights`` (N, window**2, H, W).

        Raises
        ------
        ValueError
            ``images`` is not of that shape.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f"images: expected (N, {self.in_channels}, H, W), got {tuple(images.shape)}")
        scores = self.score_layers(images)
        if self.head is None or self.edge_layers is None:
            return {"scores": scores, "logits": scores}
        ties = self.ties.read(self.edge_layers(images))
        return {"scores": scores, self.ties.name: ties, "logits": self.head(scores, ties)}


def _convolutions(channels: list[int], kernel_size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, kernel_size, padding="same"), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# The networks a configuration may name. A table, never an import by name: a configuration
# comes out of files that strangers wrote.
NETWORKS: dict[str, type[nn.Module]] = {"BasicCnn": BasicCnn}


def build_network(config: Mapping[str, Any]) -> nn.Module:
    """Make a network, untrained, from plain data.

    Parameters
    ----------
    config
        ``network``: a name of :data:`NETWORKS`; ``arguments`` (optional): its keyword
        arguments; ``head`` (optional): None or what
        :func:`flowcut.vision.heads.build_head` takes; ``size`` (optional): None or the
        [height, width] of the pictures it is for, which changes nothing here but travels
        with the weights. Other keys are not allowed.

    Returns
    -------
    nn.Module
        In training mode, with fresh random weights.

    Raises
    ------
    ValueError
        A key, a name or an argument is not known.

    Examples
    --------
    >>> network = build_network({"network": "BasicCnn", "arguments": {"width": 4}, "head": None})
    >>> type(network).__name__, network.in_channels
    ('BasicCnn', 3)
    """
    unknown = set(config) - {"network", "arguments", "head", "size"}
    if unknown or "network" not in config:
        raise ValueError(
            f"config: expected keys network, arguments, head and size, got {sorted(map(str, config))}"
        )
    size = config.get("size")
    if size is not None and not isinstance(size, (int, list, tuple)):
        raise ValueError(f"size: expected null, a number or [height, width], got {size!r}")
    if size is not None:
        check_size(size)  # type: ignore[arg-type]
    name, arguments = config["network"], config.get("arguments") or {}
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"network: expected one of {sorted(NETWORKS)}, got {name!r}")
    if not isinstance(arguments, Mapping) or "head" in arguments:
        raise ValueError(f"arguments: expected keyword arguments without a head, got {arguments!r}")
    head = config.get("head")
    try:
        return NETWORKS[name](**arguments, head=None if head is None else build_head(head))
    except TypeError as error:
        raise ValueError(f"arguments: {name} does not take {dict(arguments)!r} ({error})") from None
