"""A U-Net trained from scribbles alone: without a head, with a SoftCut, with a random walker."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.train.reproduce.experiment import Workspace
from flowcut.train.reproduce.scribbles_methods import score
from flowcut.vision.losses import CrossEntropyLoss
from flowcut.vision.networks import TwoHeadUnet
from flowcut.vision.networks.headed import full_precision
from flowcut.vision.pictures import VOID
from flowcut.vision.walker_head import RandomWalkerHead

__all__ = ["HEADS", "Head", "Learned", "Plan", "hide_strokes", "train_from_scribbles"]

Head = Literal["no head", "SoftCut", "random walker"]
HEADS: tuple[Head, ...] = ("no head", "SoftCut", "random walker")
# Logit of a pixel that someone marked: a probability of 0.9999.
_SURE = 9.0
_CHANNELS = 5
_LINES = 20


@dataclass(frozen=True)
class Plan:
    """How networks are trained.

    Parameters
    ----------
    epochs, batch_size : int
    lr : float
        Of Adam.
    encoder : str
    decoder_channels : tuple of int
    """

    epochs: int
    batch_size: int
    lr: float
    encoder: str
    decoder_channels: tuple[int, ...]


@dataclass(frozen=True)
class Learned:
    """IoU and share of wrong pixels on each test picture, without and with scribbles at test time.

    Parameters
    ----------
    alone, pinned : dict of str to list of float
        By "iou" and "error"; ``alone`` is empty for the random walker, which has nowhere to go.
    """

    alone: dict[str, list[float]]
    pinned: dict[str, list[float]]


def train_from_scribbles(
    name: str,
    head: Head,
    plan: Plan,
    seed: int,
    train: Sequence[Any],
    test: Sequence[Any],
    workspace: Workspace,
) -> Learned:
    """Train and test, or read what was learned before.

    Parameters
    ----------
    name : str
        Of the file in the workspace.
    head : str
    plan : Plan
    seed : int
        Of weights, order, flips and hidden strokes.
    train, test : sequence of ScribbledItem
        All of one size. The truth of ``train`` is never looked at.
    workspace : Workspace

    Returns
    -------
    Learned
    """
    path: Path = workspace.folder / f"{name}.json"
    if not path.is_file():
        workspace.say(f"training from scribbles: {head}, seed {seed}")
        network = _trained(head, plan, seed, train)
        learned = _tested(network, head, test)
        with atomic_write(path) as file:
            file.write(json.dumps(vars(learned)).encode())
    return Learned(**json.loads(path.read_text(encoding="utf-8")))


def _trained(head: Head, plan: Plan, seed: int, train: Sequence[Any]) -> TwoHeadUnet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TwoHeadUnet(
            plan.encoder,
            in_channels=_CHANNELS,
            head=None if head == "no head" else SoftCut(),
            decoder_channels=plan.decoder_channels,
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=plan.lr)
    draws = np.random.default_rng(seed)
    network.train()
    for _ in range(plan.epochs):
        order = draws.permutation(len(train))
        for chosen in np.array_split(order, math.ceil(len(order) / plan.batch_size)):
            images, seeds = _batch([train[i] for i in chosen], draws)
            loss = _loss(network, head, images, seeds, draws)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def _batch(items: Sequence[Any], draws: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and scribbles, each mirrored or not."""
    images, seeds = [], []
    for item in items:
        flip = [-1] if draws.random() < 0.5 else []
        images.append(item["image"].flip(flip))
        seeds.append(item["seeds"].flip(flip))
    return torch.stack(images), torch.stack(seeds)


def _with_place(images: Tensor) -> Tensor:
    """Two channels more, from 0 to 1 down and to the right: who takes a picture aims at something."""
    height, width = images.shape[2:]
    down = torch.linspace(0, 1, height).reshape(1, 1, -1, 1).expand(len(images), 1, height, width)
    right = torch.linspace(0, 1, width).reshape(1, 1, 1, -1).expand(len(images), 1, height, width)
    return torch.cat([images, down, right], dim=1)


def _loss(
    network: TwoHeadUnet, head: Head, images: Tensor, seeds: Tensor, draws: np.random.Generator
) -> Tensor:
    if head != "random walker":
        return CrossEntropyLoss()(network(_with_place(images)), seeds)
    parts = [hide_strokes(one, draws) for one in seeds]
    pinned, asked = (torch.stack(part) for part in zip(*parts, strict=True))
    logits = RandomWalkerHead()(pinned, _edges(network, images))
    return CrossEntropyLoss("multiclass")(logits, asked)


def _edges(network: TwoHeadUnet, images: Tensor) -> Tensor:
    _, raw = network.raw_parts(_with_place(images))
    if raw is None:
        raise ValueError("network: expected a network with edges, got one without")
    return network.ties.read(full_precision(raw)) + 1e-6  # a softplus may round to 0, which would cut off


def hide_strokes(seeds: Tensor, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Split scribbles in two: those to be pinned, and those to be asked for.

    Split along a line, so that the walker has a way to go, with every label on the pinned side; where twenty
    lines have not, every second marked pixel is pinned, drawn by lot, and the first of each label.

    Parameters
    ----------
    seeds : Tensor
        (H, W), 255 where nothing is marked.
    draws : Generator

    Returns
    -------
    pinned, asked : Tensor
        (H, W) each; no pixel is marked in both.
    """
    places = torch.nonzero(seeds != VOID)
    labels = seeds[seeds != VOID]
    every = torch.unique(labels)
    for _ in range(_LINES):
        angle = draws.uniform(0, 2 * math.pi)
        along = places.double() @ torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
        kept = along <= along.quantile(draws.uniform(0.3, 0.7))
        if len(torch.unique(labels[kept])) == len(every) and not bool(kept.all()):
            break
    else:
        kept = torch.from_numpy(draws.random(len(places)) < 0.5)
        for label in every.tolist():
            kept[int(torch.nonzero(labels == label)[0])] = True
    pinned, asked = torch.full_like(seeds, VOID), torch.full_like(seeds, VOID)
    for result, part in ((pinned, kept), (asked, ~kept)):
        rows, columns = places[part].T
        result[rows, columns] = labels[part]
    return pinned, asked


@torch.no_grad()
def _tested(network: TwoHeadUnet, head: Head, test: Sequence[Any]) -> Learned:
    alone: dict[str, list[float]] = {}
    pinned: dict[str, list[float]] = {}
    for item in test:
        images, seeds = item["image"][None], item["seeds"][None]
        if head != "random walker":
            _note(alone, network(_with_place(images))[0, 0] > 0, item)
        _note(pinned, _with_scribbles(network, head, images, seeds), item)
    return Learned(alone, pinned)


def _with_scribbles(network: TwoHeadUnet, head: Head, images: Tensor, seeds: Tensor) -> Tensor:
    """(H, W) bool, given scribbles; without a head they change the marked pixels alone."""
    if head == "random walker":
        found: Tensor = RandomWalkerHead()(seeds, _edges(network, images))[0].argmax(dim=0) == 1
        return found
    parts = network.forward_parts(_with_place(images))
    marked = (seeds != VOID)[:, None]
    scores = torch.where(marked, _SURE * (2.0 * (seeds == 1)[:, None] - 1), parts["scores"])
    if head == "no head":
        return scores[0, 0] > 0
    return soft_cut(scores, parts["edges"], torch.where(marked, torch.inf, 1.0))[0, 0] > 0


def _note(into: dict[str, list[float]], labels: Tensor, item: Any) -> None:
    for key, value in zip(("iou", "error"), score(labels, item["target"], item["seeds"]), strict=True):
        into.setdefault(key, []).append(value)
