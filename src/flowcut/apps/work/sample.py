"""What `flowcut sample` does."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor

from flowcut.apps.output import format_table, show
from flowcut.apps.work.sample_methods import (
    ChainPlan,
    Drawn,
    FlowPlan,
    draw_by_chains,
    draw_by_flow,
    draw_exactly,
    exact_if_possible,
)
from flowcut.apps.work.sample_scribbles import read_scribbles, scribble_energy
from flowcut.apps.work.sample_views import draw_samples
from flowcut.core.atomic import atomic_write, prepare_folder
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.energy_files import load_energy, save_energy
from flowcut.joint.exact import exact_law
from flowcut.vision.panel import encode_png
from flowcut.vision.pictures import read_image

__all__ = ["run"]

_CHAIN_OPTIONS = ("chains", "sweeps", "burn_in")
_FLOW_OPTIONS = ("steps", "flows", "checkpoint")
_PICTURE_OPTIONS = ("scribbles", "ties", "beta")


def run(options: Namespace) -> dict[str, Any]:
    """Draw labelings.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.sample`.

    Returns
    -------
    dict
        What ``sample.json`` holds: the files written; ``shape`` (J, *spatial), ``samples``, ``temperature``,
        ``seed``, ``seconds``; ``method`` and its own numbers; ``log_z`` and ``entropy`` of exp(-E / T) / Z,
        and ``mean_energy``, that of E, each with ``..._error``, a standard error, where it is estimated; null
        where the method does not tell.

    Raises
    ------
    ValueError
        An option is out of its range or belongs to another method, or a file is not what it should be.
    """
    _check(options)
    energy, image, about = _read(options)
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy in the file, got {energy.items}")
    if not energy.unary.numel():
        raise ValueError(f"energy: expected at least one pixel, got shape {energy.shape}")
    folder = prepare_folder(options.output, "--output")
    began = time.perf_counter()
    drawn = _draw(energy.at_temperature(options.temperature), options)
    seconds = time.perf_counter() - began
    result = _write(folder, drawn, image)
    if image is not None:
        save_energy(folder / "energy.npz", energy)
        about["energy"] = str(folder / "energy.npz")
    for name in ("mean_energy", "mean_energy_error"):
        if drawn.numbers[name] is not None:
            drawn.numbers[name] *= options.temperature
    result |= (
        about
        | drawn.numbers
        | {
            "shape": list(energy.shape),
            "samples": options.samples,
            "temperature": options.temperature,
            "seed": options.seed,
            "seconds": seconds,
        }
    )
    _into(folder / "sample.json", (json.dumps(result, indent=2, sort_keys=True) + "\n").encode())
    if not options.quiet:
        _report(result, options)
    return result


def _check(options: Namespace) -> None:
    if options.samples < 1:
        raise ValueError(f"samples: expected an integer >= 1, got {options.samples}")
    if not 0 < options.temperature < float("inf"):
        raise ValueError(f"temperature: expected a finite number > 0, got {options.temperature}")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to 2**63 - 1, got {options.seed}")
    chains = ("auto", "gibbs", "swendsen-wang")
    for names, methods in ((_CHAIN_OPTIONS, chains), (_FLOW_OPTIONS, ("flow",))):
        for name in names:
            if options[name] is not None and options.method not in methods:
                raise ValueError(
                    f"{name}: expected with --method {' or '.join(methods)} alone, "
                    f"got --method {options.method}"
                )
    if (options.energy is None) == (options.image is None):
        got = "neither" if options.energy is None else "both"
        raise ValueError(f"energy: expected a file, or --image and --scribbles, got {got}")
    if options.image is not None and options.scribbles is None:
        raise ValueError("scribbles: expected a picture beside --image, got none")
    for name in _PICTURE_OPTIONS:
        if options.image is None and options[name] is not None:
            raise ValueError(f"{name}: expected with --image alone, got {options[name]}")


def _read(options: Namespace) -> tuple[PottsEnergy, Tensor | None, dict[str, Any]]:
    """The energy, the picture it comes from, and what is to be said about it."""
    if options.energy is not None:
        return load_energy(options.energy), None, {"energy": options.energy}
    image = read_image(options.image)
    scribbles = read_scribbles(options.scribbles, tuple(image.shape[1:]))
    energy = scribble_energy(image, scribbles.labels, **_given(options, ("ties", "beta")))
    return energy, image, {"image": options.image, "labels": scribbles.names}


def _draw(energy: PottsEnergy, options: Namespace) -> Drawn:
    method, samples, seed = options.method, options.samples, options.seed
    # A bar in a log file is no use.
    progress = not options.quiet and sys.stderr.isatty()
    if method == "flow":
        flow = FlowPlan(**_given(options, _FLOW_OPTIONS))
        return draw_by_flow(energy, flow, samples, seed, progress)
    chains = ChainPlan(**_given(options, _CHAIN_OPTIONS))
    if method == "exact":
        return draw_exactly(exact_law(energy), samples, seed)
    law = exact_if_possible(energy) if method == "auto" else None
    if law is not None:
        return draw_exactly(law, samples, seed)
    return draw_by_chains(energy, method == "swendsen-wang", chains, samples, seed, progress)


def _given(options: Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if options[name] is not None}


def _write(folder: Path, drawn: Drawn, image: Tensor | None) -> dict[str, Any]:
    labels = drawn.labels.to(torch.uint8 if len(drawn.marginals) <= 256 else torch.int32)
    picture = draw_samples(drawn.labels.cpu(), drawn.marginals.cpu(), image)
    contents = {
        "samples.npy": _npy(labels),
        "marginals.npy": _npy(drawn.marginals.float()),
        "samples.png": encode_png(picture),
    }
    for name, content in contents.items():
        _into(folder / name, content)
    names = ("samples_file", "marginals_file", "picture")
    return {key: str(folder / name) for key, name in zip(names, contents, strict=True)}


def _npy(values: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, values.cpu().numpy(), allow_pickle=False)
    return file.getvalue()


def _into(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _report(result: dict[str, Any], options: Namespace) -> None:
    rows = []
    for name, title in (
        ("log_z", "log Z"),
        ("entropy", "entropy"),
        ("mean_energy", "mean energy"),
        ("effective_sample_size", "effective sample size"),
        ("r_hat", "R-hat"),
        ("kl", "KL of the flow"),
    ):
        if result.get(name) is not None:
            error = result.get(f"{name}_error")
            rows.append([title, f"{result[name]:.6g}", "" if error is None else f"± {error:.2g}"])
    rows.append(["seconds", f"{result['seconds']:.2f}", ""])
    show(format_table([result["method"], "value", "error"], rows), json=options.json)
    if result["method"] == "flow":
        show("samples are the flow's own; marginals and the other numbers are corrected", json=options.json)
    if result["log_z"] is None:
        show("chains tell neither log Z nor entropy: --method flow estimates them", json=options.json)
    show(f"{result['samples']} samples, marginals and a picture in {options.output}", json=options.json)
