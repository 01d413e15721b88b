"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only when the block ends without an error.

    Parameters
    ----------
    path
        The final name. An older file of that name stays until the new one is complete.

    Yields
    ------
    binary file
        A temporary file in the same folder.

    Raises
    ------
    OSError
        The folder does not exist or cannot be written.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(Path(folder) / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> (Path(folder) / "a.txt").read_bytes()
    b'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def prepare_folder(path: str | os.PathLike[str], name: str) -> Path:
    """Make a folder if there is none, and make sure that files can be written in it.

    Parameters
    ----------
    path
        The folder.
    name
        The argument that the error names.

    Raises
    ------
    OSError
        The folder cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{name}: expected a folder that can be written, got {folder} ({reason})") from None
    return folder
