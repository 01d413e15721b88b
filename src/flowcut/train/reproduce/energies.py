"""Energies that the experiments of the RAF paper are about."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowcut.joint.energy import PottsEnergy
from flowcut.train.reproduce.experiment import check_least, check_positive
from flowcut.train.reproduce.scenes import blobs

__all__ = ["BoundaryIsing", "Scene", "boundary_ising", "check_boundary_ising", "noisy_potts"]


def boundary_ising(height: int, width: int, cost: float, field: float) -> PottsEnergy:
    """Two labels on a grid whose left side likes label 0 and whose right side likes label 1 (RAF section 5).

    Parameters
    ----------
    height, width : int
        Of the grid; width >= 2.
    cost : float
        Of an unequal edge.
    field : float
        Label 0 costs -field in the leftmost and +field in the rightmost column.

    Returns
    -------
    PottsEnergy
        float64.

    Examples
    --------
    >>> energy = boundary_ising(1, 3, cost=2.1, field=3.0)
    >>> energy.energy(torch.tensor([[[0, 0, 1]], [[1, 1, 1]]]))
    tensor([-0.9000,  0.0000], dtype=torch.float64)
    """
    unary = torch.zeros(1, 2, height, width, dtype=torch.float64)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -field, field
    return PottsEnergy(unary, torch.full((1, 2, height, width), cost, dtype=torch.float64))


class BoundaryIsing(Protocol):
    """Settings of an experiment on :func:`boundary_ising`, judged by its exact law."""

    @property
    def height(self) -> int:
        """Of the grid."""

    @property
    def width(self) -> int:
        """Of the grid."""

    @property
    def cost(self) -> float:
        """Of an unequal edge."""

    @property
    def boundary(self) -> float:
        """Field of the two sides."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the fits."""


def check_boundary_ising(settings: BoundaryIsing) -> None:
    """Refuse numbers that are out of their range.

    Raises
    ------
    ValueError
        One is, or the grid is too wide for an exact law.
    """
    for name, least in (("height", 1), ("width", 2), ("restarts", 1), ("draws", 2), ("labelings", 2)):
        check_least(name, getattr(settings, name), least)
    if min(settings.height, settings.width) > 21:
        shape = f"{settings.height} x {settings.width}"
        raise ValueError(f"height, width: expected at most 21 along the shorter side, got {shape}")
    check_positive("cost", settings.cost)
    check_positive("boundary", settings.boundary)
    check_least("seeds, their number", len(settings.seeds), 1)
    check_least("seeds", min(settings.seeds), 0)


class Scene(NamedTuple):
    """A picture that is to be labelled.

    Attributes
    ----------
    picture : Tensor
        (H, W) float64.
    truth : Tensor
        (H, W) int64.
    energy : PottsEnergy
        float64.
    """

    picture: Tensor
    truth: Tensor
    energy: PottsEnergy


def noisy_potts(
    size: tuple[int, int], labels: int, weight: float, noise: float, smooth: float, seed: int
) -> Scene:
    """Regions with the values 0, 1, ... J - 1 under Gaussian noise, and a Potts model of them.

    A label costs minus the logarithm of the noise's density, neighbours along the axes that differ cost
    ``weight``.

    Parameters
    ----------
    size : tuple of int
        (height, width).
    labels : int
        J >= 2.
    weight : float
        Of the ties. Without unaries the model orders at log(1 + sqrt(J)): 0.88, 1.005, 1.10 for 2, 3, 4.
    noise : float
        Standard deviation, > 0.
    smooth : float
        Typical radius of a region in pixels, > 0.
    seed : int
        Of regions and noise, >= 0.

    Returns
    -------
    Scene

    Examples
    --------
    >>> noisy_potts((8, 8), 3, 1.0, 0.5, 2.0, seed=0).energy.shape
    (3, 8, 8)
    """
    truth = blobs(size, labels, seed, smooth)
    generator = torch.Generator().manual_seed(seed)
    picture = truth + noise * torch.randn(size, generator=generator, dtype=torch.float64)
    values = torch.arange(labels, dtype=torch.float64)[:, None, None]
    unary = (picture - values).square() / (2 * noise**2)
    return Scene(
        picture, truth, PottsEnergy(unary[None], torch.full((1, 2, *size), weight, dtype=torch.float64))
    )
