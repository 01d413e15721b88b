"""What cleans up a network's output: ours and others', as they are and fitted to a few labelled pictures."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowcut.core.atomic import atomic_write
from flowcut.train.reproduce.refine_peers import DENSE, FILTER, DenseCrf, FilterCrf, installed
from flowcut.vision.labels import num_labels, predict_labels
from flowcut.vision.metrics import DistinctFigures, IoU, MeanIoU
from flowcut.vision.refine import Refiner
from flowcut.vision.refine_fit import fit_refiner

__all__ = ["WAYS", "Item", "Measured", "Plan", "System", "measured", "systems"]

WAYS = ("as it is", "fitted")


class Item(NamedTuple):
    """What a network says of a picture, the picture, and the truth: (C, H, W), (3, H, W), (H, W)."""

    logits: Tensor
    image: Tensor
    target: Tensor


@dataclass(frozen=True)
class Plan:
    """How scalars are fitted.

    Parameters
    ----------
    steps : int
        Of Adam, >= 0.
    lr : float
        Learning rate, > 0.
    loss : str
        Of :func:`flowcut.vision.refine_fit.fit_refiner`.
    """

    steps: int
    lr: float
    loss: str


@dataclass(frozen=True)
class Measured:
    """On each test picture.

    Parameters
    ----------
    iou, figures : list of float
        Mean IoU of the classes that occur in the picture (the foreground's for two), and number of figures.
    mean_iou : float
        Mean over the classes of the IoU of all pixels.
    seconds : list of float
    fit_seconds : float
    numbers : dict
        The scalars.
    """

    iou: list[float]
    figures: list[float]
    mean_iou: float
    seconds: list[float]
    fit_seconds: float
    numbers: dict[str, float]


@dataclass(frozen=True)
class System:
    """A method: what makes it, and what fits it.

    Parameters
    ----------
    name : str
    make : callable, optional
        Makes a module that is called with logits and a picture; takes the numbers of :class:`Measured`.
        None: what it needs is not installed.
    fit : callable, optional
        ``fit(module, items, plan) -> module``. None: nothing to be fitted.
    like : str, optional
        The system whose numbers this one is fitted with: what stands in for it is that system.
    """

    name: str
    make: Callable[..., nn.Module] | None
    fit: Callable[[nn.Module, Sequence[Item], Plan], nn.Module] | None
    like: str | None = None

    @property
    def ways(self) -> tuple[str, ...]:
        """How it is used: as it is, and fitted where there is something to be fitted."""
        return WAYS if self.fit or self.like else WAYS[:1]


def systems(classes: int) -> list[System]:
    """Ours and others, for a number of labels; the first is the network alone.

    Parameters
    ----------
    classes : int
        >= 2. The minimum cut is found by one cut for two, by expansion moves for more.

    Returns
    -------
    list of System

    Examples
    --------
    >>> [system.name for system in systems(2)][:3]
    ['the network alone', 'SoftCut', 'total variation']
    """
    cut = "max_flow" if classes == 2 else "alpha_expansion"
    return [
        System("the network alone", _Alone, None),
        System("SoftCut", partial(Refiner, "soft_cut"), _by_gradient),
        System("total variation", partial(Refiner, "total_variation"), _by_gradient),
        System("minimum cut", partial(Refiner, cut), None, like="total variation"),
        System("assignment flow", partial(Refiner, "linear_assignment_flow"), _by_gradient),
        System("crfseg", FilterCrf if installed(FILTER) else None, _by_gradient),
        System("dense CRF", DenseCrf if installed(DENSE) else None, _by_grid),
    ]


class _Alone(nn.Module):
    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """The logits."""
        return logits


# What the dense CRF is fitted over: 54 ways, its defaults among them.
_GRID: Mapping[str, tuple[float, ...]] = {
    "smooth": (1.0, 3.0),
    "appearance": (2.0, 4.0, 10.0),
    "width": (10.0, 30.0, 80.0),
    "colour": (5.0, 13.0, 30.0),
}


def _by_gradient(module: nn.Module, items: Sequence[Item], plan: Plan) -> nn.Module:
    logits, images, targets = zip(*items, strict=True)
    fit_refiner(module, logits, images, targets, loss=plan.loss, steps=plan.steps, lr=plan.lr)  # type: ignore[arg-type]  # checked there
    return module


def _by_grid(module: nn.Module, items: Sequence[Item], plan: Plan) -> nn.Module:
    """The highest mean IoU; the first of the best, the defaults before all others."""
    ways = [
        module,
        *(DenseCrf(**dict(zip(_GRID, v, strict=True))) for v in itertools.product(*_GRID.values())),
    ]
    return max(ways, key=lambda way: statistics.mean(_score(way, items).iou))


def measured(
    system: System, path: Path, test: Sequence[Item], plan: Plan, given: Sequence[Item] | Measured | None
) -> Measured | None:
    """Score a system on the test pictures, or read what was measured before.

    Parameters
    ----------
    system : System
    path : Path
        Where it is kept.
    test : sequence of Item
    plan : Plan
    given : sequence of Item or Measured, optional
        Pictures to fit it to, or what has the numbers; None: as it is.

    Returns
    -------
    Measured or None
        None where the system is not installed.
    """
    if path.is_file():
        return Measured(**json.loads(path.read_text(encoding="utf-8")))
    if system.make is None:
        return None
    start = time.perf_counter()
    module = system.make(**given.numbers) if isinstance(given, Measured) else system.make()
    if given is not None and not isinstance(given, Measured) and system.fit is not None:
        module = system.fit(module, given, plan)
    spent = given.fit_seconds if isinstance(given, Measured) else time.perf_counter() - start
    result = Measured(**{**asdict(_score(module, test)), "fit_seconds": spent})
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(result)).encode())
    return result


def _score(module: nn.Module, items: Sequence[Item]) -> Measured:
    classes = num_labels(items[0].logits.shape[0])
    whole = MeanIoU(classes)
    iou: list[float] = []
    figures: list[float] = []
    seconds: list[float] = []
    module.eval()
    with torch.no_grad():
        module(items[0].logits[None], items[0].image[None])  # what is compiled at the first call is not timed
        for item in items:
            start = time.perf_counter()
            labels = predict_labels(module(item.logits[None], item.image[None]))
            seconds.append(time.perf_counter() - start)
            target = item.target[None]
            whole.update(labels, target)
            for metric, kept in ((IoU(classes), iou), (DistinctFigures(classes), figures)):
                metric.update(labels, target)
                kept.append(float(metric.compute().mean))
    numbers: Any = getattr(module, "scalars", dict)()
    return Measured(iou, figures, float(whole.compute().mean), seconds, 0.0, numbers)
