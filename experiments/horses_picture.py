"""What two trained networks make of the first test horses, without showing the photographs.

``python experiments/horses_picture.py --data DIR --base RUN/best.pt --softcut RUN/best.pt``

The photographs and true masks of the Weizmann horses are for research and may not be published, so
the picture holds our own output alone: predictions, scores and edges.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.train.pictures import look_inside
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.data import WeizmannHorses
from flowcut.vision.panel import colour_edges, colour_labels, colour_scores, draw_panel, encode_png

SIZE = (96, 128)
SHOWN = 5


def columns(base: torch.nn.Module, softcut: torch.nn.Module, images: list[Tensor]) -> dict[str, list[Tensor]]:
    """Columns for :func:`flowcut.vision.panel.draw_panel`."""
    table: dict[str, list[Tensor]] = {}
    for image in images:
        blank = torch.full_like(image, 0.15)
        plain, inside = look_inside(base, image), look_inside(softcut, image)
        row = {
            "without head": colour_labels(blank, plain["labels"], opacity=1.0),
            "with SoftCut": colour_labels(blank, inside["labels"], opacity=1.0),
            "its scores": colour_scores(inside["scores"][0]),
            "its edges": colour_edges(inside["edges"]),
            "its potentials": colour_scores(inside["logits"][0]),
        }
        for title, picture in row.items():
            table.setdefault(title, []).append(picture)
    return table


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds horses/")
    parser.add_argument("--base", type=Path, required=True, help="checkpoint without head")
    parser.add_argument("--softcut", type=Path, required=True, help="checkpoint with a SoftCut head")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "horses.png")
    options = parser.parse_args()
    test = WeizmannHorses(options.data / "horses", "test", size=SIZE)
    images = [test[i]["image"] for i in range(SHOWN)]
    networks = [load_checkpoint(path)[0] for path in (options.base, options.softcut)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.output) as file:
        file.write(encode_png(draw_panel(columns(*networks, images), height=96)))


if __name__ == "__main__":
    main()
