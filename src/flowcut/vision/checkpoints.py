"""Trained networks in files that are read without executing anything in them."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowcut.core.atomic import atomic_write
from flowcut.vision.networks import build_network

FORMAT = "flowcut.checkpoint"
VERSION = 1


def save_checkpoint(path: str | Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a network, whole or not at all.

    Parameters
    ----------
    path
        The file.
    network
        What ``build_network(config)`` made, trained since.
    config
        Plain data (dicts with string keys, lists, strings, numbers, booleans, None) from
        which :func:`flowcut.vision.networks.build_network` makes the same network.

    Raises
    ------
    ValueError
        ``config`` is not plain data, or makes a network of other weights: such a file could
        not be loaded.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> config = {"network": "BasicCnn", "arguments": {"width": 4}}
    >>> file = Path(tempfile.mkdtemp()) / "small.pt"
    >>> save_checkpoint(file, build_network(config), config)
    >>> network, config = load_checkpoint(file)
    >>> config["arguments"]
    {'width': 4}
    """
    try:
        plain = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config: expected plain data, got {config!r} ({error})") from None
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    mismatch = _mismatch(build_network(plain), state)
    if mismatch:
        raise ValueError(f"config: expected one that makes the network, got other weights ({mismatch})")
    with atomic_write(path) as file:
        torch.save({"format": FORMAT, "version": VERSION, "config": plain, "state": state}, file)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Read a network that :func:`save_checkpoint` wrote, without executing code in the file.

    The file can hold tensors and plain data only, and what it names (network, head, solver)
    is looked up in tables of this package.

    Parameters
    ----------
    path
        The file.
    device
        Where the network goes.

    Returns
    -------
    network : nn.Module
        In evaluation mode.
    config : dict
        What it was made from.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not a flowcut checkpoint, is damaged, or is of a newer version.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: expected a flowcut checkpoint, found no such file")
    content = _read(path)
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ValueError(
            f"{path}: expected a flowcut checkpoint of version 1 to {VERSION}, got version {version!r}"
        )
    config, state = content.get("config"), content.get("state")
    if not isinstance(config, dict) or not isinstance(state, dict):
        raise ValueError(f"{path}: damaged flowcut checkpoint, without configuration or weights")
    try:
        network = build_network(config)
    except ValueError as error:
        raise ValueError(
            f"{path}: flowcut checkpoint of a network this version does not know ({error})"
        ) from None
    mismatch = _mismatch(network, state)
    if mismatch:
        raise ValueError(f"{path}: damaged flowcut checkpoint, weights do not fit the network ({mismatch})")
    network.load_state_dict(state)
    return network.to(device).eval(), config


def _read(path: str | Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: not a flowcut checkpoint (it holds more than tensors and plain data)"
        ) from None
    # Arbitrary bytes fail anywhere inside the reader, with almost any exception.
    except Exception as error:
        reason = type(error).__name__
        raise ValueError(f"{path}: not a flowcut checkpoint, or damaged (reading it: {reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a flowcut checkpoint (it carries no format mark {FORMAT!r})")
    return content


def _mismatch(network: nn.Module, state: Mapping[str, Any]) -> str:
    """The first weight that differs in name or shape, or an empty string."""
    own = network.state_dict()
    for name in [*own, *state]:
        here, there = own.get(name), state.get(name)
        if not isinstance(here, torch.Tensor) or not isinstance(there, torch.Tensor):
            return f"{name} is in one of them only"
        if here.shape != there.shape:
            return f"{name} has shape {tuple(there.shape)} instead of {tuple(here.shape)}"
    return ""
