"""The numbers of every epoch: kept in the checkpoint, written to ``history.csv``, told as they come."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from flowcut.train.run_folder import write_text

__all__ = ["History"]

_COLUMNS = ("epoch", "train_loss", "val_loss", "val_iou", "val_iou_error", "seconds")


class History(Callback):
    """Collect one row an epoch.

    The rows are part of the checkpoint, so that a resumed training's file starts with the epochs before
    the interruption.

    Parameters
    ----------
    path : Path
        The CSV file, rewritten whole after every epoch.
    say : callable, optional
        Takes one line an epoch; None keeps silent.

    Attributes
    ----------
    rows : list of dict
        One mapping an epoch: epoch (from 1), train_loss, val_loss, val_iou, val_iou_error, seconds
        (training and validation of that epoch).
    """

    def __init__(self, path: Path, say: Callable[[str], None] | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self._path = path
        self._say = say
        self._start = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, for the checkpoint."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rows of a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the row of the epoch."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row: dict[str, float] = {name: logged[name] for name in _COLUMNS if name in logged}
        row |= {"epoch": trainer.current_epoch + 1, "seconds": time.perf_counter() - self._start}
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        self._write()
        if self._say is not None:
            self._say(_sentence(row, trainer.max_epochs))

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())


def _sentence(row: dict[str, float], epochs: int | None) -> str:
    error = row["val_iou_error"]
    spread = "" if math.isnan(error) else f" ± {error:.3f}"
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  train loss {row['train_loss']:.4f}"
        f"  val loss {row['val_loss']:.4f}  val IoU {row['val_iou']:.3f}{spread}  {row['seconds']:.1f} s"
    )
