"""What trained networks say of a few test pictures, with and without what may not be published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from flowcut.vision.data import Item
from flowcut.vision.evaluating import evaluating
from flowcut.vision.labels import predict_labels
from flowcut.vision.panel import colour_labels, draw_panel

__all__ = ["prediction_panels"]


def prediction_panels(items: Sequence[Item], networks: Mapping[str, nn.Module]) -> tuple[Tensor, Tensor]:
    """Draw truth and predictions on white, and the same beside the photographs.

    Parameters
    ----------
    items : sequence of Item
        One row each, of one size; of the channels of a picture the first three are shown.
    networks : mapping
        A column each, by its title.

    Returns
    -------
    public, private : Tensor
        (3, H, W) in [0, 1].
    """
    white = torch.ones_like(items[0]["image"][:3])
    columns = {"truth": [colour_labels(white, item["target"]) for item in items]}
    for title, network in networks.items():
        with evaluating(network):
            labels = [predict_labels(network(item["image"][None]))[0] for item in items]
        columns[title] = [colour_labels(white, one) for one in labels]
    photographs = {"picture": [item["image"][:3] for item in items], **columns}
    return draw_panel(columns), draw_panel(photographs)
