"""Lightning's trainer around a task: devices, precision, callbacks, loaders."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader

from flowcut.train.datasets import Splits, build_datasets
from flowcut.train.order import EpochOrder, EpochSeed
from flowcut.train.pictures import Pictures
from flowcut.train.recipe import Recipe, TrainingRecipe
from flowcut.train.run_folder import RunFolder
from flowcut.train.saving import MovableCheckpoint, WholeFiles
from flowcut.train.task import SegmentationTask, TrainingDivergedError
from flowcut.vision.data import DrawnDataset

__all__ = ["RecipeData", "run_loop"]

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class RecipeData(L.LightningDataModule):
    """The data of a recipe; each process of a training on several devices reads them itself.

    Parameters
    ----------
    recipe : Recipe
    splits : Splits
        Made from it.
    """

    def __init__(self, recipe: Recipe, splits: Splits) -> None:
        super().__init__()
        self.recipe = recipe
        self._splits: Splits | None = splits

    def __getstate__(self) -> dict[str, Any]:
        # Thousands of kept pictures do not travel between processes.
        return self.__dict__ | {"_splits": None}

    @property
    def splits(self) -> Splits:
        """The datasets."""
        if self._splits is None:
            self._splits = build_datasets(self.recipe.dataset)
        return self._splits

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training split, in the order of the epoch."""
        data, training = self.splits.train, self.recipe.training
        order = EpochOrder(
            len(data),  # type: ignore[arg-type]
            training.seed,
            draws=isinstance(data, DrawnDataset),
            batch_size=training.batch_size,
            **self._place(),
        )
        return DataLoader(data, training.batch_size, sampler=order, num_workers=training.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation split, every picture on one device."""
        data, training = self.splits.val, self.recipe.training
        place = self._place()
        mine = range(place["rank"], len(data), place["devices"])  # type: ignore[arg-type]
        # Crops make batches of pictures of any size; whole pictures of different size make none.
        whole = training.batch_size if self.recipe.dataset.size is not None else 1
        return DataLoader(data, whole, sampler=mine, num_workers=training.workers)

    def _place(self) -> dict[str, int]:
        assert self.trainer is not None
        return {"rank": self.trainer.global_rank, "devices": self.trainer.world_size}


class _Copies(DDPStrategy):
    """A copy of the network on each device, validated without waiting for the others at every batch."""

    def setup_environment(self) -> None:
        """Be as quiet in the processes of the devices as in the one that started them."""
        _hush()
        super().setup_environment()

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Go around the wrapper, whose exchange of buffers asks for equally many batches on each device."""
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)


def run_loop(
    recipe: Recipe,
    splits: Splits,
    run: RunFolder,
    task: SegmentationTask,
    watching: Sequence[Callback],
    device: torch.device,
    start: Path | None,
    bar: bool,
) -> None:
    """Train; checkpoints and what `watching` writes are the result.

    Parameters
    ----------
    recipe : Recipe
    splits : Splits
        Made from it.
    run : RunFolder
        Where everything goes.
    task : SegmentationTask
        Trained; with several devices a copy of it is.
    watching : sequence of Callback
    device : device
        Tells its kind.
    start : Path, optional
        The checkpoint to continue from.
    bar : bool
        Show a progress bar.

    Raises
    ------
    TrainingDivergedError
        If the loss becomes NaN or infinite.
    RuntimeError
        If a process of a training on several devices fails.
    """
    training = recipe.training
    with _quiet_lightning():
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=training.devices,
            strategy=_strategy(training),
            max_epochs=training.epochs,
            precision=_PRECISIONS[training.precision],
            accumulate_grad_batches=training.accumulate,
            gradient_clip_val=recipe.optimizer.clip,
            callbacks=_callbacks(training, run, watching, bar),
            logger=TensorBoardLogger(str(run.path), name="tensorboard", version=""),
            plugins=[WholeFiles()],
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            # The order of the epoch deals out pictures itself.
            use_distributed_sampler=False,
        )
        try:
            # weights_only: a checkpoint that is not ours must not run code.
            trainer.fit(task, datamodule=RecipeData(recipe, splits), ckpt_path=start, weights_only=True)
        except ProcessRaisedException as error:
            raise _told(str(error)) from None
        except ProcessExitedException as error:
            raise RuntimeError(f"training.devices: a process of the training ended early ({error})") from None


def _strategy(training: TrainingRecipe) -> Any:
    if training.strategy == "auto" and training.devices == 1:
        return "auto"
    # Spawned from here, so that commands and scripts are run once and not once a device.
    return _Copies(start_method="spawn")


def _callbacks(
    training: TrainingRecipe, run: RunFolder, watching: Sequence[Callback], bar: bool
) -> list[Callback]:
    callbacks: list[Callback] = [EpochSeed(training.seed), *watching, Pictures(None, training.picture_every)]
    if training.patience is not None:
        # Before the checkpoint of the epoch, which holds how long it has waited.
        callbacks.append(
            EarlyStopping("val_loss", patience=training.patience, check_on_train_epoch_end=False)
        )
    common: dict[str, Any] = {
        # After the row of the epoch is in the history, and with the epoch counted as done.
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
    }
    callbacks.append(MovableCheckpoint(run.checkpoints, run.best.stem, "val_loss", **common))
    # Not `save_last` of the other, which writes only in epochs that are the best so far.
    callbacks.append(MovableCheckpoint(run.checkpoints, run.last.stem, **common))
    if bar:
        # Standard output belongs to results.
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return callbacks


def _told(trace: str) -> Exception:
    """What a process of the training said last, as an error of this one."""
    last = [line for line in trace.splitlines() if line.strip()][-1]
    name, _, message = last.partition(": ")
    kind = name.rpartition(".")[2]
    if kind == TrainingDivergedError.__name__:
        return TrainingDivergedError(message)
    if kind == "ValueError":
        return ValueError(message)
    return RuntimeError(message if re.fullmatch(r"\w+", kind) else last)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide what Lightning tells developers and advertises; it does not concern the user of a command."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        _hush()
        try:
            yield
        finally:
            logger.setLevel(level)


def _hush() -> None:
    for message in (
        ".*does not have many workers.*",
        ".*treespec.*",
        ".*[Cc]heckpoint directory.*exists.*",
        # The gradient scaler leaves out its first steps.
        ".*lr_scheduler.step.*before.*optimizer.step.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
