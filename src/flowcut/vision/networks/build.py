"""Networks made from plain data, by a table of known names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from flowcut.vision.heads import build_head
from flowcut.vision.networks.basic_cnn import BasicCnn
from flowcut.vision.networks.two_head_unet import TwoHeadUnet
from flowcut.vision.networks.unet3d import Unet3d
from flowcut.vision.resize import check_size

# The networks a configuration may name. A table, never an import by name: a configuration
# comes out of files that strangers wrote.
NETWORKS: dict[str, type[nn.Module]] = {
    "BasicCnn": BasicCnn,
    "TwoHeadUnet": TwoHeadUnet,
    "Unet3d": Unet3d,
}


def build_network(config: Mapping[str, Any], encoder_weights: str | None = None) -> nn.Module:
    """Make a network from plain data.

    Parameters
    ----------
    config
        ``network``: a name of :data:`NETWORKS`; ``arguments`` (optional): its keyword
        arguments; ``head`` (optional): None or what
        :func:`flowcut.vision.heads.build_head` takes; ``size`` (optional): None or the
        [height, width] of the pictures it is for, which changes nothing here but travels
        with the weights. Other keys are not allowed.
    encoder_weights
        Weights a training starts from, as
        :class:`flowcut.vision.networks.two_head_unet.TwoHeadUnet` takes them. They are no part of a
        configuration, for what reads a checkpoint must not download anything.

    Returns
    -------
    nn.Module
        In training mode, with fresh random weights but for ``encoder_weights``.

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
    if arguments.get("encoder_weights") is not None:
        raise ValueError(
            "encoder_weights: expected as an argument of build_network, never in a configuration "
            f"(reading it would download), got {arguments['encoder_weights']!r}"
        )
    if encoder_weights is not None:
        arguments = {**arguments, "encoder_weights": encoder_weights}
    head = config.get("head")
    try:
        return NETWORKS[name](**arguments, head=None if head is None else build_head(head))
    except TypeError as error:
        raise ValueError(f"arguments: {name} does not take {dict(arguments)!r} ({error})") from None
