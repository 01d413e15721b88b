"""Before any kernel is imported: without CUDA, Triton's kernels run interpreted on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings raised by flowcut are errors."""
    # Not in pyproject.toml: there it would import flowcut before the variable above is set.
    config.addinivalue_line("filterwarnings", "error::flowcut.FlowcutWarning")
