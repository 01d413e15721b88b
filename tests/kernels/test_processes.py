"""Right answers after a fork and in data-loader workers, also after use in the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.workers import _SECONDS, CHECKS

_ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.parametrize("name", CHECKS)
def test_in_another_process(name: str) -> None:
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.kernels.workers", name]
    # A group of its own: whatever hangs in a worker ends with it.
    with subprocess.Popen(
        program, cwd=_ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            errors = process.communicate(timeout=_SECONDS + 5)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("it hangs")
    assert process.returncode == 0, errors
