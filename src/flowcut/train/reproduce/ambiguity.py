"""A photograph that shows two subjects at once, and the Potts model of what it shows (RAF Fig. 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flowcut.core.edges import edges_from_axes
from flowcut.cut.random_walker import random_walker
from flowcut.joint.energy import PottsEnergy
from flowcut.train.reproduce.kinds.superpixels import Photograph, photograph

__all__ = ["SUBJECTS", "Ambiguity", "ambiguity", "shares"]

# Labels 1 and 2; 0 is the background.
SUBJECTS = ("cat", "astronaut")
# What is cut out of a photograph, so that the two heads cover each other: top, left, height, width.
_PARTS: dict[Photograph, tuple[int, int, int, int]] = {
    "chelsea": (0, 15, 300, 360),
    "astronaut": (12, 115, 188, 226),
}
# Seeds, as ellipses around the middle in shares of the picture: half height, half width.
_INSIDE, _OUTSIDE = (0.32, 0.20), (0.50, 0.43)
# Of the random walker; so strong that it stops at the outline of the hair.
_BETA = 600.0
# No pixel away from the seeds is sure: probabilities stay this far from 0 and 1.
_DOUBT = 0.02


class Ambiguity(NamedTuple):
    """The picture and its law.

    Attributes
    ----------
    photographs
        The two subjects, (3, H, W) in [0, 1].
    image
        (3, H, W): half of each.
    seeds
        (H, W) int64: 1 outside, 2 inside, 0 where the random walker walks.
    inside
        (H, W) in (0, 1): how likely a pixel is part of a subject, whichever it is.
    region
        (H, W) bool: where that is likelier than not.
    energy
        J = 3: background, cat, astronaut.
    """

    photographs: tuple[Tensor, Tensor]
    image: Tensor
    seeds: Tensor
    inside: Tensor
    region: Tensor
    energy: PottsEnergy


def ambiguity(height: int, strength: float, tie: float, contrast: float) -> Ambiguity:
    """Blend two photographs half and half, and say what each pixel may be.

    Where the subjects are is found by a random walker from seeds, with probability q. A pixel of the blend
    is as far from either photograph as from the other, so both subjects cost the same:
    unary = strength (-log(1 - q), -log q, -log q). Two neighbours whose colours differ by d pay, where their
    labels differ, tie + contrast exp(-d^2 / (2 mean d^2)). Exchanging the subjects leaves every energy as it
    is, so all labelings with the one have together exactly the probability of all with the other.

    Parameters
    ----------
    height
        In pixels, >= 8; the width is 1.2 times as much.
    strength
        Of the evidence, > 0.
    tie
        Cost of a border whatever the colours, > 0. Two labels keep together over any distance where all
        ties are above log(1 + sqrt 2) = 0.88.
    contrast
        Additional cost where colours are equal, >= 0.

    Returns
    -------
    Ambiguity

    Examples
    --------
    >>> found = ambiguity(20, 0.6, 1.0, 0.8)
    >>> found.energy.shape, bool(found.region[10, 12]), bool(found.region[0, 0])
    ((3, 20, 24), True, False)
    """
    size = (height, round(1.2 * height))
    first, second = (_part(name, size) for name in ("chelsea", "astronaut"))
    image = (first + second) / 2
    seeds = _seeds(size)
    pixels = image.double().numpy()
    walked = random_walker(pixels, seeds.numpy(), _BETA, return_full_prob=True, channel_axis=0)
    inside = torch.from_numpy(walked)[1].clamp(_DOUBT, 1 - _DOUBT)
    unary = -strength * torch.stack([1 - inside, inside, inside]).log()
    squares = [image.diff(dim=axis).square().sum(dim=0).double() for axis in (1, 2)]
    mean = torch.cat([square.flatten() for square in squares]).mean()
    edges = edges_from_axes([tie + contrast * (-square / (2 * mean)).exp() for square in squares])
    energy = PottsEnergy(unary[None], edges[None])
    return Ambiguity((first, second), image, seeds, inside, inside > 0.5, energy)


def shares(labels: Tensor, region: Tensor) -> Tensor:
    """How far the pixels of a region that show a subject agree on which.

    Parameters
    ----------
    labels
        (M, H, W), 0 to 2.
    region
        (H, W) bool, not empty.

    Returns
    -------
    Tensor
        (M, 2) float64: pixels with label 1, and with label 2, over those with either. Where either have less
        than half of the region, over half of the region: what is missing is no whole subject.

    Examples
    --------
    >>> region = torch.tensor([[True, True, True, True, False]])
    >>> shares(torch.tensor([[[1, 1, 1, 2, 2]], [[1, 0, 0, 0, 0]]]), region).tolist()
    [[0.75, 0.25], [0.5, 0.0]]
    """
    inner = labels[:, region]
    counts = torch.stack([(inner == subject).sum(dim=1) for subject in (1, 2)], dim=1).double()
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=int(region.sum()) / 2)


def _part(name: Photograph, size: tuple[int, int]) -> Tensor:
    top, left, height, width = _PARTS[name]
    cut = photograph(name)[None, :, top : top + height, left : left + width]
    return interpolate(cut, size, mode="bilinear", antialias=True)[0]


def _seeds(size: tuple[int, int]) -> Tensor:
    """A smaller ellipse inside, all beyond a larger one outside."""
    rows, columns = torch.meshgrid(
        *(((torch.arange(n) + 0.5) / n - 0.5).double() for n in size), indexing="ij"
    )
    seeds = torch.zeros(size, dtype=torch.int64)
    for (half_height, half_width), label in ((_INSIDE, 2), (_OUTSIDE, 1)):
        within = (rows / half_height) ** 2 + (columns / half_width) ** 2 < 1
        seeds[within if label == 2 else ~within] = label
    return seeds
