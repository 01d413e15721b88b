"""The law of a small energy by itertools and plain loops, and energies to try it on."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from scipy.stats import chi2
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy
from tests.truths.dense import grid_ties


class Law(NamedTuple):
    """All labelings (S, *spatial), their energies and probabilities (S,), log Z, and both marginals."""

    labels: Tensor
    energies: Tensor
    p: Tensor
    log_z: Tensor
    marginals: Tensor
    pair_marginals: Tensor


def law_of(energy: PottsEnergy) -> Law:
    """Every sum over labelings as it is defined."""
    energy = energy.to(torch.float64)
    labels = all_labelings(energy.spatial, energy.num_labels)
    energies = energy.energy(labels)
    log_z = (-energies).logsumexp(dim=0)
    p = (-energies - log_z).exp()
    marginals = torch.stack(
        [
            (p.reshape(-1, *(1,) * (labels.ndim - 1)) * (labels == j)).sum(dim=0)
            for j in range(energy.num_labels)
        ]
    )
    return Law(labels, energies, p, log_z, marginals, _pair_marginals(energy, labels.flatten(1), p))


def _pair_marginals(energy: PottsEnergy, flat: Tensor, p: Tensor) -> Tensor:
    where, labels = energy.neighborhood, energy.num_labels
    ties: list[tuple[tuple[int, ...], int, int]]
    if isinstance(where, Graph):
        shape: tuple[int, ...] = (labels, labels, len(where))
        ties = [((e,), int(i), int(j)) for e, (i, j) in enumerate(where.edge_index.T)]
    else:
        assert where is not None
        shape = (len(where), labels, labels, *energy.spatial)
        ties = [((k, *pixel), i, j) for k, pixel, i, j in grid_ties(energy.spatial, where.offsets)]
    out = torch.zeros(shape, dtype=torch.float64)
    for index, i, j in ties:
        for a, b in itertools.product(range(labels), repeat=2):
            place = (a, b, *index) if isinstance(where, Graph) else (index[0], a, b, *index[1:])
            out[place] = p[(flat[:, i] == a) & (flat[:, j] == b)].sum()
    return out


def all_labelings(spatial: tuple[int, ...], labels: int) -> Tensor:
    """(S, *spatial), the last pixel fastest."""
    every = list(itertools.product(range(labels), repeat=math.prod(spatial)))
    return torch.tensor(every, dtype=torch.int64).reshape(len(every), *spatial)


def random_energy(
    spatial: tuple[int, ...], where: Neighborhood | Graph, labels: int, tables: str, seed: int = 0
) -> PottsEnergy:
    """Normal costs; tables: "none", "shared" or "own" (asymmetric)."""
    g = torch.Generator().manual_seed(seed)
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    shapes = {
        "none": None,
        "shared": (labels, labels),
        "own": (1, labels, labels, *ties)
        if isinstance(where, Graph)
        else (1, ties[0], labels, labels, *spatial),
    }

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    table = shapes[tables]
    pairwise = None if table is None else draw(*table)
    return PottsEnergy(draw(1, labels, *spatial), draw(1, *ties), pairwise, where, 0.7)


def _graph(ties: list[tuple[int, int]], nodes: int) -> Graph:
    return Graph(torch.tensor(ties, dtype=torch.int64).reshape(-1, 2).T, nodes)


COMPLETE = _graph(list(itertools.combinations(range(6), 2)), 6)
FAR = Neighborhood(((-1, 1), (0, 2), (0, -1), (0, 1), (5, 0)))  # 0, 1 stands twice; 5, 0 leaves the picture
TWICE = _graph([(0, 1), (3, 1), (1, 2), (0, 2), (1, 0)], 5)  # 0-1 stands twice, both ways; 4 has no ties
STAR = _graph([(5, i) for i in range(5)], 6)

ENERGIES = {
    "line": lambda: random_energy((6,), Neighborhood.edges(1), 3, "shared"),
    "4-neighbours": lambda: random_energy((2, 3), Neighborhood.edges(2), 3, "none"),
    "8-neighbours": lambda: random_energy((3, 3), Neighborhood.edges(2, 2), 2, "own"),
    "high": lambda: random_energy((4, 2), Neighborhood.edges(2, 2), 2, "shared"),
    "6-neighbours": lambda: random_energy((2, 2, 2), Neighborhood.edges(3), 2, "own"),
    "26-neighbours": lambda: random_energy((2, 2, 2), Neighborhood.edges(3, 3), 2, "own"),
    "own ties": lambda: random_energy((2, 4), FAR, 2, "own"),
    "complete": lambda: random_energy((6,), COMPLETE, 2, "own"),
    "twice": lambda: random_energy((5,), TWICE, 3, "own"),
    "star": lambda: random_energy((6,), STAR, 3, "shared"),
    "no ties": lambda: random_energy((3,), _graph([], 3), 4, "none"),
    "one pixel": lambda: random_energy((1, 1), Neighborhood.edges(2), 3, "none"),
}


def chi_square(states: Tensor, p: Tensor, level: float = 1e-3) -> tuple[float, float]:
    """The statistic of draws (M,) of state numbers, and its quantile; states expected less than five times
    are counted together."""
    counts = torch.bincount(states, minlength=len(p)).double()
    expected = p * len(states)
    rare = expected < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    assert not counts[expected == 0].any()
    kept = expected > 0
    statistic = ((counts - expected) ** 2 / expected)[kept].sum()
    return float(statistic), float(chi2.ppf(1 - level, int(kept.sum()) - 1))


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=tolerance, atol=tolerance)
