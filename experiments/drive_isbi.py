"""Train the recipes of DRIVE and ISBI 2012 with several seeds, and write what docs/results.py shows.

``python experiments/drive_isbi.py --data DIR [--only drive_flow] [--seeds 0 1 2]``

``DIR`` holds ``vessels/`` and ``isbi2012/``. Writes ``experiments/results/RECIPE.json`` with the
``metrics.json`` of every seed, for DRIVE ``drive_observer.json``, what the second human reaches against
the first, and one picture a data set. A training that is finished in its run folder is not repeated.
The photographs may not be published, so the pictures hold predictions alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.train.datasets import FOLDERS, build_datasets
from flowcut.train.fit import fit, plain_scores
from flowcut.train.pictures import look_inside
from flowcut.train.recipe import Recipe
from flowcut.train.recipe_file import read_recipe
from flowcut.vision.checkpoints import load_checkpoint
from flowcut.vision.data import DriveVessels
from flowcut.vision.panel import colour_labels, draw_panel, encode_png
from flowcut.vision.predict import default_metrics

HERE = Path(__file__).parent
HEADS = {"base": "without head", "softcut": "with SoftCut", "flow": "with the linear flow"}
RECIPES = [f"{data}_{head}" for data in ("drive", "isbi") for head in HEADS]
SHOWN = 2


def recipe_of(name: str, data: Path, seed: int) -> Recipe:
    """A committed recipe with the folder of its data and a seed."""
    recipe = read_recipe(HERE / f"{name}.yaml")
    root = str(data / FOLDERS[recipe.dataset.kind])
    return replace(
        recipe,
        dataset=replace(recipe.dataset, root=root),
        training=replace(recipe.training, seed=seed),
    )


def finished(folder: Path, recipe: Recipe) -> bool:
    """Whether a run folder holds a finished training by this very recipe, wherever its data lay."""
    if not (folder / "metrics.json").is_file():
        return False
    before = read_recipe(folder / "recipe.yaml")
    return replace(before, dataset=replace(before.dataset, root=recipe.dataset.root)) == recipe


def train(name: str, data: Path, runs: Path, seed: int) -> dict[str, Any]:
    """Metrics of one training, from its run folder where it is finished there."""
    folder, recipe = runs / f"{name}_{seed}", recipe_of(name, data, seed)
    if not finished(folder, recipe):
        print(f"{name}, seed {seed}", flush=True)
        fit(recipe, folder, overwrite=True)
    return {"seed": seed} | json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def second_observer(data: Path) -> dict[str, Any]:
    """Scores of the second human's masks against the first's, inside the field of view."""
    metrics = default_metrics(2)
    first, second = (DriveVessels(data / FOLDERS["drive"], "test", observer=n) for n in (1, 2))
    for truth, other in zip(first, second, strict=True):
        labels = other["target"].masked_fill(other["target"] == 255, 0)
        for metric in metrics.values():
            metric.update(labels[None], truth["target"][None])
    return {"test": plain_scores({name: metric.compute() for name, metric in metrics.items()})}


def picture(data_name: str, data: Path, runs: Path, seed: int) -> bytes:
    """Predictions of the three networks on the first test pictures, inside the field of view."""
    test: Any = build_datasets(recipe_of(f"{data_name}_base", data, seed).dataset).test
    columns: dict[str, list[Tensor]] = {}
    for head, title in HEADS.items():
        network = load_checkpoint(runs / f"{data_name}_{head}_{seed}" / "best.pt")[0]
        for item in (test[i] for i in range(SHOWN)):
            labels = look_inside(network, item["image"])["labels"].masked_fill(item["target"] == 255, 0)
            blank = torch.full_like(item["image"], 0.15)
            columns.setdefault(title, []).append(colour_labels(blank, labels, opacity=1.0))
    return encode_png(draw_panel(columns, height=320))


def write(path: Path, content: bytes) -> None:
    """Write a result, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a result as JSON."""
    write(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def main() -> None:
    """Train what is not yet trained and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds vessels/ and isbi2012/")
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=RECIPES, help="recipes")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run folders")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        made = [train(name, options.data, options.runs, seed) for seed in options.seeds]
        write_json(options.output / f"{name}.json", {"runs": made})
    if "drive_base" in options.only:
        write_json(options.output / "drive_observer.json", second_observer(options.data))
    for data_name in ("drive", "isbi"):
        if {f"{data_name}_{head}" for head in HEADS} <= set(options.only):
            shown = picture(data_name, options.data, options.runs, options.seeds[0])
            write(options.output / f"{data_name}.png", shown)


if __name__ == "__main__":
    main()
