"""A trained network applied: a folder of pictures to masks, a dataset to scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from flowcut.core.atomic import prepare_folder
from flowcut.core.warnings import FlowcutWarning
from flowcut.vision.evaluating import device_of, evaluating
from flowcut.vision.labels import num_labels, predict_labels
from flowcut.vision.metrics import Accuracy, DistinctFigures, IoU, MeanAndError, PerImageMetric
from flowcut.vision.pictures import (
    MAX_PIXELS,
    PictureError,
    list_pictures,
    read_image,
    write_mask,
    write_overlay,
)
from flowcut.vision.resize import Size, check_size, resize_image
from flowcut.vision.tiled import Recombine, TiledNetwork


@dataclass(frozen=True)
class PredictionSummary:
    """What :func:`predict_folder` did.

    Attributes
    ----------
    masks, overlays
        The files written, by the stem of the picture.
    skipped
        Why pictures could not be read, by file name.
    """

    masks: dict[str, Path] = field(default_factory=dict)
    overlays: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def predict_folder(
    network: nn.Module,
    images: str | Path,
    output: str | Path,
    *,
    size: Size | None = None,
    tile: int | None = None,
    overlap: int = 32,
    combine: Recombine = "discard",
    max_pixels: int | None = MAX_PIXELS,
    overlay: bool = True,
    progress: bool = True,
) -> PredictionSummary:
    """Label every picture of a folder.

    Writes ``output/masks/ID.png`` (values are labels, of the picture's own size) and
    ``output/overlays/ID.png``. A picture that cannot be read is skipped with a warning and
    listed in the summary; no file is ever half written.

    Parameters
    ----------
    network
        Gives logits (1, C, h, w) for a picture (1, 3, h, w); used in evaluation mode.
    images
        A folder of pictures, or one picture.
    output
        A folder; made if there is none.
    size
        The size the network works at, (height, width) or one number for a square: its
        logits are resized back before labels are taken. None: the picture's own size.
    tile, overlap, combine
        With ``tile``, the network sees tiles of ``tile + overlap`` pixels, put together as in
        :func:`flowcut.vision.tiled.predict_tiled`: memory then holds the picture and its
        logits, and the network's inner values of one tile. None: the whole picture at once.
    max_pixels
        Larger pictures are skipped, see :func:`flowcut.vision.pictures.read_image`.
    overlay
        Write overlays too.
    progress
        Show a progress bar on the terminal.

    Returns
    -------
    PredictionSummary
        The files written and the pictures skipped.

    Raises
    ------
    ValueError
        There is no picture in ``images``, or an argument is out of its range; nothing is
        written then.
    OSError
        ``output`` cannot be written.

    Warns
    -----
    FlowcutWarning
        A picture could not be read.
    """
    single = Path(images).is_file()
    files = {Path(images).stem: Path(images)} if single else list_pictures(images, "images")
    size = None if size is None else check_size(size)
    if tile is not None:
        network = TiledNetwork(network, tile, overlap, combine)
    folder = prepare_folder(output, "output")
    masks = prepare_folder(folder / "masks", "output")
    overlays = prepare_folder(folder / "overlays", "output") if overlay else folder
    summary = PredictionSummary()
    with evaluating(network):
        for stem, path in tqdm(files.items(), desc="predict", unit="picture", disable=not progress):
            try:
                image = read_image(path, max_pixels)
            except (PictureError, OSError) as error:
                summary.skipped[path.name] = str(error)
                warnings.warn(f"skipped {error}", FlowcutWarning, stacklevel=2)
                continue
            labels, classes = _label_picture(network, image, size)
            summary.masks[stem] = masks / f"{stem}.png"
            write_mask(summary.masks[stem], labels, classes)
            if overlay:
                summary.overlays[stem] = overlays / f"{stem}.png"
                write_overlay(summary.overlays[stem], image, labels)
    return summary


def evaluate_dataset(
    network: nn.Module,
    dataset: Dataset[Any],
    metrics: Mapping[str, PerImageMetric] | None = None,
    *,
    loss: nn.Module | None = None,
    batch_size: int = 1,
    progress: bool = True,
) -> dict[str, MeanAndError]:
    """Score a network on a labelled dataset.

    Parameters
    ----------
    network
        Gives logits (N, C, H, W) for pictures (N, 3, H, W); used in evaluation mode.
    dataset
        Items with ``image`` (3, H, W) and ``target`` (H, W), void pixels 255; it has a length.
    metrics
        By name; None: ``iou``, ``accuracy`` and ``distinct_figures`` for the network's
        number of labels.
    loss
        Called as ``loss(logits, target)`` with one picture at a time, on the network's device, for a
        further score ``loss``, see :mod:`flowcut.vision.losses`. None: no such score.
    batch_size
        >= 1; more than 1 needs pictures of one size, and changes no result beyond rounding.
    progress
        Show a progress bar on the terminal.

    Returns
    -------
    dict of str to MeanAndError
        Mean over the images, its standard error, and the number of images.

    Raises
    ------
    ValueError
        The dataset is empty, ``batch_size`` is below 1, or a metric is called ``loss`` beside a loss.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    if loss is not None and "loss" in (metrics or {}):
        raise ValueError("metrics: expected other names than 'loss' beside loss=, got 'loss'")
    if not isinstance(dataset, Sized) or len(dataset) == 0:
        raise ValueError("dataset: expected at least one item, got none")
    loader = DataLoader(dataset, batch_size=batch_size)
    losses: list[Tensor] = []
    with evaluating(network):
        for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress):
            logits = network(batch["image"].to(device_of(network)))
            labels, target = predict_labels(logits).cpu(), batch["target"]
            if metrics is None:
                metrics = default_metrics(num_labels(logits.shape[1]))
            for metric in metrics.values():
                metric.update(labels, target)
            if loss is not None:
                pairs = zip(logits.split(1), target.to(logits.device).split(1), strict=True)
                losses += [loss(*pair).double().cpu() for pair in pairs]
    scores = {name: metric.compute() for name, metric in (metrics or {}).items()}
    return scores if loss is None else scores | {"loss": _mean_and_error(torch.stack(losses))}


def _mean_and_error(values: Tensor) -> MeanAndError:
    """Of (N,) numbers, one for each picture, N >= 1."""
    count = len(values)
    error = values.std() / count**0.5 if count > 1 else values.new_tensor(torch.nan)
    return MeanAndError(values.mean(), error, torch.tensor(count))


def default_metrics(num_classes: int) -> dict[str, PerImageMetric]:
    """The metrics of a results table: ``iou``, ``accuracy``, ``distinct_figures``.

    Examples
    --------
    >>> sorted(default_metrics(2))
    ['accuracy', 'distinct_figures', 'iou']
    """
    return {
        "iou": IoU(num_classes),
        "accuracy": Accuracy(num_classes),
        "distinct_figures": DistinctFigures(num_classes),
    }


def _label_picture(network: nn.Module, image: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, int]:
    """Labels (H, W) of one picture and how many labels there are."""
    own = (image.shape[1], image.shape[2])
    seen = image if size is None else resize_image(image, size)
    logits: Tensor = network(seen[None].to(device_of(network)))
    if tuple(logits.shape[2:]) != own:
        logits = F.interpolate(logits.float(), own, mode="bilinear", antialias=True)
    return predict_labels(logits)[0].cpu(), num_labels(logits.shape[1])
