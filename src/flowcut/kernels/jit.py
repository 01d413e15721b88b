"""One way to compile for the CPU: ``jit``, cached on disk where a folder is writable.

Kernels are plain loops over flat rows, released from the interpreter lock; who runs
them on which thread is decided in :mod:`flowcut.kernels.threads`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# Sums may be reordered (that is what lets a loop fill vector registers), but infinities and
# NaNs keep their meaning: the solvers rely on seeing them.
_FAST = {"reassoc", "contract", "nsz"}


def jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel: no interpreter lock, NumPy's division, reordered sums allowed.

    Without Numba's reference counts too: each slice of a row would cost two atomic operations, on one
    cache line that all threads share. So kernels may neither allocate nor return an array.
    """
    return _compile(function, _nrt=False)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a part that only kernels call: without the (slow to build) door for Python."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


def spliced(function: Callable[..., Any]) -> Any:
    """:func:`inner`, but always compiled into the caller: a call with many arrays can cost what it does."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True, "_nrt": False}
    return _compile(function, **options)


def _compile(function: Callable[..., Any], **options: bool) -> Any:
    folder = _cache_folder()
    # Numba reads the folder once, while it decorates.
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder or ""
    try:
        return numba.njit(
            nogil=True, fastmath=_FAST, error_model="numpy", cache=folder is not None, **options
        )(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _cache_folder() -> str | None:
    """A writable folder that belongs to exactly these kernel sources, or None.

    Numba notices a change in the file of a kernel but not in the file of a kernel that
    it calls; a folder named by the hash of all sources cannot go stale.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    home = os.environ.get("FLOWCUT_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(home) if home else Path.home() / ".cache"
        folder = base / "flowcut" / f"kernels-{digest.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError):  # read-only or no home at all: compile anew each time
        return None


@intrinsic
def atomic_add(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] += value`` at once, for an int64 array; returns the old value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _item_pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index]`` of an int64 array, as other threads left it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _item_pointer(context, builder, signature, args)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def monotonic_ns(typingctx: Any) -> Any:
    """Nanoseconds of the clock behind ``time.monotonic``, without allocating."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, number = ir.IntType(64), ir.IntType(32)
        stamp = cgutils.alloca_once(builder, word, size=2)
        signature = ir.FunctionType(number, [number, stamp.type])
        clock = cgutils.get_or_insert_function(builder.module, signature, "clock_gettime")
        builder.call(clock, [number(6 if sys.platform == "darwin" else 1), stamp])
        seconds = builder.load(stamp)
        rest = builder.load(builder.gep(stamp, [number(1)]))
        return builder.add(builder.mul(seconds, word(1_000_000_000)), rest)

    return types.int64(), codegen


def _item_pointer(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, array_type, array, [args[1]], wraparound=False)
