"""Lists of names that say which picture belongs to which split."""

from __future__ import annotations

from pathlib import Path

SPLITS = ("train", "val", "test")


def read_split(root: str | Path, split: str, layout: str, prefix: str = "") -> list[str]:
    """The names of one split.

    Parameters
    ----------
    root
        The folder of the data set, with files ``<prefix>train.txt``, ``<prefix>val.txt`` and
        ``<prefix>test.txt``, one name a line.
    split
        "train", "val" or "test".
    layout
        What else the folder holds, for the error.
    prefix
        Of the files.

    Raises
    ------
    ValueError
        ``split`` is none of the three, or there is no such list.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    name = f"{prefix}{split}.txt"
    if not (Path(root) / name).is_file():
        raise ValueError(f"root: expected {layout} and {name}, got {root} without {name}")
    return (Path(root) / name).read_text(encoding="utf-8").split()
