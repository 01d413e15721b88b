"""Another network's output cleaned up: cuts untrained, and with four numbers fitted, beside CRFs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from flowcut.train.recipe import NetworkRecipe
from flowcut.train.reproduce.experiment import (
    Kind,
    Outcome,
    Row,
    Table,
    Workspace,
    check_least,
    check_positive,
)
from flowcut.train.reproduce.paired import mean_and_interval, mean_over_seeds, paired_difference
from flowcut.train.reproduce.refine_methods import WAYS, Item, Measured, Plan, System, measured, systems
from flowcut.train.reproduce.refine_networks import Networks, Trained, trained_items
from flowcut.vision.data import CAMVID_CLASSES
from flowcut.vision.labels import num_labels, predict_labels
from flowcut.vision.panel import colour_labels, draw_panel
from flowcut.vision.refine_fit import Loss

__all__ = ["KIND", "Settings"]

_HORSES, _CAMVID = "horses", "CamVid"
_SHOWN = 3


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison.

    Parameters
    ----------
    horses, camvid : Trained
    seeds : tuple of int
        >= 0, one network of each data set for each.
    pictures : int
        Of the validation split, evenly spaced, that scalars are fitted to, >= 1.
    steps : int
        Of Adam, in fitting, >= 1.
    fit_lr : float
        Its learning rate, > 0.
    loss : str
        What fitting minimises, ``cross_entropy`` or ``dice``.
    lr : float
        Of the networks, > 0.
    encoder : str
        Of segmentation-models-pytorch.
    decoder_channels : tuple of int
        Of the five levels of the decoder.
    precision : str
        Of the trainings, ``32`` or ``bf16``.
    threads : int
        Of PyTorch, >= 1.
    """

    horses: Trained = field(default_factory=Trained)
    camvid: Trained = field(default_factory=lambda: Trained((90, 120), 30, 8))
    seeds: tuple[int, ...] = (0, 1, 2)
    pictures: int = 10
    steps: int = 30
    fit_lr: float = 0.25
    loss: Loss = "cross_entropy"
    lr: float = 1e-3
    encoder: str = "resnet18"
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    precision: Literal["32", "bf16"] = "bf16"
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("pictures", "steps", "threads"):
            check_least(name, getattr(self, name), 1)
        for name in ("lr", "fit_lr"):
            check_positive(name, getattr(self, name))
        check_least("seeds", len(self.seeds), 1)
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss: expected one of {get_args(Loss)}, got {self.loss}")
        if self.precision not in ("32", "bf16"):
            raise ValueError(f"precision: expected 32 or bf16, got {self.precision}")


# By data set, by system and way: one entry a seed; none where a peer is not installed.
_Found = dict[str, dict[tuple[str, str], list[Measured]]]


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Train, clean up with every system as it is and fitted, and compare.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    torch.set_num_threads(settings.threads)
    plan = Plan(settings.steps, settings.fit_lr, settings.loss)
    networks, how = _networks(settings)
    found: _Found = {name: {} for name in networks}
    shown: dict[str, list[Item]] = {}
    # Seed by seed, so that an interrupted run has whole comparisons.
    for seed in settings.seeds:
        for name, one_of in networks.items():
            recipe = one_of.recipe(seed, how, settings.lr, settings.precision, workspace)
            test, fitting = trained_items(recipe, settings.pictures, workspace)
            shown.setdefault(name, test[:_SHOWN])
            for key, one in _measure(f"{name}_{seed}", test, fitting, plan, workspace).items():
                found[name].setdefault(key, []).extend([one] if one else [])
    public, private = _pictures(shown, found)
    return Outcome(
        rows=_rows(found),
        values={
            name: {f"{system}, {way}": [_plain(one) for one in each] for (system, way), each in by.items()}
            for name, by in found.items()
        },
        seconds={
            f"{name}: {system}, {way}, to fit": statistics.median(one.fit_seconds for one in each)
            for name, by in found.items()
            for (system, way), each in by.items()
            if each and way == WAYS[1]
        },
        picture=public,
        private={"photographs": private},
        tables=tuple(_table(name, by) for name, by in found.items()),
    )


def _networks(settings: Settings) -> tuple[dict[str, Networks], NetworkRecipe]:
    by_name = {
        _HORSES: Networks("weizmann_horses", 2, settings.horses),
        _CAMVID: Networks("camvid", len(CAMVID_CLASSES), settings.camvid),
    }
    return by_name, NetworkRecipe(
        kind="two_head_unet",
        encoder=settings.encoder,
        decoder_channels=settings.decoder_channels,
        head="none",
    )


def _measure(
    run: str, test: list[Item], fitting: list[Item], plan: Plan, workspace: Workspace
) -> dict[tuple[str, str], Measured | None]:
    results: dict[tuple[str, str], Measured | None] = {}
    for number, system in enumerate(systems(num_labels(len(test[0].logits)))):
        for way in system.ways:
            path = workspace.folder / f"{run}_{number}_{way.replace(' ', '_')}.json"
            if system.make and not path.is_file():
                workspace.say(f"{run}: {system.name}, {way}")
            given: Any = None
            if way == WAYS[1]:
                given = results[system.like, way] if system.like else fitting
            results[system.name, way] = measured(system, path, test, plan, given)
    return results


def _plain(one: Measured) -> dict[str, Any]:
    """Without times: values are the same in every run."""
    return {key: value for key, value in asdict(one).items() if "seconds" not in key}


def _table(name: str, by: Mapping[tuple[str, str], list[Measured]]) -> Table:
    base = [one.iou for one in next(iter(by.values()))]
    cells = []
    for number, ((system, way), each) in enumerate(by.items()):
        if not each:
            cells.append((system, way, "not installed", *[""] * 5))
            continue
        ious = [one.iou for one in each]
        mean, half = mean_and_interval([one.mean_iou for one in each])
        cells.append(
            (
                system,
                "" if number == 0 else way,
                mean_over_seeds(ious, 3),
                "" if number == 0 else str(paired_difference(ious, base)),
                f"{mean:.3f} ± {half:.3f}",
                mean_over_seeds([one.figures for one in each], 1),
                f"{1000 * statistics.median(s for one in each for s in one.seconds):.1f}",
                _numbers(each),
            )
        )
    heading = (
        f"{name}, {len(base[0])} test pictures; ± is half of a 95 % interval over seeds; IoU of a picture, "
        "its difference to the network alone, IoU of all pixels (mean over classes), number of figures, "
        "milliseconds a picture on one thread"
    )
    header = ("", "", "IoU", "less alone", "IoU, all pixels", "figures", "ms", "numbers (median over seeds)")
    return Table(heading, header, tuple(cells))


def _numbers(each: Sequence[Measured]) -> str:
    return ", ".join(
        f"{key} {statistics.median(one.numbers[key] for one in each):.3g}" for key in each[0].numbers
    )


def _rows(found: _Found) -> tuple[Row, ...]:
    """Ours beside the dense CRF, both fitted."""
    rows = []
    for name, by in found.items():
        dense = by.get(("dense CRF", WAYS[1]))
        for system in ("SoftCut", "total variation"):
            ours = by[system, WAYS[1]]
            if dense:
                apart = paired_difference([one.iou for one in ours], [one.iou for one in dense])
                rows.append(Row(f"{name}: {system} less dense CRF, both fitted, IoU", "", str(apart)))
    return tuple(rows)


def _pictures(shown: Mapping[str, list[Item]], found: _Found) -> tuple[Tensor, Tensor]:
    """Labels of the first seed alone, and beside photographs and truth, which may not be published."""
    columns: dict[str, list[Tensor]] = {}
    photographs: dict[str, list[Tensor]] = {"picture": [], "truth": []}
    for name, items in shown.items():
        for system in systems(num_labels(len(items[0].logits))):
            each = found[name][system.name, system.ways[-1]]
            if each:
                columns.setdefault(system.name, []).extend(_labelled(system, each[0], items))
        photographs["picture"] += [item.image for item in items]
        photographs["truth"] += [_on_white(item.target) for item in items]
    return draw_panel(columns, height=96), draw_panel({**photographs, **columns}, height=96)


def _labelled(system: System, found: Measured, items: Sequence[Item]) -> list[Tensor]:
    assert system.make is not None
    module = system.make(**found.numbers)
    with torch.no_grad():
        labels = [predict_labels(module(item.logits[None], item.image[None]))[0] for item in items]
    return [_on_white(one) for one in labels]


def _on_white(labels: Tensor) -> Tensor:
    return colour_labels(torch.ones(3, *labels.shape), labels)


KIND = Kind("refine", Settings, run)
