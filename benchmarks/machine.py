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
    "dwave-samplers",
    "dimod",
    "peapods",
    "scikit-image",
)

# Above this share of all cores, somebody else's work shows in the timings.
QUIET_SHARE = 0.05


def describe_machine() -> dict[str, Any]:
    """Processor, usable cores, memory, system, threads and how busy the machine is."""
    return {
        "processor": _processor(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
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


class OthersWatch:
    """How much of all cores went to programs that are not ours since this was made."""

    def __init__(self) -> None:
        self._start = _processor_times()

    def share(self) -> float | None:
        """Between 0 and 1; None where the system does not say."""
        now = _processor_times()
        if now is None or self._start is None:
            return None
        busy, total, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, busy - own) / total if total else 0.0


def was_busy(share: float | None) -> bool:
    """Whether other programs took so much that the times are not to be quoted."""
    return share is not None and share > QUIET_SHARE


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


def _processor_times() -> tuple[float, float, float] | None:
    """Seconds that all cores were busy, that have passed on all cores, and that were ours."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return None
    fields = [int(word) for word in counters.read_text().split("\n", 1)[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    own = os.times()
    ours = own.user + own.system + own.children_user + own.children_system
    return (sum(fields) - idle) / ticks, sum(fields) / ticks, ours
