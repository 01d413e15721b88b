"""LAF section 2.1: any graph; weights learned between the superpixels of a photograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from skimage import data
from skimage.segmentation import slic
from torch import Tensor

from flowcut.core.neighborhood import Graph
from flowcut.flow.distances import kmeans, label_distances
from flowcut.flow.weight_fit import WeightFit
from flowcut.train.reproduce.experiment import (
    Kind,
    Learning,
    Outcome,
    Row,
    Workspace,
    check_least,
    check_positive,
    percent,
)
from flowcut.train.reproduce.learn import learn, uniform_labels
from flowcut.vision.panel import colour_values, draw_panel

__all__ = ["KIND", "Photograph", "Settings", "photograph", "superpixel_graph"]

# Photographs that come with scikit-image, are in the public domain and may be published.
Photograph = Literal["astronaut", "chelsea", "coffee", "rocket"]


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Parameters
    ----------
    picture : str
        One of scikit-image's.
    superpixels : int
        About how many, >= 10.
    labels : int
        Prototypes that k-means chooses, >= 2.
    noise : float
        Standard deviation added to the mean colours (0 to 1), > 0.
    seed : int
        >= 0.
    learning : Learning
    """

    picture: Photograph = "coffee"
    superpixels: int = 1500
    labels: int = 5
    noise: float = 0.25
    seed: int = 0
    learning: Learning = field(default_factory=lambda: Learning(rho=0.2, time=3.0, steps=20))

    def __post_init__(self) -> None:
        check_least("superpixels", self.superpixels, 10)
        check_least("labels", self.labels, 2)
        check_least("seed", self.seed, 0)
        check_positive("noise", self.noise)


def photograph(name: Photograph) -> Tensor:
    """Read a photograph that comes with scikit-image.

    Parameters
    ----------
    name : str

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1].
    """
    pixels = np.asarray(getattr(data, name)(), dtype=np.float32) / 255
    return torch.from_numpy(pixels).movedim(-1, 0)


def superpixel_graph(regions: Tensor) -> Graph:
    """Ties between regions that share a border.

    Parameters
    ----------
    regions : Tensor
        (H, W) int64: 0 to n - 1, each at least once.

    Returns
    -------
    Graph

    Examples
    --------
    >>> superpixel_graph(torch.tensor([[0, 0, 1], [2, 2, 1]])).edge_index.tolist()
    [[0, 0, 1], [1, 2, 2]]
    """
    pairs = torch.cat(
        [
            torch.stack([regions[1:].flatten(), regions[:-1].flatten()]),
            torch.stack([regions[:, 1:].flatten(), regions[:, :-1].flatten()]),
        ],
        dim=1,
    )
    pairs = pairs[:, pairs[0] != pairs[1]].sort(dim=0).values
    return Graph(torch.unique(pairs, dim=1), int(regions.max()) + 1)


def run(settings: Settings, workspace: Workspace) -> Outcome:
    """Learn weights between superpixels.

    Parameters
    ----------
    settings : Settings
    workspace : Workspace

    Returns
    -------
    Outcome
    """
    image = photograph(settings.picture)
    regions = _regions(image, settings.superpixels)
    graph = superpixel_graph(regions)
    clean = _means(image, regions, graph.num_nodes)
    prototypes = kmeans(clean, settings.labels, settings.seed)
    truth = label_distances(clean, prototypes).argmin(dim=1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(settings.seed))
    noisy = clean + settings.noise * noise
    distances = label_distances(noisy, prototypes)
    fit = learn(distances, truth, settings.learning, workspace, "graph", graph=graph)
    uniform = uniform_labels(distances, settings.learning, graph=graph)
    alone = distances.argmin(dim=1)
    shares = {
        "alone": float((alone != truth).double().mean()),
        "uniform": float((uniform != truth).double().mean()),
        "learned": fit.wrong[-1],
    }
    columns = {
        "photograph": [image],
        "noisy superpixels": [noisy[0][:, regions]],
        f"each by itself: {percent(shares['alone'])} wrong": [prototypes[alone[0][regions]].movedim(-1, 0)],
        f"uniform weights: {percent(shares['uniform'])}": [prototypes[uniform[0][regions]].movedim(-1, 0)],
        f"learned weights: {percent(shares['learned'])}": [prototypes[fit.labels[0][regions]].movedim(-1, 0)],
        "entropy of the weights": [colour_values(_entropy(fit, graph)[regions], 0.0, 1.0)],
    }
    values = {
        **shares,
        "nodes": graph.num_nodes,
        "ties": len(graph),
        "losses": fit.losses,
        "wrong": fit.wrong,
    }
    rows = (
        Row("superpixels, ties", "any graph", f"{graph.num_nodes}, {len(graph)}"),
        Row("wrong superpixels, each by itself", "", percent(shares["alone"])),
        Row("wrong superpixels, uniform weights", "", percent(shares["uniform"])),
        Row("wrong superpixels, learned weights", "", percent(shares["learned"])),
        Row("learning", "", f"{fit.seconds[-1]:.2f} s", timed=True),
    )
    return Outcome(rows, values, {"learning": fit.seconds[-1]}, draw_panel(columns, height=180))


def _regions(image: Tensor, count: int) -> Tensor:
    """(H, W) int64: superpixels, numbered without gaps."""
    found = slic(image.movedim(0, -1).numpy(), count, compactness=15, start_label=0)
    return torch.unique(torch.from_numpy(found), return_inverse=True)[1]


def _means(image: Tensor, regions: Tensor, count: int) -> Tensor:
    """(1, 3, n): mean colour of every region."""
    sums = image.new_zeros(3, count).index_add_(1, regions.flatten(), image.flatten(1))
    return (sums / torch.bincount(regions.flatten(), minlength=count))[None]


def _entropy(fit: WeightFit, graph: Graph) -> Tensor:
    """(n,): entropy of each node's weights over its largest value, the logarithm of how many there are."""
    degree = torch.bincount(graph.edge_index.flatten(), minlength=graph.num_nodes) + 1
    return fit.entropy[0] / degree.clamp(min=2).log()


KIND = Kind("laf_superpixels", Settings, run)
