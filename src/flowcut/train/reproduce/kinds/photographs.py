"""What windows, weights and T do to real photographs labelled by k colours (LAF section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from skimage.measure import label as connected
from torch import Tensor

from flowcut.flow.distances import kmeans, label_distances
from flowcut.train.reproduce.experiment import Kind, Outcome, Row, Workspace, check_least
from flowcut.train.reproduce.kinds.superpixels import Photograph, photograph
from flowcut.vision.assign import FlowSettings, label_picture
from flowcut.vision.panel import draw_panel
from flowcut.vision.pictures import read_image

__all__ = ["KIND", "Settings"]

# Of the Krylov space: enough for T = 20.
_DIM = 15
# Height and width of what the panel shows of a photograph.
_SHOWN = (200, 240)


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Parameters
    ----------
    pictures : tuple of str
        Of scikit-image's, one or more.
    labels : int
        k, >= 2.
    seed : int
        Of k-means, >= 0.
    times : tuple of float
        T's with the first of the windows.
    windows : tuple of int
        Odd sides with the first of the times.
    bsds : int
        So many pictures of the BSDS test split join the numbers where the data are at hand.
    """

    pictures: tuple[Photograph, ...] = ("coffee", "chelsea", "rocket")
    labels: int = 6
    seed: int = 0
    times: tuple[float, ...] = (5.0, 1.0, 20.0)
    windows: tuple[int, ...] = (5, 3, 11)
    bsds: int = 10

    def __post_init__(self) -> None:
        check_least("pictures, their number", len(self.pictures), 1)
        check_least("times, their number", len(self.times), 1)
        check_least("windows, their number", len(self.windows), 1)
        check_least("labels", self.labels, 2)
        check_least("seed", self.seed, 0)
        check_least("bsds", self.bsds, 0)


class _Numbers(NamedTuple):
    """Of one labeling."""

    regions: float
    border: float
    changed: float
    entropy: float


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Make the study.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    published = [photograph(name) for name in settings.pictures]
    columns, numbers = _study(published, settings, workspace)
    photographs = _bsds(settings, workspace)
    private: dict[str, Tensor] = {}
    values = {"scikit-image": {title: found._asdict() for title, found in numbers.items()}}
    if photographs:
        private_columns, on_bsds = _study(photographs, settings, workspace)
        values["bsds"] = {title: found._asdict() for title, found in on_bsds.items()}
        private["bsds"] = draw_panel({t: p[:4] for t, p in private_columns.items()}, height=160)
    else:
        workspace.say("no BSDS photographs (--data DIR): scikit-image's alone")
    rows = [
        Row(f"{where}: {title}", "", _sentence(found))
        for where, table in (("scikit-image", numbers), ("BSDS", on_bsds if photographs else {}))
        for title, found in table.items()
    ]
    return Outcome(tuple(rows), values, {}, draw_panel(columns, height=_SHOWN[0]), private)


def _variants(settings: Settings) -> dict[str, FlowSettings]:
    window, time = settings.windows[0], settings.times[0]
    found = {
        f"{k}x{k}, T = {t:g}": FlowSettings(time=t, window=k, krylov_dim=_DIM)
        for k, t in sorted({*((window, t) for t in settings.times), *((k, time) for k in settings.windows)})
    }
    widest = max(settings.windows)
    found[f"Gaussian {widest}x{widest}, T = {time:g}"] = FlowSettings(
        time=time, window=widest, weights="gaussian", krylov_dim=_DIM
    )
    found[f"nonlinear {window}x{window}"] = FlowSettings(flow="nonlinear", window=window)
    return found


def _study(
    images: list[Tensor], settings: Settings, workspace: Workspace
) -> tuple[dict[str, list[Tensor]], dict[str, _Numbers]]:
    """Columns of pictures, and the mean numbers over the pictures of each column."""
    columns: dict[str, list[Tensor]] = {"photograph": [], "nearest colour": []}
    found: dict[str, list[_Numbers]] = {}
    for index, image in enumerate(images):
        workspace.say(f"photograph {index + 1} of {len(images)}")
        prototypes = kmeans(image[None], settings.labels, settings.seed)
        nearest = label_distances(image[None], prototypes).argmin(dim=1)[0]
        columns["photograph"].append(_middle(image))
        columns["nearest colour"].append(_paint(nearest, prototypes))
        found.setdefault("nearest colour", []).append(_measure(nearest, nearest, torch.zeros(1)))
        for title, flow in _variants(settings).items():
            one = label_picture(image, prototypes, flow)
            columns.setdefault(title, []).append(_paint(one.labels, prototypes))
            found.setdefault(title, []).append(_measure(one.labels, nearest, one.entropy))
    means = {
        title: _Numbers(*(sum(values) / len(each) for values in zip(*each, strict=True)))
        for title, each in found.items()
    }
    return columns, means


def _measure(labels: Tensor, nearest: Tensor, entropy: Tensor) -> _Numbers:
    across = float((labels[1:] != labels[:-1]).double().mean())
    along = float((labels[:, 1:] != labels[:, :-1]).double().mean())
    regions = int(connected(labels.numpy(), background=-1, connectivity=1).max())
    changed = float((labels != nearest).double().mean())
    return _Numbers(regions, (across + along) / 2, changed, float(entropy.mean()))


def _sentence(found: _Numbers) -> str:
    return (
        f"{found.regions:.0f} regions, {100 * found.border:.1f} % of neighbours differ, "
        f"{100 * found.changed:.1f} % of pixels changed, mean entropy {found.entropy:.2f}"
    )


def _paint(labels: Tensor, prototypes: Tensor) -> Tensor:
    return _middle(prototypes[labels].movedim(-1, 0))


def _middle(picture: Tensor) -> Tensor:
    """The middle of a picture, so that what happens to single pixels is seen."""
    top, left = ((have - want) // 2 for have, want in zip(picture.shape[1:], _SHOWN, strict=True))
    return picture[:, max(0, top) :, max(0, left) :][:, : _SHOWN[0], : _SHOWN[1]]


def _bsds(settings: Settings, workspace: Workspace) -> list[Tensor]:
    """The first test photographs, or none where the data are not at hand."""
    if workspace.data is None or not settings.bsds:
        return []
    inner = workspace.data / "bsds"
    folder: Path = inner if inner.is_dir() else workspace.data
    if not (folder / "test.txt").is_file():
        return []
    names = (folder / "test.txt").read_text(encoding="utf-8").split()[: settings.bsds]
    return [read_image(folder / "images" / f"{Path(name).stem}.jpg") for name in names]


KIND = Kind("laf_photographs", Settings, run)
