"""The cache of compiled kernels: used where a folder is writable, missed where none is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Two small kernels in two files: compiling them takes seconds, not CG's tens.
_PROGRAM = """
import torch
from flowcut.kernels.grid import grid_product
from flowcut.kernels.jit import _cache_folder
x = torch.arange(3.0)[None, None]
y = grid_product(torch.ones(1, 1, 1, 3), torch.ones(1, 1, 3), x, [1])
assert y.tolist() == [[[-1.0, 1.0, 3.0]]], y
print(_cache_folder())
"""


def _run(**changes: str | None) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("FLOWCUT_CACHE_DIR", "XDG_CACHE_HOME")}
    env |= {k: v for k, v in changes.items() if v is not None}
    for name in [k for k, v in changes.items() if v is None]:
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=env, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_writable_folder_is_filled_and_used_again(tmp_path: Path) -> None:
    folder = Path(_run(FLOWCUT_CACHE_DIR=str(tmp_path)))
    assert folder.is_relative_to(tmp_path)
    compiled = sorted(folder.rglob("*.nbc"))
    assert compiled
    times = [f.stat().st_mtime_ns for f in compiled]
    assert Path(_run(FLOWCUT_CACHE_DIR=str(tmp_path))) == folder
    assert sorted(folder.rglob("*.nbc")) == compiled
    assert [f.stat().st_mtime_ns for f in compiled] == times


@pytest.mark.parametrize("where", ["file", "/proc"])
def test_without_a_writable_folder_kernels_compile_anew(where: str, tmp_path: Path) -> None:
    if where == "file":
        where = str(tmp_path / "file")
        Path(where).write_text("")
    elif not Path(where).exists():
        pytest.skip(f"no {where} on this platform")
    assert _run(FLOWCUT_CACHE_DIR=where) == "None"


def test_without_a_home(tmp_path: Path) -> None:
    assert _run(HOME=str(tmp_path)).startswith(str(tmp_path / ".cache"))
