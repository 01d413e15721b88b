"""Cluster samplers: what they refuse, where they are fast and where not. Their law is tested in
tests/conformance/test_samplers.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law
from flowcut.joint.gibbs import gibbs
from flowcut.joint.swendsen_wang import swendsen_wang, wolff
from tests.truths.brute_force import random_energy

_BOTH = pytest.mark.parametrize("sampler", [swendsen_wang, wolff])


@_BOTH
def test_tables_and_negative_ties_are_refused(sampler) -> None:
    where = Neighborhood.edges(2)
    with pytest.raises(ValueError, match=r"^energy: expected ties without tables .*; gibbs takes any$"):
        sampler(random_energy((2, 3), where, 2, "shared"))
    edges = torch.ones(1, 2, 2, 3)
    edges[0, 1, 0, 0] = -0.25
    with pytest.raises(ValueError, match=r"^energy: expected .* >= 0 .*, got -0.25; gibbs takes any$"):
        sampler(PottsEnergy(torch.zeros(1, 2, 2, 3), edges))
    edges[0, 1] = torch.tensor([[1.0, 1.0, -9.0], [1.0, 1.0, -9.0]])  # these leave the picture
    sampler(PottsEnergy(torch.zeros(1, 2, 2, 3), edges), draws=1)


def _first(labels: Tensor) -> Tensor:
    return labels.flatten(1)[:, 0].double()


@_BOTH
def test_no_field_and_strong_ties_mix_fast_where_gibbs_stands_still(sampler) -> None:
    energy = PottsEnergy(torch.zeros(1, 2, 12, 12), torch.full((1, 2, 12, 12), 2.0))
    start = torch.tensor([0, 1]).reshape(2, 1, 1).expand(2, 12, 12)
    options = {"chains": 2, "draws": 1000, "burn_in": 10, "initial": start}
    # Wolff changes its cluster every time, so its label alternates and is seen every second step.
    thin = 1 if sampler is swendsen_wang else 3
    fast, slow = sampler(energy, thin=thin, **options), gibbs(energy, **options)
    assert fast.r_hat(_first) < 1.02
    assert fast.effective_sample_size(_first) > 500
    assert slow.r_hat(_first) > 1.5
    assert (fast.marginals()[1] - 0.5).abs().max() < 0.1


def test_strong_fields_mix_slower_than_gibbs() -> None:
    """Opposite sides that want opposite labels: clusters that join them hardly ever change."""
    unary = torch.zeros(1, 2, 3, 8)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    energy = PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1))
    exact = exact_law(energy).mean_energy
    options = {"chains": 8, "draws": 4000, "burn_in": 500}
    sizes = []
    for sampler in (swendsen_wang, gibbs):
        chains = sampler(energy, **options)
        mean, error = chains.estimate(energy.energy)
        assert (mean - exact).abs() < 4.5 * error
        sizes.append(chains.effective_sample_size(lambda labels: (labels == 1).double().flatten(1).sum(1)))
    assert sizes[0] < sizes[1]
