"""What `flowcut demo` does: a network twice, labels from noise, samplers of a small model, and a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowcut.apps.output import mean_and_error, show
from flowcut.apps.page import demo_page
from flowcut.apps.work.demo_ising import sample_ising
from flowcut.apps.work.demo_noise import learn_from_noise
from flowcut.core.atomic import prepare_folder
from flowcut.train.fit import FitResult, fit, plain_scores, say_on_stderr
from flowcut.train.pictures import look_inside
from flowcut.train.recipe import DataRecipe, NetworkRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from flowcut.train.run_folder import write_text
from flowcut.vision.metrics import DistinctFigures
from flowcut.vision.panel import colour_edges, colour_labels, colour_scores, encode_png

__all__ = ["demo_recipe", "run"]

_VALIDATION, _TEST, _SHOWN = 24, 48, 6
_NOISE = 0.2
_FLOW_SIZE, _FLOW_STEPS = 192, 20
_ISING_STEPS = 500


def demo_recipe(options: Namespace) -> Recipe:
    """The recipe both networks share, head on.

    Parameters
    ----------
    options : Namespace
        ``epochs``, ``pictures``, ``size`` and ``seed``, as declared in
        :mod:`flowcut.apps.commands.demo`.

    Returns
    -------
    Recipe
    """
    return Recipe(
        dataset=DataRecipe(
            kind="texture_mosaic",
            size=(options.size, options.size),
            lengths=(options.pictures, _VALIDATION, _TEST),
            # Strong enough that a few pixels do not tell the textures apart.
            noise=_NOISE,
            split_seed=options.seed,
        ),
        network=NetworkRecipe(width=16, head="soft_cut"),
        # At 1e-2 the edges have been seen to become constant.
        optimizer=OptimizerRecipe(lr=4e-3),
        training=TrainingRecipe(epochs=options.epochs, batch_size=8, seed=options.seed, device="cpu"),
    )


def _true_figures(dataset: Dataset[Any]) -> dict[str, float | int | None]:
    metric = DistinctFigures()
    for batch in DataLoader(dataset):
        metric.update(batch["target"], batch["target"])
    return plain_scores({"true": metric.compute()})["true"]


def _columns(base: FitResult, cut: FitResult) -> dict[str, list[bytes]]:
    columns: dict[str, list[bytes]] = {}
    test: Any = cut.splits.test
    for i in range(min(_SHOWN, len(test))):
        image: Tensor = test[i]["image"]
        plain, inside = look_inside(base.network, image), look_inside(cut.network, image)
        pictures = {
            "image": image,
            "truth": colour_labels(image, test[i]["target"]),
            "without head": colour_labels(image, plain["labels"]),
            "with SoftCut": colour_labels(image, inside["labels"]),
            "scores": colour_scores(inside["scores"][0]),
            "edges": colour_edges(inside["edges"]),
        }
        for title, picture in pictures.items():
            columns.setdefault(title, []).append(encode_png(picture))
    return columns


def _train(recipe: Recipe, folder: Path) -> dict[str, FitResult]:
    """The network without its head, and with it."""
    recipes = {"base": replace(recipe, network=replace(recipe.network, head="none")), "soft_cut": recipe}
    fits: dict[str, FitResult] = {}
    for name, its in recipes.items():
        say_on_stderr(
            f"training {'with a SoftCut head' if its.network.head == 'soft_cut' else 'without head'}"
        )
        fits[name] = fit(its, folder / name, overwrite=True)
    return fits


def run(options: Namespace) -> dict[str, Any]:
    """Train both networks, learn a flow, sample an Ising model, write ``index.html`` and ``demo.json``.

    Parameters
    ----------
    options : Namespace
        As declared in :mod:`flowcut.apps.commands.demo`.

    Returns
    -------
    dict
        What ``demo.json`` holds.
    """
    recipe = demo_recipe(options)
    folder = prepare_folder(options.output, "--output")
    fits = _train(recipe, folder)
    say_on_stderr("learning the weights of an assignment flow from pure noise")
    from_noise, noise_pictures = learn_from_noise(_FLOW_SIZE, _FLOW_STEPS, options.seed)
    say_on_stderr("sampling a small Ising model beside its exact law")
    ising, ising_pictures = sample_ising(_ISING_STEPS, options.seed)
    result = {
        "from_noise": from_noise,
        "ising": ising,
        "train": options.pictures,
        "test": _TEST,
        "epochs": options.epochs,
        "size": [options.size, options.size],
        "seed": options.seed,
        "noise": _NOISE,
        "true_figures": _true_figures(fits["base"].splits.test),
        "networks": {
            name: made.metrics | {"checkpoint": str(made.run.weights), "history": made.history}
            for name, made in fits.items()
        },
    }
    page = folder / "index.html"
    columns = _columns(fits["base"], fits["soft_cut"])
    write_text(page, demo_page(result, columns, noise_pictures, ising_pictures))
    write_text(folder / "demo.json", json.dumps(result, indent=2, sort_keys=True) + "\n")
    ious = {name: mean_and_error(made.metrics["test"]["iou"]) for name, made in fits.items()}
    kl = {name: f"{found['kl']:.3f}" for name, found in ising["methods"].items()}
    show(
        f"{Path(page)}: IoU {ious['base']} without head, {ious['soft_cut']} with a SoftCut head; from noise "
        f"{from_noise['wrong_uniform']:.1%} wrong with uniform weights, "
        f"{from_noise['wrong_learned']:.2%} learned; Ising model: "
        f"KL {kl['flow']} by a randomized flow, {kl['mean_field']} by mean field",
        json=options.json,
    )
    return result
