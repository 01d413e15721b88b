"""One training on volumes, kept when it is done, and the scores of its network volume by volume."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowcut.core.atomic import atomic_write
from flowcut.train.reproduce.experiment import check_least, check_positive
from flowcut.vision.checkpoints import load_checkpoint, save_checkpoint
from flowcut.vision.evaluating import evaluating
from flowcut.vision.labels import predict_labels
from flowcut.vision.losses import CrossEntropyLoss, DiceLoss
from flowcut.vision.metrics import Dice, DistinctFigures
from flowcut.vision.networks import build_network
from flowcut.vision.pictures import VOID
from flowcut.vision.volumes import fit_volume

__all__ = ["VolumeTrainer", "VolumeTraining", "random_crop", "score_volume"]

_NETWORK, _SCORES = "network.pt", "scores.json"


@dataclass(frozen=True)
class VolumeTraining:
    """A finished training.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    losses : list of float
        One a step.
    scores : mapping
        By name of a metric, its value on each test volume.
    seconds : float
        Of a step: the median, for the first ones compile kernels.
    """

    network: nn.Module
    losses: list[float]
    scores: Mapping[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class VolumeTrainer:
    """How volumes are learned: one random crop a step, cross-entropy plus Dice loss, Adam.

    The learning rate falls linearly to zero. What is seen in which order depends on the seed alone, so that
    two systems with one seed are a pair.

    Parameters
    ----------
    steps : int
        >= 1.
    lr : float
        Learning rate at the start, > 0.
    crop : tuple of int
        Voxels along each axis, >= 1.
    precision : str
        ``32``, or ``bf16`` for convolutions in bfloat16; the head is always solved in float32.
    """

    steps: int = 800
    lr: float = 0.002
    crop: tuple[int, int, int] = (32, 48, 32)
    precision: str = "bf16"

    def __post_init__(self) -> None:
        check_least("training.steps", self.steps, 1)
        check_positive("training.lr", self.lr)
        check_least("training.crop", min(self.crop), 1)
        if self.precision not in ("32", "bf16"):
            raise ValueError(f"training.precision: expected 32 or bf16, got {self.precision}")

    def run(
        self, config: Mapping[str, Any], seed: int, train: Any, test: Any, folder: Path
    ) -> VolumeTraining:
        """Train and score, or read what was trained before.

        Parameters
        ----------
        config : mapping
            Of :func:`flowcut.vision.networks.build_network`.
        seed : int
            Of weights, order and crops.
        train, test : Dataset
            Items with ``image`` (channels, D, H, W) and ``target`` (D, H, W).
        folder : path
            Where network and scores are kept.

        Returns
        -------
        VolumeTraining
        """
        # Making a network draws weights, from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            return self._run(config, seed, train, test, folder)

    def _run(
        self, config: Mapping[str, Any], seed: int, train: Any, test: Any, folder: Path
    ) -> VolumeTraining:
        if not (folder / _SCORES).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            network, losses, seconds = self._train(config, seed, train)
            with evaluating(network):
                scored = [score_volume(network, item) for item in _items(test)]
            scores = {name: [found[name] for found in scored] for name in scored[0]}
            save_checkpoint(folder / _NETWORK, network, config)
            # Last, for it says that all the rest is there.
            with atomic_write(folder / _SCORES) as file:
                done = {"losses": losses, "scores": scores, "seconds": seconds}
                file.write((json.dumps(done) + "\n").encode())
        network, _ = load_checkpoint(folder / _NETWORK)
        return VolumeTraining(network, **json.loads((folder / _SCORES).read_text(encoding="utf-8")))

    def _train(self, config: Mapping[str, Any], seed: int, data: Any) -> tuple[nn.Module, list[float], float]:
        torch.manual_seed(seed)
        network = build_network(config).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        entropy, dice = CrossEntropyLoss("multiclass"), DiceLoss("multiclass", class_reduction="mean")
        losses, seconds = [], []
        for image, target in self._crops(data, torch.Generator().manual_seed(seed)):
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = network(image)
            loss = entropy(logits, target) + dice(logits, target)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            seconds.append(time.perf_counter() - start)
        return network, losses, statistics.median(seconds)

    def _crops(self, data: Any, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """So many crops (1, channels, *crop) and targets, every volume once before any comes again."""
        for step in range(self.steps):
            if step % len(data) == 0:
                order = torch.randperm(len(data), generator=generator).tolist()
            item = data[order[step % len(data)]]
            yield random_crop(item["image"], item["target"], self.crop, generator)


def random_crop(
    image: Tensor, target: Tensor, size: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A part of a volume anywhere in it; axes that are too short are continued, the target by void.

    Parameters
    ----------
    image : Tensor
        (channels, D, H, W).
    target : Tensor
        (D, H, W) integer.
    size : sequence of int
        Of the part.
    generator : Generator

    Returns
    -------
    image : Tensor
        (1, channels, *size).
    target : Tensor
        (1, *size).

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> image, target = random_crop(
    ...     torch.rand(1, 4, 9, 9), torch.zeros(4, 9, 9).long(), (6, 5, 5), generator)
    >>> image.shape, target[0, :, 0, 0].tolist()
    (torch.Size([1, 1, 6, 5, 5]), [255, 0, 0, 0, 0, 255])
    """
    for axis, wanted in enumerate(size):
        room = target.shape[axis] - wanted
        if room > 0:
            start = int(torch.randint(room + 1, (), generator=generator))
            image, target = image.narrow(axis + 1, start, wanted), target.narrow(axis, start, wanted)
    channels = torch.stack([fit_volume(channel, size, fill=None) for channel in image])
    return channels[None], fit_volume(target, size, fill=VOID)[None]


def score_volume(network: nn.Module, item: Mapping[str, Any]) -> dict[str, float]:
    """How well a network labels one volume.

    Parameters
    ----------
    network : Module
        Gives logits (1, C, D, H, W) for (1, channels, D, H, W).
    item : mapping
        With ``image`` (channels, D, H, W) and ``target`` (D, H, W).

    Returns
    -------
    dict of str to float
        ``dice_1`` to ``dice_(C-1)`` of each class, ``dice``, their mean, and ``figures``, connected pieces
        of one class; the target's own number is ``figures_of_target``.
    """
    logits, target = network(item["image"][None]), item["target"][None]
    labels, classes = predict_labels(logits), logits.shape[1]
    found: dict[str, float] = {}
    for c in range(1, classes):
        # Of two labels, this one and any other.
        metric, mine = Dice(), torch.where(target == VOID, VOID, (target == c).long())
        metric.update((labels == c).long(), mine)
        found[f"dice_{c}"] = float(metric.compute().mean)
    found["dice"] = sum(found.values()) / (classes - 1)
    for name, given in (("figures", labels), ("figures_of_target", torch.where(target == VOID, 0, target))):
        figures = DistinctFigures(classes)
        figures.update(given, target)
        found[name] = float(figures.compute().mean)
    return found


def _items(data: Any) -> Iterator[Mapping[str, Any]]:
    return (data[i] for i in range(len(data)))
