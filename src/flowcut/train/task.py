"""The Lightning task: loss, metrics and optimizer around a segmentation network."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from flowcut.train.recipe import OptimizerRecipe
from flowcut.vision.labels import predict_labels
from flowcut.vision.metrics import IoU

__all__ = ["SegmentationTask", "TrainingDivergedError"]


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite."""


class SegmentationTask(L.LightningModule):
    """Train a network on dictionaries of ``image`` (N, 3, H, W) and ``target`` (N, H, W).

    Logs ``train_loss``, ``val_loss``, ``val_iou`` and ``val_iou_error`` (standard error of the mean over
    the validation images) once an epoch.

    Parameters
    ----------
    network : Module
        Maps images to logits (N, C, H, W).
    loss : Module
        Maps logits and targets to a scalar.
    num_classes : int
        Number of labels, background included.
    optimizer : OptimizerRecipe
        Which optimizer, and its learning rate.
    """

    def __init__(
        self, network: nn.Module, loss: nn.Module, num_classes: int, optimizer: OptimizerRecipe
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.iou = IoU(num_classes=num_classes)
        self._optimizer = optimizer

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images.

        Parameters
        ----------
        images : Tensor
            (N, 3, H, W) in [0, 1].

        Returns
        -------
        Tensor
            (N, C, H, W).
        """
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one training batch."""
        loss: Tensor = self.loss(self(batch["image"]), batch["target"])
        self._refuse_divergence(loss, f"training loss in step {batch_idx + 1}")
        self.log(
            "train_loss", loss, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(batch["image"])
        )
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss and overlap of one validation batch."""
        logits = self(batch["image"])
        loss: Tensor = self.loss(logits, batch["target"])
        self._refuse_divergence(loss, "validation loss")
        self.iou.update(predict_labels(logits), batch["target"])
        self.log("val_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch["image"]))

    def on_validation_epoch_end(self) -> None:
        """Log the overlap of the epoch with its standard error."""
        mean, error, _ = self.iou.compute()
        self.iou.reset()
        self.log("val_iou", mean.float(), prog_bar=True)
        self.log("val_iou_error", error.float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer of the recipe."""
        if self._optimizer.kind == "adagrad":
            return torch.optim.Adagrad(self.network.parameters(), lr=self._optimizer.lr)
        return torch.optim.Adam(self.network.parameters(), lr=self._optimizer.lr)

    def _refuse_divergence(self, loss: Tensor, where: str) -> None:
        # Raised before the epoch's checkpoint is written, so that the checkpoints on disk stay good.
        if not bool(torch.isfinite(loss)):
            raise TrainingDivergedError(
                f"{where} of epoch {self.current_epoch + 1} is {loss.item():g}: training stopped, the"
                " checkpoints of earlier epochs are kept; a smaller optimizer.lr may help"
            )
