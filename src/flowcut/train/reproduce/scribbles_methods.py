"""Interactive segmentation by us and by others, tuned, scored and timed picture by picture."""

from __future__ import annotations

import importlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skimage.segmentation import random_walker as scikit_walker
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.train.reproduce.experiment import Workspace
from flowcut.vision.data.grabcut import GrabCut
from flowcut.vision.pictures import VOID
from flowcut.vision.scribbles import Method, ScribbleSettings, segment_scribbles

__all__ = ["Scores", "System", "TrainAndVal", "cut_systems", "grabcut_system", "measured", "read_all",
           "scikit_segment", "score", "tune", "walker_systems"]  # fmt: skip

Segment = Callable[[Tensor, Tensor], Tensor]
# By the set of scribbles, the splits that settings are chosen on, joined.
TrainAndVal = Mapping[int, Sequence[Any]]

_GRABCUT_STEPS = 5


@dataclass(frozen=True)
class System:
    """A method, with the settings to choose from.

    Parameters
    ----------
    name : str
    candidates : mapping
        ``segment(image, seeds) -> labels`` by what the setting is called; one or more.
    """

    name: str
    candidates: dict[str, Segment]


@dataclass(frozen=True)
class Scores:
    """On each picture of a split.

    Parameters
    ----------
    iou, error : list of float
        Of the foreground, and the share of wrong pixels; marked and void pixels do not count.
    seconds : list of float
        Of one thread.
    """

    iou: list[float]
    error: list[float]
    seconds: list[float]


def score(labels: Tensor, target: Tensor, seeds: Tensor) -> tuple[float, float]:
    """IoU of label 1 and share of wrong pixels, among those that are neither marked nor void.

    Parameters
    ----------
    labels, target, seeds : Tensor
        (H, W), 255 for void and unmarked.

    Returns
    -------
    iou, error : float
        1 and 0 where nothing is left to be scored, or label 1 is neither there nor found.

    Examples
    --------
    >>> score(torch.tensor([1, 1, 0, 1]), torch.tensor([1, 0, 0, 255]), torch.tensor([255] * 4))
    (0.5, 0.333...)
    """
    counts = (target != VOID) & (seeds == VOID)
    found, true = (labels == 1) & counts, (target == 1) & counts
    union, scored = int((found | true).sum()), int(counts.sum())
    iou = int((found & true).sum()) / union if union else 1.0
    return iou, int((found != true).sum()) / scored if scored else 0.0


def walker_systems(betas: Sequence[float]) -> list[System]:
    """Random walkers, ours and scikit-image's with its own beta; the first is to be tuned."""

    def scikit(mode: str) -> dict[str, Segment]:
        return {"beta 130": scikit_segment(mode, 130.0)}

    return [
        System("random walker", {f"beta {b:g}": _ours("random_walker", beta=b) for b in betas}),
        System("random walker, beta 130", {"beta 130": _ours("random_walker", beta=130.0)}),
        System("scikit-image walker, bf", scikit("bf")),
        System("scikit-image walker, cg_j", scikit("cg_j")),
    ]


def cut_systems(
    contrasts: Sequence[float], confidences: Sequence[float], strengths: Sequence[float]
) -> list[System]:
    """SoftCut and the minimum cut over the same colour models."""
    return [
        System(
            "SoftCut",
            {
                f"contrast {c:g}, confidence {d:g}": _ours("soft_cut", contrast=c, confidence=d)
                for c in contrasts
                for d in confidences
            },
        ),
        System(
            "max_flow",
            {
                f"contrast {c:g}, strength {w:g}": _ours("max_flow", contrast=c, strength=w)
                for c in contrasts
                for w in strengths
            },
        ),
    ]


def scikit_segment(mode: str, beta: float) -> Segment:
    """scikit-image's random walker."""

    def segment(image: Tensor, seeds: Tensor) -> Tensor:
        marked = torch.where(seeds == VOID, 0, seeds + 1).numpy()
        picture = image.movedim(0, -1).double().numpy()
        return torch.from_numpy(scikit_walker(picture, marked, beta=beta, mode=mode, channel_axis=-1)) - 1

    return segment


def grabcut_system() -> System:
    """OpenCV's GrabCut; what it takes unmarked pixels for in the beginning is to be tuned.

    Raises
    ------
    ValueError
        OpenCV is not installed.
    """
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        raise ValueError(
            "grabcut: expected OpenCV, got none; pip install opencv-python-headless, or set grabcut: false"
        ) from None
    guesses = {"unmarked: background": cv2.GC_PR_BGD, "unmarked: foreground": cv2.GC_PR_FGD}
    return System("OpenCV GrabCut", {name: _grabcut(cv2, guess) for name, guess in guesses.items()})


def _grabcut(cv2: Any, guess: int) -> Segment:
    def segment(image: Tensor, seeds: Tensor) -> Tensor:
        cv2.setNumThreads(1)
        cv2.setRNGSeed(0)
        marks = seeds.numpy()
        mask = np.where(marks == 1, cv2.GC_FGD, np.where(marks == 0, cv2.GC_BGD, guess)).astype(np.uint8)
        picture = (image.movedim(0, -1).numpy()[..., ::-1] * 255).round().astype(np.uint8)
        models = np.zeros((2, 1, 65))
        cv2.grabCut(
            np.ascontiguousarray(picture),
            mask,
            None,
            models[0],
            models[1],
            _GRABCUT_STEPS,
            cv2.GC_INIT_WITH_MASK,
        )
        return torch.from_numpy(((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.int64))

    return segment


def _ours(method: Method, **values: float) -> Segment:
    settings = ScribbleSettings(**values)  # type: ignore[arg-type]  # fields that are floats alone
    return lambda image, seeds: segment_scribbles(image, seeds, method, settings).labels


def tune(system: System, data: TrainAndVal, workspace: Workspace) -> tuple[str, dict[int, Scores]]:
    """The candidate of the highest mean IoU over both sets of scribbles, and its scores.

    Parameters
    ----------
    system : System
    data : mapping
        By the set of scribbles. Never the test split.
    workspace : Workspace

    Returns
    -------
    name : str
        Of the candidate; the first of the best.
    scores : dict of int to Scores
    """
    found = {
        name: {k: measured(system, name, f"tune{k}", pictures, workspace) for k, pictures in data.items()}
        for name in system.candidates
    }
    best = max(found, key=lambda name: statistics.mean(v for s in found[name].values() for v in s.iou))
    return best, found[best]


def measured(system: System, candidate: str, part: str, data: Sequence[Any], workspace: Workspace) -> Scores:
    """Segment every picture, or read what was measured before.

    Parameters
    ----------
    system : System
    candidate : str
    part : str
        Of the data, a word for file names.
    data : sequence of ScribbledItem
    workspace : Workspace

    Returns
    -------
    Scores
    """
    name = f"{system.name}_{candidate}_{part}".replace(" ", "_").replace(",", "").replace(":", "")
    path = workspace.folder / f"{name}.json"
    if not path.is_file():
        workspace.say(f"{system.name}, {candidate}: {part}")
        segment, result = system.candidates[candidate], Scores([], [], [])
        if len(data):
            segment(data[0]["image"], data[0]["seeds"])  # what is compiled at the first call is not timed
        for item in data:
            start = time.perf_counter()
            labels = segment(item["image"], item["seeds"])
            result.seconds.append(time.perf_counter() - start)
            iou, error = score(labels, item["target"], item["seeds"])
            result.iou.append(iou)
            result.error.append(error)
        with atomic_write(path) as file:
            file.write(json.dumps(vars(result)).encode())
    return Scores(**json.loads(path.read_text(encoding="utf-8")))


def read_all(root: str, split: Any, scribbles: Any, longest: int | None, most: int | None) -> list[Any]:
    """Pictures of a split, at most so many, read once."""
    data = GrabCut(root, split, scribbles, longest)
    return [data[i] for i in range(len(data) if most is None else min(most, len(data)))]
