"""Pictures of the inside of a network: to TensorBoard while it trains, to a file when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.utils.data import Dataset

from flowcut.cut.soft_cut import SoftCut
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve
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
        (3, H, W) in [0, 1]; (4, H, W) with a click.

    Returns
    -------
    dict of str to Tensor
        ``logits`` and, if known, ``scores`` (C, H, W) and ``edges`` or ``weights`` (K, H, W); ``labels``
        (H, W) int64; under a SoftCut head ``certificate`` (C,): no potential of a channel is further from
        the exact solution than this. All on the CPU.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.no_grad():
        batch = image.unsqueeze(0).to(device)
        inside: Any = getattr(network, "forward_parts", None)
        parts: dict[str, Tensor] = inside(batch) if inside else {"logits": network(batch)}
        labels = predict_labels(parts["logits"])
        parts |= _certificate(network, parts)
    network.train(training)
    return {name: part[0].cpu() for name, part in parts.items()} | {"labels": labels[0].cpu()}


def _certificate(network: nn.Module, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The bound on the error of the potentials: solved once more, since training does not ask for it."""
    head = getattr(network, "head", None)
    if not isinstance(head, SoftCut) or "edges" not in parts:
        return {}
    scores, edges = parts["scores"].float(), parts["edges"].float()
    operator = GridOperator(edges, 1.0, head.neighborhood)
    return {"certificate": solve(operator, scores, head.solver, on_failure="ignore").error_bound}


def _picture(image: Tensor) -> Tensor:
    """The colours, with a red spot where the fourth channel has a click."""
    colours = image[:3]
    if image.shape[0] == 3:
        return colours
    spot = max_pool2d(image[None, 3:], 5, stride=1, padding=2)[0] > 0
    return torch.where(spot, torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1), colours)


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
        ``image`` (3 or 4, H, W) and ``target`` (H, W) each.

    Returns
    -------
    dict of str to list of Tensor
        Columns image, truth, prediction (the mask), scores and, under a head, edges or weights; under a
        SoftCut head also potentials, titled with the largest certified error of all.
    """
    return _columns([look_inside(network, item["image"]) for item in items], items)


def _columns(
    insides: Sequence[dict[str, Tensor]], items: Sequence[dict[str, Any]]
) -> dict[str, list[Tensor]]:
    columns: dict[str, list[Tensor]] = {}
    bound = _worst(insides)
    for item, inside in zip(items, insides, strict=True):
        image = _picture(item["image"])
        pictures = {
            "image": image,
            "truth": colour_labels(image, item["target"]),
            "prediction": colour_labels(image, inside["labels"]),
            "scores": colour_scores(_score_map(inside.get("scores", inside["logits"]))),
        }
        pictures |= {name: draw(inside[name]) for name, draw in _TIES.items() if name in inside}
        if bound is not None:
            pictures[f"potentials +-{bound:.0e}"] = colour_scores(_score_map(inside["logits"]))
        for name, picture in pictures.items():
            columns.setdefault(name, []).append(picture)
    return columns


def _worst(insides: Sequence[dict[str, Tensor]]) -> float | None:
    bounds = [float(inside["certificate"].max()) for inside in insides if "certificate" in inside]
    return max(bounds) if bounds else None


class Pictures(Callback):
    """Write validation pictures to TensorBoard every few epochs, and the certificate of their solves.

    Parameters
    ----------
    dataset : Dataset, optional
        Where the pictures come from: its first items. None: the validation split of the training's data.
    every : int
        Epochs between two sets of pictures, >= 1; the first epoch always has one.
    count : int
        Number of pictures.
    """

    def __init__(self, dataset: Dataset[Any] | None, every: int, count: int = 3) -> None:
        self._dataset = dataset
        self._every = every
        self._count = count

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the pictures of this epoch if it is its turn."""
        if trainer.current_epoch % self._every or not trainer.is_global_zero:
            return
        network: Any = pl_module.network
        data: Any = trainer.datamodule.splits.val if self._dataset is None else self._dataset  # type: ignore[attr-defined]
        items = [data[i] for i in range(min(self._count, len(data)))]
        insides = [look_inside(network, item["image"]) for item in items]
        epoch, bound = trainer.current_epoch + 1, _worst(insides)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("validation", draw_panel(_columns(insides, items)), epoch)
                if bound is not None:
                    logger.experiment.add_scalar("certificate", bound, epoch)
