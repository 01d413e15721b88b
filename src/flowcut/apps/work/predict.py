"""What `flowcut predict` does."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import Namespace
from torch import nn

from flowcut.apps.output import show
from flowcut.train.build import pick_device
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.infer import with_inference
from flowcut.vision.predict import predict_folder

__all__ = ["load_network", "run"]


def load_network(options: Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Read the checkpoint and give its network the head of ``--infer``.

    Parameters
    ----------
    options : Namespace
        With ``checkpoint``, ``device``, ``infer`` and ``edges``.

    Returns
    -------
    network : Module
    config : dict
        What the trained network was made from.
    """
    network, config = load_checkpoint(options.checkpoint, pick_device(options.device))
    if options.infer is not None:
        return with_inference(
            network, options.infer, None if options.edges == "learned" else options.edges
        ), config
    if options.edges != "learned":
        raise ValueError(f"--edges: expected together with --infer, got {options.edges} alone")
    return network, config


def run(options: Namespace) -> dict[str, Any]:
    """Write masks and overlays.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.predict`.

    Returns
    -------
    dict
        ``masks`` and ``overlays`` (files by picture), ``skipped`` (reasons by picture).
    """
    network, config = load_network(options)
    size = options.size
    if size is None and options.tile is None:
        size = config.get("size")
    summary = predict_folder(
        network,
        options.images,
        options.output,
        size=size,
        tile=options.tile,
        overlap=options.overlap,
        combine=options.combine,
        max_pixels=options.max_pixels,
        progress=sys.stderr.isatty(),
    )
    if not summary.masks:
        raise ValueError(f"images: expected a readable picture, got none in {options.images}")
    show(f"{len(summary.masks)} masks and overlays in {options.output}", json=options.json)
    return {
        "masks": {name: str(path) for name, path in summary.masks.items()},
        "overlays": {name: str(path) for name, path in summary.overlays.items()},
        "skipped": dict(summary.skipped),
    }
