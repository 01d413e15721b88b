"""What `flowcut label` does."""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from PIL import ImageColor
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from flowcut.apps.output import format_table, show
from flowcut.core.atomic import atomic_write, prepare_folder
from flowcut.core.warnings import FlowcutWarning
from flowcut.flow.distances import kmeans
from flowcut.vision.assign import FlowSettings, grey, label_picture
from flowcut.vision.panel import colour_values, encode_png
from flowcut.vision.pictures import PictureError, list_pictures, read_image, write_mask

__all__ = ["read_prototypes", "run"]

# The value 255 of a mask is kept for void pixels.
_MOST_LABELS = 255


@dataclass(frozen=True)
class _Task:
    """What is asked for, the same for every picture."""

    settings: FlowSettings
    prototypes: Tensor | None
    k: int
    seed: int
    grayscale: bool


def run(options: Namespace) -> dict[str, Any]:
    """Label pictures.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.label`.

    Returns
    -------
    dict
        ``pictures``: by stem, the files written, ``prototypes`` (as ``#rrggbb``), ``shares`` of the labels,
        ``mean_entropy`` (0 to 1), ``rho``, ``size`` and ``seconds``; ``skipped`` (reasons by picture).

    Raises
    ------
    ValueError
        An option is out of its range, or there is no readable picture.
    """
    task = _task(options)
    single = Path(options.images).is_file()
    files = (
        {Path(options.images).stem: Path(options.images)}
        if single
        else list_pictures(options.images, "images")
    )
    folder = prepare_folder(options.output, "--output")
    pictures: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    bar = tqdm(files.items(), desc="label", unit="picture", disable=not sys.stderr.isatty() or single)
    for stem, path in bar:
        try:
            pictures[stem] = _label(path, stem, folder, task)
        except (PictureError, OSError, _TooFewColours) as error:
            if single:
                raise
            skipped[path.name] = str(error)
            warnings.warn(f"skipped {error}", FlowcutWarning, stacklevel=2)
    if not pictures:
        raise ValueError(f"images: expected a picture that can be labelled, got none in {options.images}")
    _report(pictures, options)
    return {"pictures": pictures, "skipped": skipped}


class _TooFewColours(ValueError):
    """A picture has fewer colours than labels are asked for."""


def _task(options: Namespace) -> _Task:
    settings = FlowSettings(
        options.flow,
        options.rho,
        options.time,
        options.window,
        options.weights,
        options.sigma,
        options.krylov_dim,
        options.relinearizations,
    )
    prototypes = None if options.prototypes is None else read_prototypes(options.prototypes)
    if prototypes is not None and options.k is not None:
        raise ValueError(f"k: expected without --prototypes, got {options.k}")
    k = 6 if options.k is None else options.k
    if not 1 <= k <= _MOST_LABELS:
        raise ValueError(f"k: expected 1 to {_MOST_LABELS}, got {k}")
    if options.seed < 0:
        raise ValueError(f"seed: expected an integer >= 0, got {options.seed}")
    return _Task(settings, prototypes, k, options.seed, options.grayscale)


def _label(path: Path, stem: str, folder: Path, task: _Task) -> dict[str, Any]:
    """Label one picture, write its three files, tell what came out."""
    image = read_image(path)
    seen = grey(image) if task.grayscale else image
    began = time.perf_counter()
    prototypes = _prototypes(seen, path, task)
    found = label_picture(seen, prototypes, task.settings)
    seconds = time.perf_counter() - began
    shown = prototypes.expand(-1, 3)
    files = {
        name: prepare_folder(folder / name, "--output") / f"{stem}.png"
        for name in ("masks", "colours", "entropy")
    }
    write_mask(files["masks"], found.labels, len(prototypes))
    _write(files["colours"], shown[found.labels].movedim(-1, 0))
    _write(files["entropy"], colour_values(found.entropy, 0.0, 1.0))
    counts = torch.bincount(found.labels.flatten(), minlength=len(prototypes))
    return {
        **{name: str(file) for name, file in files.items()},
        "prototypes": [_hex(colour) for colour in shown],
        "shares": (counts / counts.sum()).tolist(),
        "mean_entropy": float(found.entropy.mean()),
        "rho": found.rho,
        "size": list(image.shape[1:]),
        "seconds": seconds,
    }


def _prototypes(seen: Tensor, path: Path, task: _Task) -> Tensor:
    """(J, C): the given colours, or those that k-means finds in this picture."""
    if task.prototypes is not None:
        return grey(task.prototypes.T).T if task.grayscale else task.prototypes
    colours = torch.unique(seen.flatten(1), dim=1).shape[1]
    if colours < task.k:
        raise _TooFewColours(f"{path}: expected at least k = {task.k} different colours, got {colours}")
    return kmeans(seen[None], task.k, task.seed)


def read_prototypes(text: str) -> Tensor:
    """Colours from ``#rrggbb,...``, or from a file that holds them.

    Parameters
    ----------
    text : str
        Colours with commas between them (hexadecimal, or CSS names), or the path of a file: a JSON
        list of such colours or of triples in [0, 1], or text with one colour a line.

    Returns
    -------
    Tensor
        (J, 3) float32 in [0, 1].

    Raises
    ------
    ValueError
        No file and no colours, a colour that is none, one that stands twice, or more than 255 of them.

    Examples
    --------
    >>> read_prototypes("#ff0000, white").tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    items = _items(text)
    colours = [_colour(item) for item in items]
    if not 1 <= len(colours) <= _MOST_LABELS:
        raise ValueError(f"prototypes: expected 1 to {_MOST_LABELS} colours, got {len(colours)}")
    for index, colour in enumerate(colours):
        if colour in colours[:index]:
            raise ValueError(f"prototypes: expected each colour once, got {items[index]} twice")
    return torch.tensor(colours, dtype=torch.float32)


def _items(text: str) -> list[Any]:
    path = Path(text)
    if "#" not in text and ("." in text or path.is_file()):
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text file"
            raise ValueError(
                f"prototypes: expected colours or a readable file, got {text}: {reason}"
            ) from None
        if path.suffix.lower() == ".json":
            return _json_items(content, path)
        return [item for item in re.split(r"[,\s]+", content) if item]
    return [item.strip() for item in text.split(",") if item.strip()]


def _json_items(content: str, path: Path) -> list[Any]:
    try:
        items = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"prototypes: expected JSON in {path}, got: {error}") from None
    if not isinstance(items, list):
        raise ValueError(f"prototypes: expected a list of colours in {path}, got {type(items).__name__}")
    return items


def _colour(item: Any) -> tuple[float, ...]:
    if isinstance(item, str):
        try:
            return tuple(value / 255 for value in ImageColor.getrgb(item)[:3])
        except ValueError:
            raise ValueError(f"prototypes: expected colours like #ff8800, got {item!r}") from None
    numbers = isinstance(item, list) and all(type(value) in (int, float) for value in item)
    if not numbers or len(item) != 3 or not all(0 <= value <= 1 for value in item):
        raise ValueError(f"prototypes: expected #rrggbb or three numbers in [0, 1], got {item}")
    return tuple(float(value) for value in item)


def _hex(colour: Tensor) -> str:
    return "#" + "".join(f"{round(255 * min(max(value, 0.0), 1.0)):02x}" for value in colour.tolist())


def _write(path: Path, image: Tensor) -> None:
    with atomic_write(path) as file:
        file.write(encode_png(image))


def _report(pictures: dict[str, Any], options: Namespace) -> None:
    rows = [
        [
            stem,
            "x".join(map(str, one["size"])),
            str(len(one["prototypes"])),
            f"{one['rho']:.3g}",
            f"{one['mean_entropy']:.3f}",
            f"{one['seconds']:.2f}",
        ]
        for stem, one in pictures.items()
    ]
    show(
        format_table(["picture", "size", "labels", "rho", "mean entropy", "seconds"], rows), json=options.json
    )
    if len(pictures) == 1:
        (one,) = pictures.values()
        shares = [
            f"{colour} {100 * share:.1f} %"
            for colour, share in zip(one["prototypes"], one["shares"], strict=True)
        ]
        show("labels: " + ", ".join(shares), json=options.json)
    if options.rho is None:
        show("rho is a tenth of the mean distance (--rho sets it)", json=options.json)
    show(f"masks, colours and entropy maps in {options.output}", json=options.json)
