"""From a recipe to a trained network: the one function behind `flowcut train`."""

from __future__ import annotations

import json
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
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn

from flowcut.core.atomic import atomic_write
from flowcut.train.build import build_loss, network_config, pick_device, start_network
from flowcut.train.datasets import Splits, build_datasets
from flowcut.train.history import History
from flowcut.train.loop import run_loop
from flowcut.train.pictures import example_columns
from flowcut.train.reading import read_all
from flowcut.train.recipe import Recipe
from flowcut.train.run_folder import RunFolder, prepare_run, write_text
from flowcut.train.saving import is_full_disk
from flowcut.train.surroundings import surroundings
from flowcut.train.task import SegmentationTask
from flowcut.vision.checkpoints import save_checkpoint
from flowcut.vision.metrics import MeanAndError
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
        Continue the training in the run folder after its last whole epoch; without one, start it again.
    overwrite : bool
        Replace the training in the run folder.
    progress : bool
        Show a progress bar where standard error is a terminal.
    say : callable, optional
        Takes one line an epoch; None keeps silent. With several devices it is called in another process,
        to which it must be sent: a function of a module, no local one.
    callbacks : sequence of Callback
        Further ones of Lightning's; what they keep in their ``state_dict`` survives resuming.

    Returns
    -------
    FitResult

    Raises
    ------
    OSError
        If the run folder cannot be written to, when nothing is trained, or the disk is full, when the
        checkpoints of earlier epochs are kept.
    ValueError
        If recipe, data or run folder do not allow the training.
    TrainingDivergedError
        If the loss becomes NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    start = time.perf_counter()
    device = pick_device(recipe.training.device)
    _refuse_half_precision(recipe, device)
    splits = build_datasets(recipe.dataset)
    read_all(splits, recipe.dataset)
    _refuse_idle_devices(recipe, splits, device)
    run = prepare_run(output, recipe, resume=resume, overwrite=overwrite)
    begun = resume and run.last.is_file()
    last = _load_checkpoint(run.last) if begun else {}
    config = network_config(recipe.network, recipe.dataset)
    # Seeded here and not before the data: the weights depend on the seed alone.
    L.seed_everything(recipe.training.seed, verbose=False)
    network = start_network(config, None if begun else recipe.network.encoder_weights)
    if recipe.network.kind == "two_head_unet":
        # Many channels that lie side by side convolve faster, in mixed precision twice as fast.
        network = network.to(memory_format=torch.channels_last)
    labels = recipe.dataset.labels
    task = SegmentationTask(network, build_loss(recipe.loss, labels), labels, recipe.optimizer)
    history = History(run.history, say)
    with _telling_of_a_full_disk(run):
        if not _stopped_early(last):
            bar = progress and sys.stderr.isatty()
            from_here = run.last if begun else None
            run_loop(recipe, splits, run, task, [history, *callbacks], device, from_here, bar)
        # From disk, because the processes of several devices keep their rows to themselves.
        history.load_state_dict(_load_checkpoint(run.last)["callbacks"][history.state_key])
        _load_best(run, task)
        network.to(device).eval()
        metrics = _measure(recipe, network, splits, history.rows, device)
        metrics["seconds_total"] = time.perf_counter() - start
        save_checkpoint(run.weights, network, config)
        write_text(run.metrics, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
        _write_panel(run, network, splits)
    return FitResult(network.cpu(), metrics, run, splits, history.rows)


def _measure(
    recipe: Recipe, network: nn.Module, splits: Splits, rows: list[dict[str, float]], device: torch.device
) -> dict[str, Any]:
    """The content of ``metrics.json``, but for the time of this process."""
    scores = evaluate_dataset(network, splits.test, progress=False)
    return {
        "test": plain_scores(scores),
        "epochs": len(rows),
        "best_epoch": int(min(rows, key=lambda row: row["val_loss"])["epoch"]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds_per_epoch": sum(row["seconds"] for row in rows) / len(rows),
    } | surroundings(device)


def _refuse_half_precision(recipe: Recipe, device: torch.device) -> None:
    if recipe.training.precision == "fp16" and device.type == "cpu":
        raise ValueError("training.precision: expected 32 or bf16 on the CPU, got fp16")


def _refuse_idle_devices(recipe: Recipe, splits: Splits, device: torch.device) -> None:
    devices = recipe.training.devices
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"training.devices: expected at most the {torch.cuda.device_count()} GPUs of this machine, got"
            f" {devices}"
        )
    for name in ("train", "val"):
        length = len(getattr(splits, name))
        if devices > length:
            raise ValueError(
                f"training.devices: expected at most the {length} pictures of the {name} split, got {devices}"
            )


def _stopped_early(checkpoint: dict[str, Any]) -> bool:
    """Tell whether this training came to its end before its last epoch."""
    waits = (
        state
        for name, state in checkpoint.get("callbacks", {}).items()
        if name.startswith(EarlyStopping.__name__)
    )
    return any(state["wait_count"] >= state["patience"] for state in waits)


@contextmanager
def _telling_of_a_full_disk(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise OSError(
            f"{run.path}: no more can be written ({error.strerror}): training stopped, the checkpoints of"
            " earlier epochs are kept; make room and give --resume"
        ) from None


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
