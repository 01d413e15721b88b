"""Before any kernel is imported: without CUDA, Triton's kernels run interpreted on the CPU."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
