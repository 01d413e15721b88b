"""The files of Cityscapes as they are unpacked: what belongs together, and what is missing or misnamed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flowcut.vision.pictures import SUFFIXES

__all__ = ["Frame", "find_frames"]

_FRAME = re.compile(r"[A-Za-z-]+_\d{6}_\d{6}")
_IMAGE = "leftImg8bit.png"
_LABELS, _INSTANCES = "gtFine_labelIds.png", "gtFine_instanceIds.png"
# Pictures that come with the labels and are not needed.
_OTHERS = ("gtFine_color.png", "gtFine_labelTrainIds.png", "gtFine_instanceTrainIds.png")
_SHOWN = 5


class Frame(NamedTuple):
    """The files of one picture; ``instances`` may not exist where it was not asked for."""

    image: Path
    labels: Path
    instances: Path


def find_frames(
    root: str | Path, folder: str, wanted: Callable[[str], bool], instances: bool = False
) -> dict[str, Frame]:
    """The frames of some cities by their name CITY_SSSSSS_FFFFFF, sorted.

    Parameters
    ----------
    root
        Holds ``leftImg8bit`` and ``gtFine``.
    folder
        "train" or "val", in both of them.
    wanted
        Whether a city is.
    instances
        Each frame needs its ``..._gtFine_instanceIds.png`` too.

    Raises
    ------
    ValueError
        A folder is missing, or files are missing or misnamed: one line with the first of them and their
        number.
    """
    images, labels = Path(root) / "leftImg8bit" / folder, Path(root) / "gtFine" / folder
    for path in (images, labels):
        if not path.is_dir():
            raise ValueError(
                f"root: expected leftImg8bit/{folder} and gtFine/{folder} as Cityscapes is unpacked, got no"
                f" folder {path}"
            )
    wrong: list[str] = []
    seen = _listed(images, wanted, (_IMAGE,), (), wrong)[_IMAGE]
    needed = (_LABELS, _INSTANCES) if instances else (_LABELS,)
    labelled = _listed(labels, wanted, (_LABELS, _INSTANCES), _OTHERS, wrong)
    for kind in needed:
        there = labelled[kind]
        wrong += [f"{seen[name]} has no {name}_{kind}" for name in seen if name not in there]
        wrong += [f"{there[name]} has no {name}_{_IMAGE}" for name in there if name not in seen]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"root: expected an image and labels of every frame, got {len(wrong)} missing or misnamed:"
            f" {'; '.join(wrong[:_SHOWN])}{more}"
        )
    return {
        name: Frame(path, labels / path.parent.name / f"{name}_{_LABELS}",
                    labels / path.parent.name / f"{name}_{_INSTANCES}")
        for name, path in sorted(seen.items())
    }  # fmt: skip


def _listed(
    folder: Path,
    wanted: Callable[[str], bool],
    kinds: tuple[str, ...],
    others: tuple[str, ...],
    wrong: list[str],
) -> dict[str, dict[str, Path]]:
    """The files of each kind by the frame's name; pictures that are named another way go into ``wrong``."""
    found: dict[str, dict[str, Path]] = {kind: {} for kind in kinds}
    for path in sorted(folder.glob("*/*")):
        city = path.parent.name
        hidden = path.name.startswith(".") or city.startswith(".")
        if hidden or not wanted(city) or path.suffix.lower() not in SUFFIXES:
            continue
        kind = next((kind for kind in (*kinds, *others) if path.name.endswith(f"_{kind}")), None)
        name = path.name[: -len(kind) - 1] if kind else ""
        if kind is None or not _FRAME.fullmatch(name) or name.rsplit("_", 2)[0] != city:
            wrong.append(f"{path} is not named {city}_SSSSSS_FFFFFF_{' or '.join(kinds)}")
        elif kind in kinds:
            found[kind][name] = path
    return found
