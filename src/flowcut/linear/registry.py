"""What a solver keeps outside of tensors: found by a handle, gone with it.

Operations take and return tensors only. A factorisation therefore lives in this registry under a
number, the number travels as an int64 tensor, and the entry goes when that tensor goes.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor

_entries: dict[int, Any] = {}
_numbers = itertools.count(1)


def keep(entry: Any) -> Tensor:
    """Keep an object for as long as the returned int64 scalar lives."""
    number = next(_numbers)
    _entries[number] = entry
    handle = torch.tensor(number, dtype=torch.int64)
    # Not at exit: libraries behind the entries may be gone by then.
    weakref.finalize(handle, _entries.pop, number, None).atexit = False
    return handle


def find(handle: Tensor) -> Any:
    """The object behind a handle.

    Raises
    ------
    RuntimeError
        It is gone: the handle was copied, saved or sent to another process.
    """
    try:
        return _entries[int(handle)]
    except KeyError:
        raise RuntimeError(
            f"solver state {int(handle)} does not exist in this process: a state cannot be copied or saved"
        ) from None


def count() -> int:
    """How many objects are kept."""
    return len(_entries)
