"""A mask from a picture and a few scribbles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.neighborhood import Neighborhood
from flowcut.core.ties import ties_of
from flowcut.cut.expansion import alpha_expansion
from flowcut.cut.max_flow import max_flow
from flowcut.cut.random_walker import random_walker
from flowcut.cut.soft_cut import soft_cut
from flowcut.flow.distances import kmeans
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.pictures import VOID

__all__ = ["Method", "ScribbleSettings", "Scribbled", "colour_posterior", "segment_scribbles"]

Method = Literal["random_walker", "soft_cut", "max_flow"]

_CONTRAST = {"soft_cut": 3.0, "max_flow": 1.0}
# Of a colour model that is the uniform density, so that a colour nobody marked is evidence of nothing.
_UNIFORM = 0.01
# Added to the covariance of every Gaussian: colours closer than a hundredth are one.
_LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class ScribbleSettings:
    """How strongly what counts.

    Parameters
    ----------
    beta
        Contrast of "random_walker", see :func:`flowcut.random_walker`, >= 0.
    contrast
        Of the edges of the other two: exp(-contrast * squared difference / its mean over the picture), > 0.
        None: 3 with "soft_cut", 1 with "max_flow". Like the other defaults these did best, or as well as
        any, on 30 of the GrabCut pictures.
    confidence
        Of "soft_cut": how strongly a pixel holds on to the colour models, > 0, beside edges of 1.
    strength
        Of "max_flow": what an edge between equal pixels costs, > 0, beside log-likelihoods.
    connectivity
        Of the edges of these two, as in scikit-image: 1 to the number of axes.
    components
        Gaussians of the colour model of each label, >= 1.
    seed
        Of the start of k-means.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    beta: float = 4000.0
    contrast: float | None = None
    confidence: float = 0.001
    strength: float = 30.0
    connectivity: int = 2
    components: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contrast", "confidence", "strength"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a finite number > 0, got {value}")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta: expected a finite number >= 0, got {self.beta}")
        for name in ("connectivity", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {getattr(self, name)}")


class Scribbled(NamedTuple):
    """What scribbles give.

    Attributes
    ----------
    labels
        (*spatial) int64.
    probabilities
        (J, *spatial), of the type of the picture, sum 1; 0 and 1 alone from "max_flow".
    """

    labels: Tensor
    probabilities: Tensor


def segment_scribbles(
    image: Tensor,
    seeds: Tensor,
    method: Method = "soft_cut",
    settings: ScribbleSettings | None = None,
) -> Scribbled:
    """Label every pixel of a picture, given the labels of a few.

    Parameters
    ----------
    image
        (C, *spatial) float, for example a picture in [0, 1].
    seeds
        (*spatial) integer: 0 to J - 1 where a label is marked, 255 elsewhere. J >= 2, every label marked.
    method
        "random_walker": contrast alone. "soft_cut": the random walker with prior models (Grady, CVPR 2005):
        colour models of the marked pixels hold every pixel with some confidence. "max_flow": the labeling of
        minimum energy of the same colour models and edges; for J > 2 by expansion moves.
    settings
        Default: :class:`ScribbleSettings` as it stands.

    Returns
    -------
    Scribbled
        Marked pixels keep their labels.

    Raises
    ------
    TypeError
        ``image`` is not floating point, or ``seeds`` are no integers.
    ValueError
        Sizes differ, the picture is not finite, nothing or one label alone is marked, a label between is not,
        or the method is unknown.

    Examples
    --------
    >>> image = torch.tensor([[[0.1, 0.1, 0.2, 0.8, 0.9, 0.9]]])
    >>> seeds = torch.tensor([[0, 255, 255, 255, 255, 1]])
    >>> segment_scribbles(image, seeds, "random_walker").labels
    tensor([[0, 0, 0, 1, 1, 1]])
    """
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {get_args(Method)}, got {method!r}")
    settings = settings or ScribbleSettings()
    count = _check(image, seeds)
    image = image.detach()
    if method == "random_walker":
        marked = torch.where(seeds == VOID, 0, seeds.long() + 1).cpu().numpy()
        walked = random_walker(
            image.double().cpu().numpy(), marked, settings.beta, return_full_prob=True, channel_axis=0
        )
        return _labelled(torch.from_numpy(walked).to(image.device), image.dtype, seeds)
    neighborhood = Neighborhood.edges(image.ndim - 1, min(settings.connectivity, image.ndim - 1))
    posterior = colour_posterior(image, seeds, settings.components, settings.seed)
    beta = settings.contrast or _CONTRAST[method]
    contrast = ContrastEdges(neighborhood, strength=1.0, beta=beta, floor=1e-6, relative=True)
    with torch.no_grad():
        edges = contrast.to(image.device)(image[None].double())
        if method == "soft_cut":
            found = _soft_cut(posterior, edges, seeds, neighborhood, settings.confidence)
            return _labelled(found, image.dtype, seeds)
        labels = _min_cut(posterior, settings.strength * edges, seeds, neighborhood)
    one_hot = F.one_hot(labels, count).movedim(-1, 0)
    return Scribbled(labels, one_hot.to(image.dtype))


def colour_posterior(image: Tensor, seeds: Tensor, components: int = 5, seed: int = 0) -> Tensor:
    """Probability of every label at every pixel by its colour alone, all labels equally likely.

    The colours of the marked pixels of a label are clustered by k-means; each cluster gives a Gaussian
    (Rother, Kolmogorov and Blake, SIGGRAPH 2004), and one hundredth of the model is the uniform density on
    [0, 1]^C.

    Parameters
    ----------
    image, seeds
        As for :func:`segment_scribbles`.
    components
        Gaussians a label, >= 1; fewer where fewer colours are marked.
    seed
        Of k-means.

    Returns
    -------
    Tensor
        (J, *spatial) float64, > 0, sum 1.

    Examples
    --------
    >>> image = torch.tensor([[[0.1, 0.12, 0.9]]])
    >>> colour_posterior(image, torch.tensor([[0, 255, 1]])).argmax(dim=0)
    tensor([[0, 0, 1]])
    """
    count = _check(image, seeds)
    colours = image.detach().double().flatten(1).T
    marked = seeds.flatten()
    density = torch.stack(
        [_log_density(colours, colours[marked == j], components, seed) for j in range(count)]
    )
    uniform = math.log(_UNIFORM)
    blended = torch.logaddexp(density + math.log1p(-_UNIFORM), torch.full_like(density, uniform))
    return blended.softmax(dim=0).reshape(count, *image.shape[1:])


def _check(image: Tensor, seeds: Tensor) -> int:
    """The number of labels of what fits together."""
    check_floating("image", image)
    if image.ndim < 2:
        raise ValueError(f"image: expected (C, *spatial), got {tuple(image.shape)}")
    check_finite("image", image)
    if seeds.is_floating_point() or seeds.is_complex() or seeds.dtype == torch.bool:
        raise TypeError(f"seeds: expected integers, got {seeds.dtype}")
    if seeds.shape != image.shape[1:]:
        raise ValueError(f"seeds: expected shape {tuple(image.shape[1:])}, got {tuple(seeds.shape)}")
    found = torch.unique(seeds[seeds != VOID]).tolist()
    if not found:
        raise ValueError("seeds: expected marked pixels of two labels or more, got none")
    if found[0] < 0 or found[-1] >= VOID:
        raise ValueError(
            f"seeds: expected labels 0 to 254, or 255, got {found[0] if found[0] < 0 else found[-1]}"
        )
    if len(found) == 1:
        raise ValueError(f"seeds: expected marked pixels of two labels or more, got label {found[0]} alone")
    missing = sorted(set(range(found[-1] + 1)) - set(found))
    if missing:
        raise ValueError(f"seeds: expected every label 0 to {found[-1]}, got none of {missing[0]}")
    return len(found)


def _log_density(colours: Tensor, marked: Tensor, components: int, seed: int) -> Tensor:
    """(n,) logarithm of a mixture of Gaussians, one a cluster of the marked colours."""
    centres = kmeans(marked.T[None], min(components, len(np.unique(marked.cpu().numpy(), axis=0))), seed)
    nearest = torch.cdist(marked, centres).argmin(dim=1)
    channels, parts = marked.shape[1], []
    least = _LEAST_DEVIATION**2 * torch.eye(channels, dtype=marked.dtype, device=marked.device)
    for cluster in range(len(centres)):
        members = marked[nearest == cluster]
        if not len(members):
            continue
        mean = members.mean(dim=0)
        apart = members - mean
        factor = torch.linalg.cholesky(apart.T @ apart / len(members) + least)
        scaled = torch.linalg.solve_triangular(factor, (colours - mean).T, upper=False)
        normal = factor.diagonal().log().sum() + channels / 2 * math.log(2 * math.pi)
        share = math.log(len(members) / len(marked))
        parts.append(share - normal - scaled.square().sum(dim=0) / 2)
    return torch.stack(parts).logsumexp(dim=0)


def _soft_cut(
    posterior: Tensor, edges: Tensor, seeds: Tensor, neighborhood: Neighborhood, confidence: float
) -> Tensor:
    """Probabilities: (diag(d) + L) 1 = d, so potentials of scores that sum to 1 sum to 1."""
    marked = seeds != VOID
    one_hot = F.one_hot(torch.where(marked, seeds, 0).long(), len(posterior)).movedim(-1, 0)
    scores = torch.where(marked, one_hot.to(posterior.dtype), posterior)
    hold = torch.where(marked, torch.inf, confidence).to(posterior.dtype)
    found = soft_cut(scores[None], edges, hold[None, None], neighborhood=neighborhood)[0].clamp(min=0)
    # Labels are solved for one by one, each to a tolerance.
    return torch.where(marked, scores, found / found.sum(dim=0))


def _min_cut(posterior: Tensor, edges: Tensor, seeds: Tensor, neighborhood: Neighborhood) -> Tensor:
    """Labels of minimum energy among those that agree with the seeds."""
    unary = -posterior.log()
    degree = torch.zeros_like(unary[0])[None]
    for tie in ties_of(neighborhood, tuple(seeds.shape), seeds.device):
        tie.add_here(degree, edges[tie.own])
        tie.add_there(degree, edges[tie.own])
    # A pixel whose other labels cost more than all its ties together takes none of them, whatever the
    # neighbours are: as good as infinity.
    labels = torch.arange(len(unary), device=seeds.device).reshape(-1, *(1,) * seeds.ndim)
    pinned = torch.where(labels == seeds, 0.0, degree + 1)
    unary = torch.where(seeds != VOID, pinned, unary)
    if len(unary) == 2:
        return max_flow((unary[0] - unary[1])[None, None], edges, neighborhood)[0].long()
    return alpha_expansion(unary[None], edges, neighborhood=neighborhood)[0]


def _labelled(probabilities: Tensor, dtype: torch.dtype, seeds: Tensor) -> Scribbled:
    """The likelier label; marked pixels are what they were marked as."""
    labels = torch.where(seeds == VOID, probabilities.argmax(dim=0), seeds.long())
    return Scribbled(labels, probabilities.to(dtype))
