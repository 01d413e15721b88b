r"""An energy from a picture and scribbles: what colours say, what neighbours say, and seeds that stay.

*Colours.* The colours of the seeds of label j are modelled by a few normal distributions, as in GrabCut
(Rother, Kolmogorov, Blake 2004), here spherical and of one variance s^2 for all:

    p_j(x) = 0.9 sum_k share_k (2 pi s^2)^(-3/2) exp(-|x - c_k|^2 / (2 s^2)) + 0.1

The last term is a uniform law on the cube of colours, so that a colour which no seed has is evidence for no
label. The cost of label j at a pixel is -log p_j, up to a common constant.

*Neighbours.* A tie costs ``ties`` where there is no contrast, and less across it, by the formula of
:func:`flowcut.random_walker`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.cut.random_walker import contrast_edges
from flowcut.flow.distances import kmeans, label_distances
from flowcut.joint.energy import PottsEnergy
from flowcut.vision.pictures import PictureError, read_image, read_mask

__all__ = ["Scribbles", "read_scribbles", "scribble_energy"]

_MOST_LABELS = 32
# Normal distributions of one label at most, and seeds that each of them needs.
_COLOURS, _SEEDS = 5, 20
_OUTLIERS = 0.1
# Below two grey values a deviation is the camera's rounding.
_LEAST_VARIANCE = (2 / 255) ** 2
# Of every label but its own at a seed: e^-50 is never drawn.
_SEED_COST = 50.0


class Scribbles(NamedTuple):
    """What is marked in a picture.

    Attributes
    ----------
    labels
        (H, W) int64: 0 to J - 1 at seeds, -1 elsewhere.
    names
        The grey value or colour that stands for each label.
    """

    labels: Tensor
    names: list[str]


def read_scribbles(path: str | Path, size: tuple[int, ...]) -> Scribbles:
    """Read seeds from a picture.

    Parameters
    ----------
    path
        Grey or palette: every value but 0 and 255 is a label, in increasing order. In colour: every colour
        but black and white is one, in the order of red, green, blue.
    size
        (H, W) of the picture they belong to.

    Returns
    -------
    Scribbles
        With 2 labels or more.

    Raises
    ------
    FileNotFoundError, PictureError
        There is no such picture, it is damaged, of another size, or has too few or too many labels.
    """
    try:
        values = read_mask(path, classes=255)
        unmarked, name = (0, 255), "{}"
    except PictureError:  # in colour; if it is no picture at all, reading it again says so
        bytes_ = (read_image(path) * 255).round().to(torch.int64)
        values = (bytes_[0] << 16) + (bytes_[1] << 8) + bytes_[2]
        unmarked, name = (0, 0xFFFFFF), "#{:06x}"
    if tuple(values.shape) != tuple(size):
        raise PictureError(
            f"{path}: expected scribbles of {size[0]} x {size[1]} pixels as the picture has, "
            f"got {values.shape[0]} x {values.shape[1]}"
        )
    found = [value for value in torch.unique(values).tolist() if value not in unmarked]
    if not 2 <= len(found) <= _MOST_LABELS:
        some = ", ".join(name.format(value) for value in found[:4]) + (", ..." if len(found) > 4 else "")
        raise PictureError(
            f"{path}: expected 2 to {_MOST_LABELS} labels, one grey value or colour each (black and white "
            f"are unmarked), got {len(found)}{': ' * bool(found)}{some}"
        )
    labels = torch.full_like(values, -1)
    for label, value in enumerate(found):
        labels[values == value] = label
    return Scribbles(labels, [name.format(value) for value in found])


def scribble_energy(image: Tensor, labels: Tensor, ties: float = 4.0, beta: float = 130.0) -> PottsEnergy:
    """The energy of labelings of a picture with seeds.

    Parameters
    ----------
    image
        (3, H, W) in [0, 1].
    labels
        (H, W) int64: seeds of labels 0 to J - 1, each with one or more, and -1 elsewhere.
    ties
        Cost of a tie without contrast, >= 0.
    beta
        Contrast, >= 0, see :func:`flowcut.random_walker`.

    Returns
    -------
    PottsEnergy
        (1, J, H, W), float32.

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    A dark and a bright half, with one seed each:

    >>> image = torch.tensor([0.1, 0.1, 0.9, 0.9]).expand(3, 1, 4)
    >>> energy = scribble_energy(image, torch.tensor([[0, -1, -1, 1]]))
    >>> energy.unary[0].argmin(dim=0), bool(energy.edges[0, 1, 0, 1] < 0.01)
    (tensor([[0, 0, 1, 1]]), True)
    """
    for name, value in (("ties", ties), ("beta", beta)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number >= 0, got {value}")
    unary = _colour_costs(image, labels)
    seeds = labels >= 0
    other = torch.arange(len(unary)).reshape(-1, 1, 1) != labels
    unary = torch.where(seeds, torch.where(other, _SEED_COST, 0.0), unary)
    pixels = image.movedim(0, -1).double().numpy()
    edges = ties * contrast_edges(pixels, (1.0, 1.0), beta, multichannel=True)
    return PottsEnergy(unary[None], edges.to(unary.dtype))


def _colour_costs(image: Tensor, labels: Tensor) -> Tensor:
    """(J, H, W): -log p_j, less its minimum over j."""
    models = [_palette(image[:, labels == j]) for j in range(int(labels.max()) + 1)]
    squares, free = 0.0, 0
    for j, (centres, _) in enumerate(models):
        distances = label_distances(image[:, labels == j][None], centres)[0].amin(dim=0)
        squares, free = squares + float(distances.sum()), free + len(distances) - len(centres)
    variance = max(squares / (3 * max(free, 1)), _LEAST_VARIANCE)
    logs = []
    for centres, shares in models:
        parts = -label_distances(image[None], centres)[0] / (2 * variance)
        logs.append((parts + shares.log().reshape(-1, 1, 1)).logsumexp(dim=0))
    density = torch.stack(logs) - 1.5 * math.log(2 * math.pi * variance)
    uniform = torch.tensor(_OUTLIERS).log()
    costs = -torch.logaddexp(density + math.log(1 - _OUTLIERS), uniform)
    return costs - costs.amin(dim=0)


def _palette(colours: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (K, 3) of colours (3, n), and the share of each."""
    distinct = torch.unique(colours, dim=1).shape[1]
    count = min(_COLOURS, distinct, max(1, colours.shape[1] // _SEEDS))
    centres = kmeans(colours[None], count)
    nearest = label_distances(colours[None], centres)[0].argmin(dim=0)
    shares = torch.bincount(nearest, minlength=len(centres)).to(colours.dtype)
    return centres[shares > 0], shares[shares > 0] / shares.sum()
