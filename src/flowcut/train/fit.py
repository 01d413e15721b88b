"""From a recipe to a trained network: the one function behind `flowcut train`."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from flowcut.core.atomic import atomic_write
from flowcut.train.build import build_loss, network_config, pick_device
from flowcut.train.datasets import Splits, build_datasets, read_all
from flowcut.train.history import History
from flowcut.train.order import EpochOrder, EpochSeed
from flowcut.train.pictures import Pictures, example_columns
from flowcut.train.recipe import Recipe
from flowcut.train.run_folder import RunFolder, prepare_run, write_text
from flowcut.train.surroundings import surroundings
from flowcut.train.task import SegmentationTask
from flowcut.vision.checkpoints import save_checkpoint
from flowcut.vision.data import RandomCrops
from flowcut.vision.metrics import MeanAndError
from flowcut.vision.networks import build_network
from flowcut.vision.panel import draw_panel, encode_png
from flowcut.vision.predict import evaluate_dataset

__all__ = ["FitResult", "fit", "plain_scores", "say_on_stderr"]

_PANEL_PICTURES = 4


def say_on_stderr(line: str) -> None:
    """Tell how a long work goes, where results on standard output are not disturbed.

    Parameters
    ----------
    line : str
        One line.
    """
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Parameters
    ----------
    network : Module
        The network of lowest validation loss, in evaluation mode.
    metrics : dict
        What ``metrics.json`` holds.
    run : RunFolder
        Where everything lies.
    splits : Splits
        The data it was made from.
    history : list of dict
        One mapping an epoch, as in ``history.csv``.
    """

    network: nn.Module
    metrics: dict[str, Any]
    run: RunFolder
    splits: Splits
    history: list[dict[str, float]]


def plain_scores(scores: dict[str, MeanAndError]) -> dict[str, dict[str, float | int | None]]:
    """Scores as plain numbers, with null where JSON has no NaN.

    Parameters
    ----------
    scores : dict of str to MeanAndError
        What :func:`flowcut.vision.predict.evaluate_dataset` returns.

    Returns
    -------
    dict
        For each name: ``mean``, ``standard_error`` (None for fewer than two images), ``count``.

    Examples
    --------
    >>> nan = torch.tensor(math.nan)
    >>> plain_scores({"iou": MeanAndError(torch.tensor(0.5), nan, torch.tensor(1))})
    {'iou': {'mean': 0.5, 'standard_error': None, 'count': 1}}
    """

    def number(value: torch.Tensor) -> float | None:
        return None if math.isnan(float(value)) else float(value)

    return {
        name: {"mean": number(s.mean), "standard_error": number(s.standard_error), "count": int(s.count)}
        for name, s in scores.items()
    }


def fit(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] | None = say_on_stderr,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Train, keep the epoch of lowest validation loss, and measure it on the test split.

    The run folder receives ``recipe.yaml``, ``history.csv``, ``checkpoints/`` (for resuming),
    ``tensorboard/``, ``best.pt`` (for predict and evaluate), ``metrics.json`` and ``panel.png``. On the
    CPU the result depends on the recipe alone: a training that was interrupted and resumed is bitwise
    equal to one that was not.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    output : path
        The run folder.
    resume : bool
        Continue the training in the run folder after its last whole epoch.
    overwrite : bool
        Replace the training in the run folder.
    progress : bool
        Show a progress bar where standard error is a terminal.
    say : callable, optional
        Takes one line an epoch; None keeps silent.
    callbacks : sequence of Callback
        Further ones of Lightning's; what they keep in their ``state_dict`` survives resuming.

    Returns
    -------
    FitResult

    Raises
    ------
    OSError
        If the run folder cannot be written to; nothing is trained then.
    ValueError
        If recipe, data or run folder do not allow the training.
    TrainingDivergedError
        If the loss becomes NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    start = time.perf_counter()
    device = pick_device(recipe.training.device)
    splits = build_datasets(recipe.dataset)
    read_all(splits)
    run = prepare_run(output, recipe, resume=resume, overwrite=overwrite)
    if resume:
        _load_checkpoint(run.last)
    config = network_config(recipe.network, recipe.dataset)
    # Seeded here and not before the data: the weights depend on the seed alone.
    L.seed_everything(recipe.training.seed, verbose=False)
    # Convolutions run faster on channels that lie side by side, in mixed precision twice as fast.
    network = build_network(config).to(memory_format=torch.channels_last)
    task = SegmentationTask(
        network,
        build_loss(recipe.loss, recipe.dataset.num_classes),
        recipe.dataset.num_classes,
        recipe.optimizer,
    )
    history = History(run.history, say)
    bar = progress and sys.stderr.isatty()
    _train(recipe, splits, run, task, [history, *callbacks], device, resume, bar)
    _load_best(run, task)
    network.to(device).eval()
    save_checkpoint(run.weights, network, config)
    scores = evaluate_dataset(network, splits.test, progress=False)
    metrics = {
        "test": plain_scores(scores),
        "epochs": len(history.rows),
        "best_epoch": int(min(history.rows, key=lambda row: row["val_loss"])["epoch"]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds_per_epoch": sum(row["seconds"] for row in history.rows) / len(history.rows),
        # Of this process: a resumed run does not count the one before it.
        "seconds_total": time.perf_counter() - start,
    } | surroundings(device)
    write_text(run.metrics, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    _write_panel(run, network, splits)
    return FitResult(network.cpu(), metrics, run, splits, history.rows)


def _train(
    recipe: Recipe,
    splits: Splits,
    run: RunFolder,
    task: SegmentationTask,
    watching: Sequence[Callback],
    device: torch.device,
    resume: bool,
    bar: bool,
) -> None:
    training = recipe.training
    callbacks: list[Callback] = [
        EpochSeed(training.seed),
        *watching,
        Pictures(splits.val, training.picture_every),
        ModelCheckpoint(
            run.checkpoints,
            filename=run.best.stem,
            monitor="val_loss",
            save_last=True,
            # After the row of the epoch is in the history, and with the epoch counted as done.
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    if bar:
        # Standard output belongs to results.
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    with _quiet_lightning():
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=training.epochs,
            precision="bf16-mixed" if training.precision == "bf16" else "32-true",
            callbacks=callbacks,
            logger=TensorBoardLogger(str(run.path), name="tensorboard", version=""),
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        order = EpochOrder(
            len(splits.train),  # type: ignore[arg-type]
            training.seed,
            draws=isinstance(splits.train, RandomCrops),
        )
        # Crops make batches of pictures of any size; whole pictures of different size make none.
        whole = training.batch_size if recipe.dataset.size is not None else 1
        loaders = (
            DataLoader(splits.train, training.batch_size, sampler=order, num_workers=training.workers),
            DataLoader(splits.val, whole, num_workers=training.workers),
        )
        # weights_only: a checkpoint that is not ours must not run code.
        trainer.fit(task, *loaders, ckpt_path=run.last if resume else None, weights_only=True)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide what Lightning tells developers and advertises; it does not concern the user of a command."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*treespec.*",
            ".*[Cc]heckpoint directory.*exists.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of Lightning's without running what may be hidden in it."""
    try:
        with warnings.catch_warnings():
            # About pickle protocols that no checkpoint of ours has.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the reader raises almost anything on a damaged file
        content = None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{path}: expected a checkpoint of a training, got a damaged or foreign file")
    return content


def _load_best(run: RunFolder, task: SegmentationTask) -> None:
    task.load_state_dict(_load_checkpoint(run.best)["state_dict"])


def _write_panel(run: RunFolder, network: nn.Module, splits: Splits) -> None:
    count = min(_PANEL_PICTURES, len(splits.test))  # type: ignore[arg-type]
    columns = example_columns(network, [splits.test[i] for i in range(count)])
    with atomic_write(run.panel) as file:
        file.write(encode_png(draw_panel(columns)))
