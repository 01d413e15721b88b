"""Segmentation from scribbles: untrained, beside two other libraries, and trained from scribbles alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Table,
    Workspace,
    check_least,
    check_positive,
)
from flowcut.train.reproduce.paired import mean_and_interval, paired_difference
from flowcut.train.reproduce.scribbles_methods import (
    Scores,
    System,
    cut_systems,
    grabcut_system,
    measured,
    read_all,
    scikit_segment,
    tune,
    walker_systems,
)
from flowcut.train.reproduce.scribbles_training import HEADS, Learned, Plan, train_from_scribbles
from flowcut.train.reproduce.trainings import data_folder
from flowcut.vision.data.grabcut import GrabCut
from flowcut.vision.panel import colour_labels, draw_panel
from flowcut.vision.pictures import VOID

__all__ = ["KIND", "Settings"]

_BASELINE = "scikit-image walker, bf"
_TUNED_PEER = "scikit-image walker, bf, our beta"
_SETS = (1, 2)
_PARTS = ("train and val", "test")


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Parameters
    ----------
    longest : int, optional
        Longer side of the pictures of the untrained methods, >= 16; null: native size.
    pictures : int, optional
        At most so many of each split, >= 2.
    betas, contrasts, confidences, strengths : tuple of float
        Tried on train and val, > 0.
    grabcut : bool
        With OpenCV's.
    size : tuple of int
        (height, width) of the pictures of the trainings, >= 32.
    epochs, batch_size : int
        >= 1.
    seeds : tuple of int
        >= 0; none: no training.
    scribbles : int
        The set that is trained from and pinned at test time, 1 or 2.
    lr : float
        Of Adam, > 0.
    encoder : str
        Of segmentation-models-pytorch.
    decoder_channels : tuple of int
        Of the five levels of each decoder.
    """

    longest: int | None = 320
    pictures: int | None = None
    betas: tuple[float, ...] = (130.0, 1000.0, 4000.0, 16000.0)
    contrasts: tuple[float, ...] = (1.0, 3.0)
    confidences: tuple[float, ...] = (0.001, 0.003, 0.01)
    strengths: tuple[float, ...] = (3.0, 10.0, 30.0)
    grabcut: bool = True
    size: tuple[int, int] = (96, 128)
    epochs: int = 40
    batch_size: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    scribbles: int = 2
    lr: float = 1e-3
    encoder: str = "resnet18"
    decoder_channels: tuple[int, int, int, int, int] = (64, 32, 32, 16, 16)

    def __post_init__(self) -> None:
        for name, least in (("longest", 16), ("pictures", 2)):
            if getattr(self, name) is not None:
                check_least(name, getattr(self, name), least)
        for name in ("betas", "contrasts", "confidences", "strengths"):
            check_least(f"{name}, their number", len(getattr(self, name)), 1)
            for value in getattr(self, name):
                check_positive(name, value)
        check_least("size", min(self.size), 32)
        check_positive("lr", self.lr)
        for name in ("epochs", "batch_size"):
            check_least(name, getattr(self, name), 1)
        if self.scribbles not in _SETS:
            raise ValueError(f"scribbles: expected 1 or 2, got {self.scribbles}")


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Tune on train and val, score on all, and train.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    root = data_folder(workspace, "grabcut")
    torch.set_num_threads(1)

    def read(*splits: str) -> dict[int, list[Any]]:
        most = settings.pictures
        return {k: [i for s in splits for i in read_all(root, s, k, settings.longest, most)] for k in _SETS}

    tuning, test = read("train", "val"), read("test")
    chosen, scores = _plain(settings, tuning, test, workspace)
    learned = _learn(settings, root, workspace)
    tables = [_table(part, chosen, {n: s[part] for n, s in scores.items()}) for part in _PARTS]
    masks, private = _pictures(chosen, test[1])
    return Outcome(
        rows=_rows(settings, scores),
        values={
            "chosen": {name: next(iter(s.candidates)) for name, s in chosen.items()},
            # Times stand under seconds: values are the same in every run.
            "scores": {
                name: {
                    p: {k: {"iou": s.iou, "error": s.error} for k, s in sets.items()}
                    for p, sets in all_.items()
                }
                for name, all_ in scores.items()
            },
            "learned": {head: [asdict(one) for one in each] for head, each in learned.items()},
        },
        seconds={name: _seconds(found["test"]) for name, found in scores.items()},
        picture=masks,
        private={"scribbles": private},
        tables=(*tables, *([_learned_table(settings, learned)] if settings.seeds else [])),
    )


_Found = dict[str, dict[int, Scores]]


def _plain(
    settings: Settings, tuning: dict[int, list[Any]], test: dict[int, list[Any]], workspace: Workspace
) -> tuple[dict[str, System], dict[str, _Found]]:
    """Each system with the setting chosen for it alone, and its scores by part and set of scribbles."""
    walkers = walker_systems(settings.betas)
    systems = [*walkers, *cut_systems(settings.contrasts, settings.confidences, settings.strengths)]
    systems += [grabcut_system()] if settings.grabcut else []
    chosen: dict[str, System] = {}
    scores: dict[str, _Found] = {}

    def take(system: System) -> str:
        best, on_tuning = tune(system, tuning, workspace)
        chosen[system.name] = replace(system, candidates={best: system.candidates[best]})
        on_test = {k: measured(system, best, f"test{k}", items, workspace) for k, items in test.items()}
        scores[system.name] = dict(zip(_PARTS, (on_tuning, on_test), strict=True))
        return best

    for system in systems:
        best = take(system)
        if system is walkers[0]:
            beta = float(best.removeprefix("beta "))
            take(System(_TUNED_PEER, {best: scikit_segment("bf", beta)}))
    return chosen, scores


def _seconds(found: Mapping[int, Scores]) -> float:
    return statistics.median(value for one in found.values() for value in one.seconds)


def _mean_error(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    mean, half = mean_and_interval([a - b for a, b in zip(ours, theirs, strict=True)])
    return f"{mean:+.3f} ± {half:.3f}"


def _table(part: str, chosen: Mapping[str, System], found: Mapping[str, Mapping[int, Scores]]) -> Table:
    cells = []
    for name, by_set in found.items():
        cells.append(
            (
                name,
                next(iter(chosen[name].candidates)),
                *(_mean_error(by_set[k].iou) for k in _SETS),
                *(_mean_error(by_set[k].error) for k in _SETS),
                *(
                    "" if name == _BASELINE else _difference(by_set[k].iou, found[_BASELINE][k].iou)
                    for k in _SETS
                ),
                f"{_seconds(by_set):.2f}",
            )
        )
    number = len(found[_BASELINE][1].iou)
    heading = (
        f"{part}, {number} pictures, scribbles 1 and 2; IoU and share of wrong pixels ± standard error; "
        f"IoU less {_BASELINE}, ± half of a 95 % interval over pictures; seconds on one thread"
    )
    header = ("", "setting", "IoU 1", "IoU 2", "wrong 1", "wrong 2", "less 1", "less 2", "s")
    return Table(heading, header, tuple(cells))


def _rows(settings: Settings, scores: Mapping[str, _Found]) -> tuple[Row, ...]:
    size = "native size" if settings.longest is None else f"longer side at most {settings.longest} pixels"
    rows = [Row("size of the pictures", "", size)]
    for name in ("random walker", "SoftCut", "max_flow", "OpenCV GrabCut"):
        if name in scores:
            on_test = scores[name]["test"], scores[_BASELINE]["test"]
            apart = [_difference(on_test[0][k].iou, on_test[1][k].iou) for k in _SETS]
            rows.append(Row(f"{name} less {_BASELINE}, test IoU, scribbles 1; 2", "", "; ".join(apart)))
    return tuple(rows)


def _learn(settings: Settings, root: str, workspace: Workspace) -> dict[str, list[Learned]]:
    plan = Plan(
        settings.epochs, settings.batch_size, settings.lr, settings.encoder, settings.decoder_channels
    )

    def read(split: Any) -> list[Any]:
        data = GrabCut(root, split, settings.scribbles, size=settings.size)  # type: ignore[arg-type]  # checked
        return [data[i] for i in range(min(len(data), settings.pictures or len(data)))]

    learned: dict[str, list[Learned]] = {head: [] for head in HEADS}
    if not settings.seeds:
        return learned
    train, test = read("train"), read("test")
    for seed in settings.seeds:
        for number, head in enumerate(HEADS):
            found = train_from_scribbles(f"trained_{number}_{seed}", head, plan, seed, train, test, workspace)
            learned[head].append(found)
    return learned


def _learned_table(settings: Settings, learned: Mapping[str, list[Learned]]) -> Table:
    """Two rows a head: the picture alone, and with scribbles at test time."""
    cells = []
    for how in ("alone", "pinned"):
        base = [one["iou"] for one in (getattr(found, how) for found in learned["no head"])]
        for head, each in learned.items():
            found = [getattr(one, how) for one in each]
            if not all(found):
                continue
            means = {
                key: mean_and_interval([statistics.mean(one[key]) for one in found])
                for key in ("iou", "error")
            }
            against = "" if head == "no head" else str(paired_difference([one["iou"] for one in found], base))
            what = "the picture alone" if how == "alone" else "with scribbles pinned"
            written = (f"{mean:.3f} ± {half:.3f}" for mean, half in means.values())
            cells.append((head, what, *written, against))
    heading = (
        f"Trained from scribbles {settings.scribbles} alone, test pictures at {settings.size[0]} x "
        f"{settings.size[1]}; ± is half of a 95 % interval over seeds"
    )
    return Table(heading, ("", "given", "IoU", "wrong", "less no head, IoU"), tuple(cells))


def _pictures(chosen: Mapping[str, System], items: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Masks, which may be published, and the same laid over photographs, which may not."""
    masks: dict[str, list[Tensor]] = {}
    overlays: dict[str, list[Tensor]] = {}
    shown = {
        name: chosen[name] for name in (_BASELINE, "SoftCut", "max_flow", "OpenCV GrabCut") if name in chosen
    }
    for item in items[:4]:
        blank = torch.ones_like(item["image"])
        columns = {"scribbles": item["seeds"], "truth": item["target"]}
        for name, system in shown.items():
            columns[name] = next(iter(system.candidates.values()))(item["image"], item["seeds"])
        for name, labels in columns.items():
            grey = torch.where(labels == VOID, 0.75, 1.0 - labels.clamp(max=1)).float()
            masks.setdefault(name, []).append(grey * blank)
            if name == "scribbles":
                labels = torch.where(labels == VOID, 0, labels + 1)
            overlays.setdefault(name, []).append(colour_labels(item["image"], labels))
    return draw_panel(masks, height=120), draw_panel(overlays, height=160)


KIND = Kind("scribbles", Settings, run)
