"""What a result must say about where it was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "flowcut",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "pypardiso",
    "mkl",
    "pyamg",
    "cholespy",
    "cvxopt",
    "PyKLU",
    "torch_sparse_solve",
    "scikit-image",
)


def describe_machine() -> dict[str, Any]:
    """Processor, usable cores, memory, system, threads and how busy the machine is."""
    return {
        "processor": _processor(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
        "load_at_start": _load(),
    }


def describe_versions() -> dict[str, str]:
    """Installed versions of everything that takes part."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def stamp() -> dict[str, Any]:
    """Date, machine and versions, to be merged into a result."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _load() -> float | None:
    """Processes that wanted to run in the last minute; more than ours makes timings doubtful."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
