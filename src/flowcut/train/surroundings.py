"""What numbers were made with: versions, device, threads."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

__all__ = ["surroundings"]


def surroundings(device: torch.device) -> dict[str, Any]:
    """Versions and device, to stand beside results.

    Parameters
    ----------
    device : device
        Where the network ran.

    Returns
    -------
    dict
        ``versions`` (mapping of names to versions), ``device`` (its name), ``threads``.

    Examples
    --------
    >>> sorted(surroundings(torch.device("cpu")))
    ['device', 'threads', 'versions']
    """
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    versions |= {package: version(package) for package in ("flowcut", "lightning", "numpy", "numba")}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"cpu ({platform.machine()})"
    return {
        "versions": versions,
        "device": name,
        "threads": torch.get_num_threads(),
    }
