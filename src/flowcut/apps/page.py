"""The demo's page: one self-contained HTML file made from numbers and pictures."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from flowcut.apps.output import mean_and_error

__all__ = ["demo_page"]

_TITLES = {"base": "without head", "soft_cut": "with SoftCut head"}
_METHODS = {
    "exact": "exact law",
    "mean_field": "mean field",
    "gibbs": "Gibbs sampling",
    "flow": "randomized flow",
}
_STYLES = {"base": "base", "soft_cut": "cut"}
_CODE = """import torch
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.labels import predict_labels
from flowcut.vision.pictures import read_image

network, _ = load_checkpoint("{checkpoint}")
with torch.no_grad():
    labels = predict_labels(network(read_image("picture.png")[None]))"""


def _table_rows(networks: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, numbers in networks.items():
        test, style = numbers["test"], _STYLES[name]
        cells = [
            f'<span class="dot {style}"></span>{_TITLES[name]}',
            f"<strong>{mean_and_error(test['iou'])}</strong>",
            mean_and_error(test["accuracy"]),
            mean_and_error(test["distinct_figures"], digits=1),
            f"{numbers['parameters']:,}",
            f"{numbers['seconds_per_epoch']:.2f}",
            f"{numbers['seconds_total']:.0f}",
        ]
        rows.append(f'<tr class="{style}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join(rows)


def _noise_words(numbers: Mapping[str, Any]) -> dict[str, str]:
    return {
        "noise_wrong": f"{numbers['wrong_uniform']:.1%}",
        "noise_learned": f"{numbers['wrong_learned']:.2%}",
        "noise_seconds": f"{numbers['seconds']:.1f}",
        "noise_steps": str(numbers["steps"]),
        "noise_size": str(numbers["size"]),
        "noise_window": str(numbers["window"]),
    }


def _ising_rows(methods: Mapping[str, Mapping[str, float]]) -> str:
    rows = []
    for name, title in _METHODS.items():
        numbers = methods[name]
        lower = f"{numbers['kl_lower']:.3f} to " if "kl_lower" in numbers else ""
        cells = [
            title,
            f"<strong>{lower}{numbers['kl']:.3f}</strong>",
            f"{numbers['energy']:.3f}",
            f"{numbers['entropy']:.3f}",
            f"{numbers['marginal_difference']:.4f}",
            f"{numbers['seconds']:.1f}",
        ]
        style = ' class="cut"' if name == "flow" else ""
        rows.append(f"<tr{style}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join(rows)


def _ising_words(numbers: Mapping[str, Any]) -> dict[str, str]:
    return {
        "ising_rows": _ising_rows(numbers["methods"]),
        "ising_size": " × ".join(map(str, numbers["size"])),
        "ising_pixels": str(math.prod(numbers["size"])),
        "ising_seconds": f"{numbers['methods']['flow']['seconds']:.0f}",
        "ising_restarts": str(numbers["restarts"]),
        "ising_draws": f"{numbers['draws']:,}",
        "ising_exact_log_z": f"{numbers['exact_log_z']:.3f}",
        "ising_log_z": f"{numbers['log_z']:.3f} ± {numbers['log_z_error']:.3f}",
        "ising_corrected": f"{numbers['corrected_difference']:.4f}",
    }


def _picture_rows(pictures: Mapping[str, Sequence[bytes]], kind: str = "test picture") -> str:
    rows = []
    for number, row in enumerate(zip(*pictures.values(), strict=True), start=1):
        cells = "".join(
            f'<td><img alt="{html.escape(title)} of {kind} {number}"'
            f' src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}"></td>'
            for title, png in zip(pictures, row, strict=True)
        )
        rows.append(f"<tr>{cells}</tr>")
    return "\n".join(rows)


def _curve(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw validation IoU in [0, 1] against the epoch as inline SVG."""
    width, height, left, bottom = 720, 240, 36, 24
    epochs = max(len(numbers["history"]) for numbers in networks.values())

    def at(epoch: float, value: float) -> tuple[float, float]:
        across = (epoch - 1) / max(epochs - 1, 1)
        return left + across * (width - left - 150), 10 + (1 - value) * (height - bottom - 10)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(1, tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{y:.1f}" x2="{width - 150}" y2="{y:.1f}"/>')
        parts.append(f'<text x="0" y="{y + 4:.1f}">{tick:.2f}</text>')
    for epoch in sorted({1, (1 + epochs) // 2, epochs}):
        x, _ = at(epoch, 0)
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{epoch}</text>')
    for name, numbers in networks.items():
        points = [at(row["epoch"], row["val_iou"]) for row in numbers["history"]]
        style, (x, y) = _STYLES[name], points[-1]
        parts.append(
            f'<polyline class="{style}" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}"/>'
        )
        parts.append(f'<text class="{style}" x="{x + 8:.1f}" y="{y + 4:.1f}">{_TITLES[name]}</text>')
    label = "Validation IoU of both networks by epoch"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _footer(numbers: Mapping[str, Any], noise: float) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(numbers["versions"].items()))
    return html.escape(
        f"Textures: photographs that come with scikit-image, of values in [0, 1], with noise of standard"
        f" deviation {noise:g}. Device: {numbers['device']},"
        f" {numbers['threads']} threads. Versions: {versions}."
    )


def demo_page(
    result: Mapping[str, Any],
    pictures: Mapping[str, Sequence[bytes]],
    noise: Mapping[str, bytes],
    ising: Mapping[str, Sequence[bytes]],
) -> str:
    """Make the page.

    Parameters
    ----------
    result : mapping
        What ``demo.json`` holds: ``train`` and ``test`` (numbers of pictures), ``epochs``,
        ``true_figures`` (a score), under ``networks`` the metrics of ``base`` and ``soft_cut``, what was
        learned ``from_noise``, and how the ``ising`` model was sampled.
    pictures : mapping
        Title of a column to its pictures, bytes of PNG files; all columns of one length.
    noise : mapping
        Title to picture of what was learned from noise.
    ising : mapping
        Title to pictures of a method that draws from the Ising model, marginals first.

    Returns
    -------
    str
        HTML that loads nothing from anywhere.
    """
    networks = result["networks"]
    template = resources.files("flowcut.apps").joinpath("demo_page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        train=result["train"],
        test=result["test"],
        epochs=result["epochs"],
        seed=result["seed"],
        rows=_table_rows(networks),
        true_figures=mean_and_error(result["true_figures"], digits=1),
        shown=len(next(iter(pictures.values()))),
        columns="".join(f"<th>{html.escape(title)}</th>" for title in pictures),
        pictures=_picture_rows(pictures),
        curve=_curve(networks),
        code=html.escape(_CODE.format(checkpoint=networks["soft_cut"]["checkpoint"])),
        noise_columns="".join(f"<th>{html.escape(title)}</th>" for title in noise),
        noise_pictures=_picture_rows({title: [picture] for title, picture in noise.items()}, "the flow"),
        **_noise_words(result["from_noise"]),
        ising_columns="".join(f"<th>{html.escape(title)}</th>" for title in ising),
        ising_pictures=_picture_rows(ising, "the Ising model"),
        **_ising_words(result["ising"]),
        footer=_footer(networks["soft_cut"], result["noise"]),
    )
