"""The Lightning task: loss, metrics and optimizer around a segmentation network."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from flowcut.train.order import EpochOrder
from flowcut.train.recipe import OptimizerRecipe
from flowcut.train.schedule import build_optimizer, build_schedules
from flowcut.vision.labels import predict_labels
from flowcut.vision.metrics import IoU

__all__ = ["SegmentationTask", "TrainingDivergedError"]


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite."""


class SegmentationTask(L.LightningModule):
    """Train a network on dictionaries of ``image`` (N, 3, H, W) and ``target`` (N, H, W).

    Logs ``train_loss``, ``val_loss``, ``val_iou`` and ``val_iou_error`` (standard error of the mean over
    the validation images) once an epoch, over the pictures of all devices, and ``lr`` once a step.

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
        # Not Lightning's own means: over several devices those cut the number of pictures to an integer.
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self._optimizer = optimizer
        self._diverged: Tensor | None = None

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
        self.train_loss.update(loss.detach(), len(batch["image"]))
        self.log("train_loss", self.train_loss, on_epoch=True, on_step=False, prog_bar=True)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], on_epoch=False, on_step=True)
        return loss * self._weight(batch_idx)

    def on_validation_epoch_start(self) -> None:
        """Give every device the running means of the first, which are those that are saved."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss and overlap of one validation batch."""
        logits = self(batch["image"])
        loss: Tensor = self.loss(logits, batch["target"])
        # Devices may have different numbers of batches: they meet again at the end only.
        if self._diverged is None and not bool(torch.isfinite(loss)):
            self._diverged = loss.detach()
        self.iou.update(predict_labels(logits), batch["target"])
        self.val_loss.update(torch.nan_to_num(loss.detach()), len(batch["image"]))

    def on_validation_epoch_end(self) -> None:
        """Log loss and overlap of the epoch, the overlap with its standard error."""
        diverged, self._diverged = self._diverged, None
        self._refuse_divergence(torch.zeros(()) if diverged is None else diverged, "validation loss")
        mean, error, _ = self.iou.compute()
        self.iou.reset()
        self.log("val_loss", self.val_loss, prog_bar=True)
        # Computed over all devices already.
        self.log("val_iou", mean.float(), prog_bar=True, sync_dist=True)
        self.log("val_iou_error", error.float(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Make optimizer and learning rates of the recipe."""
        optimizer = build_optimizer(self._optimizer, self.network.parameters())
        epochs, steps = self.trainer.max_epochs, int(self.trainer.estimated_stepping_batches)
        assert epochs is not None
        return [optimizer], build_schedules(self._optimizer, optimizer, steps, epochs)

    def _weight(self, batch_idx: int) -> float:
        """What makes a step follow the mean over its pictures, see :meth:`EpochOrder.weight`."""
        sampler = getattr(self.trainer.train_dataloader, "sampler", None)
        if not isinstance(sampler, EpochOrder):
            return 1.0
        return sampler.weight(batch_idx, int(self.trainer.accumulate_grad_batches))

    def _refuse_divergence(self, loss: Tensor, where: str) -> None:
        # Raised before the epoch's checkpoint is written, so that the checkpoints on disk stay good; and on
        # all devices at once, for none to wait for the others forever.
        here = bool(torch.isfinite(loss))
        if not self.trainer.strategy.reduce_boolean_decision(here, all=True):
            value = "not finite on another device" if here else f"{loss.item():g}"
            raise TrainingDivergedError(
                f"{where} of epoch {self.current_epoch + 1} is {value}: training stopped, the"
                " checkpoints of earlier epochs are kept; a smaller optimizer.lr may help"
            )
