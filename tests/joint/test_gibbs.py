"""Gibbs sampling: colours, annealing, refusals. Its law is tested in tests/conformance/test_samplers.py."""

from __future__ import annotations

import math

import pytest
import torch

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.colouring import colouring
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.gibbs import annealing, gibbs
from tests.truths.brute_force import COMPLETE, ENERGIES, FAR, STAR, TWICE, law_of, random_energy
from tests.truths.dense import grid_ties


@pytest.mark.parametrize(
    ("where", "spatial", "expected"),
    [
        (Neighborhood.edges(1), (7,), 2),
        (Neighborhood.edges(2), (4, 5), 2),
        (Neighborhood.edges(3), (2, 3, 4), 2),
        (Neighborhood.edges(2, 2), (4, 5), 4),
        (Neighborhood.edges(3, 3), (4, 5, 3), 8),
        (Neighborhood.edges(2), (1, 1), 1),
        (Neighborhood.edges(2, 2), (5, 1), 4),
        (FAR, (4, 5), None),
        (Neighborhood(((0, 3), (-2, 1), (5, 0), (1, -4))), (9, 8), 2),
        (Neighborhood(((2, 0), (0, 2))), (4, 5), None),
        (COMPLETE, (6,), 6),
        (STAR, (6,), 2),
        (TWICE, (5,), 3),
        (Graph(torch.empty(2, 0, dtype=torch.int64), 3), (3,), 1),
        (Graph(torch.empty(2, 0, dtype=torch.int64), 0), (0,), 0),
        (Neighborhood.edges(2), (0, 3), 0),
    ],
)
def test_ties_join_different_colours(where, spatial: tuple[int, ...], expected: int | None) -> None:
    colours = colouring(where, spatial)
    assert colours.shape == (math.prod(spatial),)
    if isinstance(where, Graph):
        pairs = where.edge_index.T.tolist()
    else:
        pairs = [(i, j) for _, _, i, j in grid_ties(spatial, where.offsets)]
    assert all(colours[i] != colours[j] for i, j in pairs)
    found = colours.unique()
    assert found.tolist() == list(range(len(found)))
    if expected is not None:
        assert len(found) == expected


def test_the_axes_make_a_checkerboard() -> None:
    parity = (torch.arange(4)[:, None] + torch.arange(5)) % 2
    assert torch.equal(colouring(Neighborhood.edges(2), (4, 5)).reshape(4, 5), parity)


def test_temperatures_of_a_schedule() -> None:
    double = torch.float64
    assert annealing(None, None).tolist() == [1.0] * 500
    assert annealing(None, 3).tolist() == [1.0] * 3
    assert annealing(None, 0).shape == (0,)
    torch.testing.assert_close(annealing(8.0, 3), torch.tensor([8.0, 4.0, 2.0], dtype=double))
    torch.testing.assert_close(annealing(0.25, 2), torch.tensor([0.25, 0.5], dtype=double))
    assert len(annealing(torch.tensor(3.0), None)) == 500
    for given in ([3, 2], (3.0, 2.0), torch.tensor([3.0, 2.0])):
        assert annealing(given, None).tolist() == [3.0, 2.0]
        assert annealing(given, 2).tolist() == [3.0, 2.0]
    assert annealing([], None).shape == (0,)


@pytest.mark.parametrize(
    ("temperatures", "burn_in", "message"),
    [
        (0.0, None, "temperatures: expected finite numbers > 0, got 0.0"),
        (-1.0, 5, "temperatures: expected finite numbers > 0, got -1.0"),
        (math.inf, 5, "temperatures: expected finite numbers > 0, got inf"),
        (math.nan, 5, "temperatures: expected finite numbers > 0, got nan"),
        ([2.0, 0.0], None, r"temperatures: expected finite numbers > 0, got \[2.0, 0.0\]"),
        ([[2.0]], None, r"temperatures: expected finite numbers > 0, got \[\[2.0\]\]"),
        ([2.0, 1.0], 3, "temperatures: expected one for each of 3 sweeps of burn_in, got 2"),
        (2.0, 0, "burn_in: expected sweeps to anneal in, got 0"),
    ],
)
def test_bad_schedules(temperatures, burn_in: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        gibbs(ENERGIES["one pixel"](), burn_in=burn_in, temperatures=temperatures)


def test_annealing_finds_the_best_labeling() -> None:
    """From any start: down to a temperature at which nothing else has weight, then one draw."""
    energy = random_energy((3, 3), Neighborhood.edges(2, 2), 2, "own").at_temperature(0.02)
    law = law_of(energy)
    best = law.labels[law.energies.argmin()]
    assert law.p.max() > 0.99
    cold = gibbs(energy, chains=200, draws=1, burn_in=300, temperatures=200.0)
    assert (cold.labels[0] == best).flatten(1).all(dim=1).double().mean() > 0.95
    sudden = gibbs(energy, chains=200, draws=1, burn_in=300)
    assert (sudden.labels[0] == best).flatten(1).all(dim=1).double().mean() < 0.9


def test_annealing_uses_the_temperatures_in_their_order() -> None:
    """A cold sweep at the end of the burn-in decides what the first draw sees."""
    energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
    # One sweep at T: pixel 0 given pixel 1, then pixel 1 given pixel 0; equal with probability
    # 1 / (1 + exp(-1 / T)) afterwards.
    chains = gibbs(energy, chains=20_000, draws=1, temperatures=[0.1] * 5 + [1e6])
    sampler = chains.sampler
    last = sampler.sweeps(chains.states[-1], torch.tensor([1e6, 0.25], dtype=torch.float64), 1, 99)
    for state, temperature in zip(last.double(), (1e6, 0.25), strict=True):
        share = (state[:, 0] == state[:, 1]).double().mean()
        expected = 1 / (1 + math.exp(-1 / temperature))
        assert (share - expected).abs() < 4.5 * (expected * (1 - expected) / 20_000) ** 0.5


def test_strong_ties_are_told_by_r_hat() -> None:
    energy = PottsEnergy(torch.zeros(1, 2, 8, 8), torch.full((1, 2, 8, 8), 1.5))
    start = torch.tensor([0, 0, 1, 1]).reshape(4, 1, 1).expand(4, 8, 8)
    stuck = gibbs(energy, chains=4, draws=1000, burn_in=20, initial=start)

    def magnetisation(labels: torch.Tensor) -> torch.Tensor:
        return labels.double().flatten(1).mean(dim=1)

    assert stuck.r_hat(magnetisation) > 2
    assert stuck.effective_sample_size(magnetisation) < 10
    # The energy looks well: it is the same on both sides.
    assert stuck.r_hat() < 1.1


def test_large_pictures_have_the_energy_of_onsager() -> None:
    """The infinite square Ising lattice without a field (Onsager 1944), well above the critical temperature:
    -E per pixel in spins of coupling b is coth(2b) [1 + (2 / pi) (2 tanh(2b)^2 - 1) K(k)],
    k = 2 sinh(2b) / cosh(2b)^2."""
    from scipy.special import ellipk

    b, side = 0.3, 256
    k = 2 * math.sinh(2 * b) / math.cosh(2 * b) ** 2
    # scipy's parameter is k^2; the energy is coupling times (bonds equal - bonds unequal) per pixel.
    bulk = 1 / math.tanh(2 * b) * (1 + 2 / math.pi * (2 * math.tanh(2 * b) ** 2 - 1) * ellipk(k**2))
    energy = PottsEnergy(torch.zeros(1, 2, side, side), torch.full((1, 2, side, side), 2 * b))
    chains = gibbs(energy, draws=60, thin=5, burn_in=200)
    ties = 2 * side * (side - 1)
    unequal = chains.energies / (2 * b)
    per_tie = (1 - 2 * unequal / ties).mean()
    # Without a border a pixel has two ties. Per tie the border makes a difference of order 1 / side.
    error = (1 - 2 * unequal / ties).std() / 60**0.5
    assert (per_tie - bulk / 2).abs() < 5 * error + 0.2 / side
