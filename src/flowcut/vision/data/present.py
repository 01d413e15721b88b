"""Whether labels occur at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowcut.vision.data.folder import target_of

__all__ = ["check_present"]


def check_present(dataset: Any, names: Sequence[str]) -> None:
    """Refuse a data set in which one of its labels is nowhere.

    Targets are read until every label has been met, which takes few of them unless one is rare.

    Parameters
    ----------
    dataset
        Items ``target``, (H, W) of 0, ..., len(names) - 1, and 255; it has a length.
    names
        Of the labels, for the error.

    Raises
    ------
    ValueError
        A label occurs in no target.

    Examples
    --------
    >>> from flowcut.vision.data.mosaic import TextureMosaic
    >>> check_present(TextureMosaic(length=2, size=32), ["ground", "figure", "sign"])
    Traceback (most recent call last):
        ...
    ValueError: classes: expected each in a picture at least, got 'sign' in none of 2
    """
    absent = set(range(len(names)))
    for index in range(len(dataset)):
        absent -= set(np.unique(target_of(dataset, index).numpy()).tolist())
        if not absent:
            return
    shown = ", ".join(repr(names[label]) for label in sorted(absent))
    raise ValueError(f"classes: expected each in a picture at least, got {shown} in none of {len(dataset)}")
