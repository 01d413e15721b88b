"""What `flowcut predict` does."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import Namespace

from flowcut.apps.output import show
from flowcut.train.build import pick_device
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.predict import predict_folder

__all__ = ["run"]


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
    network, config = load_checkpoint(options.checkpoint, pick_device(options.device))
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
