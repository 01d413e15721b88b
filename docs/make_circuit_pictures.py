"""The pictures of the circuit and of the receptive field: ``python docs/make_circuit_pictures.py [FOLDER]``.

After Figs. 8 to 12 of the SoftCut thesis, with numbers of our own that soft_cut, total_variation and max_flow
compute here. Needs schemdraw (circuits) and matplotlib.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import schemdraw
import schemdraw.elements as elm
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

import flowcut as fc
from flowcut.core.atomic import atomic_write

STATIC = Path(__file__).parent / "_static"
SCORES = "RdBu_r"
STRONG = 1e9


def module() -> Figure:
    """Fig. 8: generator, resistor to the ground, resistors to the four neighbours."""
    figure, axes = plt.subplots(figsize=(6.2, 4.6))
    drawing = schemdraw.Drawing(canvas=axes, unit=3.4, fontsize=11, lw=1.4)
    node = drawing.add(elm.Dot())
    drawing.add(elm.Label().at((0.4, 0.28)).label("$V_{i,j}$"))
    ways = (
        ("up", "$R_1 = 1/c_{i-1,j}$", "$V_{i-1,j}$", "right"),
        ("right", "$R_2 = 1/r_{i,j}$", "$V_{i,j+1}$", "right"),
        ("down", "$R_3 = 1/c_{i,j}$", "$V_{i+1,j}$", "right"),
        ("left", "$R_4 = 1/r_{i,j-1}$", "$V_{i,j-1}$", "left"),
    )
    for way, resistor, neighbour, side in ways:
        tie = getattr(elm.Resistor().at(node.center), way)()
        drawing.add(tie.label(resistor, "bottom" if way == "up" else "top"))
        drawing.add(elm.Dot(open=True).label(neighbour, side))
    drawing.add(elm.Line().at(node.center).theta(-38).length(3.6))
    corner = drawing.add(elm.Dot())
    drawing.add(elm.Resistor().at(corner.center).down().label("$R_0 = 1\\,\\Omega$", "top"))
    drawing.add(elm.Ground())
    drawing.add(elm.Line().at(corner.center).right().length(2.2))
    drawing.add(elm.SourceI().down().reverse().label("$I_{i,j} = p_{i,j}$", "top"))
    drawing.add(elm.Ground())
    drawing.draw(show=False)
    axes.axis("off")
    return figure


def _two(axes: Axes, strong: bool) -> None:
    """Two pixels; a wire between them, or a resistor."""
    drawing = schemdraw.Drawing(canvas=axes, unit=2.0, fontsize=10, lw=1.3)
    first = drawing.add(elm.Dot().label("$V_1$", "top"))
    tie = elm.Line() if strong else elm.Resistor().label("$1/G$")
    drawing.add(tie.at(first.center).right().length(3.4))
    second = drawing.add(elm.Dot().label("$V_2$", "top"))
    for node, name, outwards, side in ((first, "1", 180, "top"), (second, "2", 0, "bottom")):
        drawing.add(
            elm.Resistor().at(node.center).down().label("$1\\,\\Omega$", "bottom" if name == "1" else "top")
        )
        drawing.add(elm.Ground())
        drawing.add(elm.Line().at(node.center).theta(outwards).length(1.5))
        drawing.add(elm.SourceI().down().reverse().label(f"$s_{name}$", side))
        drawing.add(elm.Ground())
    drawing.draw(show=False)


def two_pixels() -> Figure:
    """Figs. 9 and 11, and what (24) makes of a generator of 3 and one of -1 as the edge grows."""
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.3), width_ratios=(1.1, 1.1, 1), layout="constrained")
    for ax, strong, title in ((axes[0], True, "a very strong edge"), (axes[1], False, "a medium edge")):
        _two(ax, strong)
        ax.set_title(title, fontsize=10, pad=14)
        ax.set_aspect("equal")
        ax.axis("off")
    conductance = torch.logspace(-3, 3, 121, dtype=torch.float64)
    scores = torch.tensor([3.0, -1.0], dtype=torch.float64).expand(121, 1, 2)
    potentials = fc.soft_cut(scores, conductance[:, None, None].expand(-1, 1, 2))[:, 0]
    plot = axes[2]
    for i, colour in enumerate(("tab:red", "tab:blue")):
        plot.semilogx(
            conductance,
            potentials[:, i],
            color=colour,
            label=f"$V_{i + 1}$, $s_{i + 1} = {scores[0, 0, i]:g}$",
        )
    plot.axhline(1, color="grey", lw=0.8, ls="--", label="mean")
    plot.set_xlabel("conductance $G$ of the edge")
    plot.set_ylabel("potential")
    plot.legend(frameon=False)
    return figure


def _grid(axes: Axes, values: Tensor, edges: Tensor, title: str, parts: Tensor | None = None) -> None:
    """Pixels as circles with their values, ties as lines; dashed where two parts meet."""
    height, width = values.shape
    for k, (dy, dx) in enumerate(((1, 0), (0, 1))):
        for y in range(height - dy):
            for x in range(width - dx):
                tie = float(edges[k, y, x])
                thickness = 7 if tie >= STRONG else min(7.0, 2.2 * tie**0.5)
                axes.plot(
                    [x, x + dx], [y, y + dy], color="0.55", lw=thickness, zorder=1, solid_capstyle="butt"
                )
                if parts is not None and parts[y, x] != parts[y + dy, x + dx]:
                    middle, across = (x + dx / 2, y + dy / 2), (dy / 2, dx / 2)
                    ends = [(m - a, m + a) for m, a in zip(middle, across, strict=True)]
                    axes.plot(*ends, color="k", lw=1.3, ls=(0, (3, 2)))
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    axes.scatter(xs, ys, s=560, c=values, cmap=SCORES, vmin=-4, vmax=4, edgecolors="k", zorder=2)
    for y in range(height):
        for x in range(width):
            axes.text(x, y, f"{values[y, x]:.1f}", ha="center", va="center", fontsize=8, zorder=3)
    axes.set(xlim=(-0.6, width - 0.4), ylim=(height - 0.4, -0.6), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def edges() -> Figure:
    """Figs. 10 and 12: edges that are all or nothing, and soft ones."""
    rows = ((3.0, 0.2, -0.4, -1.0, 0.3), (2.0, -0.5, 0.1, -2.5, -0.2),
            (0.4, 0.3, -0.3, -0.8, 0.6), (-0.2, 0.1, 1.5, 0.2, -1.0))  # fmt: skip
    scores = torch.tensor(rows, dtype=torch.float64)
    parts = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
    same = [parts[:-1] == parts[1:], parts[:, :-1] == parts[:, 1:]]
    generator = torch.Generator().manual_seed(1)
    perfect = fc.edges_from_axes([STRONG * s.double() for s in same])
    factors = [0.4 + 1.2 * torch.rand(s.shape, generator=generator) for s in same]
    soft = fc.edges_from_axes(
        [torch.where(s, 2.0, 0.1).double() * f for s, f in zip(same, factors, strict=True)]
    )
    figure, axes = plt.subplots(2, 2, figsize=(7.6, 6.2))
    examples = (("perfect", perfect, parts), ("soft", soft, None))
    for row, (name, ties, shown) in zip(axes, examples, strict=True):
        potentials = fc.soft_cut(scores[None, None], ties[None], solver=fc.CG(rtol=1e-12))[0, 0]
        _grid(row[0], scores, ties, f"scores and {name} edges", shown)
        _grid(row[1], potentials, ties, "potentials", shown)
    return figure


def _bend() -> tuple[Tensor, Tensor, Tensor]:
    """A figure bent like a C; weak noisy evidence for it; edges weak across its outline."""
    height, width = 41, 56
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (y > 5) & (y < 36) & (x > 6) & (x < 50) & ~((y > 14) & (y < 27) & (x > 16))
    noise = torch.randn(height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = torch.where(inside, 0.04, -0.04) + 0.3 * (noise - noise.mean())
    steps = [inside[:-1] == inside[1:], inside[:, :-1] == inside[:, 1:]]
    return inside, scores, fc.edges_from_axes([torch.where(s, 20.0, 0.02).double() for s in steps])


def _gradient(
    layer: Callable[[Tensor, Tensor], Tensor], scores: Tensor, ties: Tensor, p: tuple[int, int]
) -> Tensor:
    """d z_p / d s_q of a layer."""
    leaf = scores[None, None].clone().requires_grad_()
    return torch.autograd.grad(layer(leaf, ties[None])[0, 0][p], leaf)[0][0, 0]


def _flips(scores: Tensor, ties: Tensor, p: tuple[int, int]) -> Tensor:
    """Where a score of its own could change the minimum cut's label of p: either extreme of it is tried."""
    count = scores.numel()
    labels = []
    for value in (-1e6, 1e6):
        moved = scores.expand(count, 1, -1, -1).clone()
        moved.view(count, -1)[torch.arange(count), torch.arange(count)] = value
        labels.append(fc.max_flow(moved, ties.expand(count, -1, -1, -1))[:, p[0], p[1]])
    return (labels[0] != labels[1]).view(scores.shape)


def receptive_field() -> Figure:
    """Appendix A: which scores the result at one pixel depends on, and how much."""
    inside, scores, ties = _bend()
    p = (10, 44)
    window = torch.zeros_like(scores)
    window[p[0] - 3 : p[0] + 4, p[1] - 3 : p[1] + 4] = 1
    influence = _gradient(fc.soft_cut, scores, ties, p)
    block = _gradient(fc.total_variation, scores, ties, p)
    figure, axes = plt.subplots(1, 5, figsize=(15, 2.4), gridspec_kw={"wspace": 0.34})
    shown: list[tuple[str, Tensor, dict[str, Any]]] = [
        ("scores; outline: weak edges", scores, {"cmap": SCORES, "vmin": -1, "vmax": 1}),
        ("three 3 × 3 convolutions", window, {"cmap": "Greys", "vmax": 2}),
        ("soft_cut: ∂x/∂s", influence, {"cmap": "magma", "norm": LogNorm(1e-9, 1e-1, clip=True)}),
        ("total_variation: ∂z/∂s", block, {"cmap": "Greys", "vmin": 0, "vmax": 2 * float(block.max())}),
        ("max_flow: scores that can flip it", _flips(scores, ties, p).double(), {"cmap": "Greys", "vmax": 2}),
    ]
    for ax, (title, values, settings) in zip(axes, shown, strict=True):
        drawn = ax.imshow(values, **settings)
        ax.contour(inside.double(), levels=[0.5], colors="tab:green", linewidths=1)
        ax.plot(p[1], p[0], "x", color="tab:cyan", ms=7, mew=2)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        if "norm" in settings:
            figure.colorbar(drawn, cax=ax.inset_axes((1.02, 0, 0.04, 1)), ticks=[1e-1, 1e-5, 1e-9])
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "circuit_module": module,
    "circuit_two_pixels": two_pixels,
    "circuit_edges": edges,
    "receptive_field": receptive_field,
}


def main(arguments: Sequence[str] = ()) -> None:
    """Write every picture to a folder, by default docs/_static, whole or not at all."""
    plt.switch_backend("Agg")
    folder = Path(arguments[0]) if arguments else STATIC
    for name, draw in PICTURES.items():
        figure = draw()
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)
        with atomic_write(folder / f"{name}.png") as target:
            target.write(file.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
