"""Pictures of the inside of a network: to TensorBoard while it trains, to a file when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowcut.vision.labels import predict_labels
from flowcut.vision.panel import colour_edges, colour_labels, colour_scores, colour_weights, draw_panel

__all__ = ["Pictures", "example_columns", "look_inside"]

# How ties are shown, by their name (see flowcut.vision.ties).
_TIES = {"edges": colour_edges, "weights": colour_weights}


def look_inside(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Run a network on one picture and keep what its labels were made from.

    Parameters
    ----------
    network : Module
        Gives logits; with a method ``forward_parts`` also ``scores`` and, under a head, its ties.
    image : Tensor
        (3, H, W) in [0, 1].

    Returns
    -------
    dict of str to Tensor
        ``logits`` and, if known, ``scores`` (C, H, W) and ``edges`` or ``weights`` (K, H, W); ``labels``
        (H, W) int64. All on the CPU.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.no_grad():
        batch = image.unsqueeze(0).to(device)
        inside: Any = getattr(network, "forward_parts", None)
        parts: dict[str, Tensor] = inside(batch) if inside else {"logits": network(batch)}
        labels = predict_labels(parts["logits"])
    network.train(training)
    return {name: part[0].cpu() for name, part in parts.items()} | {"labels": labels[0].cpu()}


def _score_map(scores: Tensor) -> Tensor:
    """One map of several channels: the foreground's score, or by how much the best label leads."""
    if scores.shape[0] == 1:
        return scores[0]
    best = scores.topk(2, dim=0).values
    return best[0] - best[1]


def example_columns(network: nn.Module, items: Sequence[dict[str, Any]]) -> dict[str, list[Tensor]]:
    """Columns of pictures for :func:`flowcut.vision.panel.draw_panel`.

    Parameters
    ----------
    network : Module
        See :func:`look_inside`.
    items : sequence of dict
        ``image`` (3, H, W) and ``target`` (H, W) each.

    Returns
    -------
    dict of str to list of Tensor
        Columns image, truth, prediction, scores and, under a head, edges or weights.
    """
    columns: dict[str, list[Tensor]] = {}
    for item in items:
        inside = look_inside(network, item["image"])
        pictures = {
            "image": item["image"],
            "truth": colour_labels(item["image"], item["target"]),
            "prediction": colour_labels(item["image"], inside["labels"]),
            "scores": colour_scores(_score_map(inside.get("scores", inside["logits"]))),
        }
        pictures |= {name: draw(inside[name]) for name, draw in _TIES.items() if name in inside}
        for name, picture in pictures.items():
            columns.setdefault(name, []).append(picture)
    return columns


class Pictures(Callback):
    """Write validation pictures to TensorBoard every few epochs.

    Parameters
    ----------
    dataset : Dataset
        Where the pictures come from: its first items.
    every : int
        Epochs between two sets of pictures, >= 1; the first epoch always has one.
    count : int
        Number of pictures.
    """

    def __init__(self, dataset: Dataset[Any], every: int, count: int = 3) -> None:
        self._dataset = dataset
        self._every = every
        self._count = count

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the pictures of this epoch if it is its turn."""
        if trainer.current_epoch % self._every:
            return
        network = pl_module.network
        assert isinstance(network, nn.Module)
        size = min(self._count, len(self._dataset))  # type: ignore[arg-type]
        columns = example_columns(network, [self._dataset[i] for i in range(size)])
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("validation", draw_panel(columns), trainer.current_epoch + 1)
