"""What the solve adds to a training step of the thesis' U-Net, and metrics to a pass of evaluation."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import ratio, summary
from benchmarks.options import Options
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.train.reproduce.gradient_watch import gradient_error
from flowcut.vision.data import TextureMosaic
from flowcut.vision.labels import predict_labels
from flowcut.vision.losses import DiceLoss
from flowcut.vision.networks import TwoHeadUnet
from flowcut.vision.predict import default_metrics

TITLE = "A training step of U-Net/ResNet-18 at 256²: at most 1.05 times the step without its solve"
TARGET = 1.05
BATCHES = (1, 8)
# A fresh network ties all pixels alike; after so many steps its edges follow the borders in the pictures.
LEARNING_STEPS, LEARNING_BATCH, LEARNING_SIDE = 60, 8, 64
# Largest relative error of the gradient that the solve may hand back.
ACCURACY = 1e-2
LEAST_ROUNDS = 7


class LeftOut(nn.Module):
    """A head that asks for edges and gives them a gradient, and solves nothing."""

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """The scores."""
        return scores + 0 * edges.sum(dim=1, keepdim=True)


def run(options: Options) -> dict[str, Any]:
    """Both steps take turns on one network with learned edges; the solve is also timed by itself."""
    # Below, one picture leaves its deepest level one pixel, of which a batch norm cannot take a mean.
    side, repeats = max(options.side(256), 64), options.effort.repeats[0]
    rounds = repeats if repeats < 3 else max(repeats, LEAST_ROUNDS)
    steps = LEARNING_STEPS if rounds >= 3 else 2
    network = learned(min(side, LEARNING_SIDE), steps)
    rows = [measure(network, side, batch, rounds) for batch in BATCHES]
    costs = evaluation(network, side, rounds)
    return {"size": [side, side], "learning_steps": steps, "rows": rows, "metrics": costs}


def learned(side: int, steps: int) -> TwoHeadUnet:
    """A network that has seen some pictures."""
    torch.manual_seed(0)
    network = TwoHeadUnet("resnet18", head=SoftCut()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(steps):
        images, target = pictures(LEARNING_BATCH, side, seed=step)
        optimizer.zero_grad()
        DiceLoss()(network(images), target).backward()
        optimizer.step()
    return network


def pictures(count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mosaics of real textures."""
    items = list(TextureMosaic(count, side, seed=seed))
    images, target = (torch.stack([item[key] for item in items]) for key in ("image", "target"))
    return images.contiguous(memory_format=torch.channels_last), target


def measure(network: TwoHeadUnet, side: int, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of the step with its solve, of the step without, and of the solve alone."""
    images, target = pictures(batch, side, seed=1000)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    network.eval()
    with torch.no_grad():
        parts = network.forward_parts(images)
    network.train()
    scores, edges = parts["scores"], parts["edges"]
    error = gradient_error(scores, edges, SoftCut().solver, lambda x: DiceLoss()(x, target))
    heads = {"with": SoftCut(), "without": LeftOut()}

    def step(head: nn.Module) -> None:
        network.head = head
        optimizer.zero_grad()
        DiceLoss()(network(images), target).backward()
        optimizer.step()

    def solve() -> None:
        inputs = [t.clone().requires_grad_() for t in (scores, edges)]
        soft_cut(*inputs).backward(torch.ones_like(scores))

    runs: dict[str, Callable[[], None]] = {
        **{name: lambda head=head: step(head) for name, head in heads.items()},
        "solve": solve,
    }
    seconds = in_turns(runs, rounds)
    network.head = heads["with"]
    both = ratio(seconds["with"], seconds["without"])
    alone = [a + b for a, b in zip(seconds["without"], seconds["solve"], strict=True)]
    return {
        "batch": batch,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratio": both,
        "ratio_of_parts": ratio(alone, seconds["without"]),
        "edges": {"mean": float(edges.mean()), "largest": float(edges.max())},
        "gradient_error": error["error"],
        "steps": [error["forward_steps"], error["adjoint_steps"]],
        "holds": error["error"] <= ACCURACY and both["median"] <= TARGET,
    }


def evaluation(network: TwoHeadUnet, side: int, rounds: int) -> dict[str, Any]:
    """Seconds of all metrics of a batch, beside those of the network on it."""
    images, target = pictures(BATCHES[-1], side, seed=2000)
    network.eval()
    with torch.no_grad():
        labels = predict_labels(network(images))
    metrics = default_metrics(2)

    def predict() -> None:
        with torch.no_grad():
            network(images)

    def update() -> None:
        for metric in metrics.values():
            metric.update(labels, target)

    seconds = in_turns({"network": predict, "metrics": update}, rounds)
    network.train()
    return {name: summary(values) for name, values in seconds.items()}


def in_turns(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """One after the other, every round in another order; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            start = time.perf_counter()
            runs[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """One row a batch size; and what metrics cost."""
    header = ["batch", "ratio (spread)", "ratio by the solve alone", "step, s", "solve, s"]
    header += ["CG steps forward, adjoint", "error of the gradient", f"≤ {TARGET}"]
    body = [_row(row) for row in result["rows"]]
    network, metrics = (result["metrics"][name]["median"] for name in ("network", "metrics"))
    costs = [[f"{network:.3f}", f"{metrics:.4f}", f"{metrics / network:.1%}"]]
    side, count = "×".join(map(str, result["size"])), result["learning_steps"]
    heading = f"{side}, float32, forward + backward + Adam; edges learned on {count} batches"
    share = ["network, s", "metrics, s", "share"]
    return [(heading, header, body), (f"A batch of {BATCHES[-1]} in evaluation", share, costs)]


def _row(row: dict[str, Any]) -> list[str]:
    both, parts = row["ratio"], row["ratio_of_parts"]
    return [
        str(row["batch"]),
        f"{both['median']:.3f} ({both['low']:.3f}–{both['high']:.3f})",
        f"{parts['median']:.3f} ({parts['low']:.3f}–{parts['high']:.3f})",
        _median(row["seconds"]["with"]["raw"]),
        _median(row["seconds"]["solve"]["raw"]),
        f"{row['steps'][0]:.0f}, {row['steps'][1]:.0f}",
        f"{row['gradient_error']:.0e}",
        "yes" if row["holds"] else "no",
    ]


def _median(values: Sequence[float]) -> str:
    return f"{summary(values)['median']:.3f}"
