"""Files of tensors and numbers that carry a kind and a version and are read without executing code."""

from __future__ import annotations

import os
from typing import Any

import torch

from flowcut.core.atomic import atomic_write


def write_record(path: str | os.PathLike[str], kind: str, version: int, values: dict[str, Any]) -> None:
    """Save values, whole or not at all.

    Parameters
    ----------
    path
        The file.
    kind, version
        What :func:`read_record` asks for.
    values
        Tensors, numbers, strings, and lists and dictionaries of them.

    Raises
    ------
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a.pt")
    >>> write_record(path, "note", 1, {"text": "hello"})
    >>> read_record(path, "note", 1)["text"]
    'hello'
    """
    with atomic_write(path) as file:
        torch.save({"version": version, "kind": kind, **values}, file)


def read_record(path: str | os.PathLike[str], kind: str, version: int) -> dict[str, Any]:
    """What :func:`write_record` saved.

    Raises
    ------
    OSError
        There is no such file.
    ValueError
        It is no such record, or of another version.
    """
    with open(path, "rb") as file:
        try:
            values = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes it raise nearly anything
            raise ValueError(
                f"{os.fspath(path)}: expected a file of flowcut, got {type(error).__name__}"
            ) from None
    if not isinstance(values, dict) or values.get("kind") != kind or values.get("version") != version:
        raise ValueError(f"{os.fspath(path)}: expected a {kind} of version {version}")
    return values
