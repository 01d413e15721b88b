"""The parts of enumeration: blocks of energies, sums along axes, draws."""

from __future__ import annotations

import itertools

import pytest
import torch

from flowcut.joint.energy import PottsEnergy
from flowcut.joint.enumeration import Enumeration, _invert
from flowcut.joint.flat import flatten_energy
from flowcut.joint.outer import labelings, node_sums, outer_sum, pair_sums
from tests.truths.brute_force import ENERGIES, all_labelings, close, law_of

_SIZES = pytest.mark.parametrize(("nodes", "labels"), [(0, 2), (1, 3), (2, 2), (3, 4), (5, 2)])


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@_SIZES
def test_numbers_are_labelings_in_counting_order(nodes: int, labels: int) -> None:
    every = labelings(torch.arange(labels**nodes), nodes, labels)
    assert torch.equal(every, all_labelings((nodes,), labels))


@_SIZES
def test_outer_sum_adds_a_cost_for_every_node(nodes: int, labels: int) -> None:
    costs = _random(2, nodes, labels)
    every = all_labelings((nodes,), labels)
    expected = costs[:, torch.arange(nodes), every].sum(dim=2)
    close(outer_sum(costs), expected)


@_SIZES
def test_node_sums_is_its_adjoint(nodes: int, labels: int) -> None:
    costs, values = _random(2, nodes, labels), _random(2, labels**nodes)
    close((outer_sum(costs) * values).sum(), (costs * node_sums(values, nodes, labels)).sum())


@pytest.mark.parametrize(("nodes", "labels"), [(2, 2), (3, 4), (5, 2)])
def test_pair_sums(nodes: int, labels: int) -> None:
    values, every = _random(labels**nodes), all_labelings((nodes,), labels)
    for i, j in itertools.permutations(range(nodes), 2):
        found = pair_sums(values, nodes, labels, i, j)
        for a, b in itertools.product(range(labels), repeat=2):
            close(found[a, b], values[(every[:, i] == a) & (every[:, j] == b)].sum())


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("block", [1, 30, 1 << 18])
def test_blocks_are_the_energies_of_their_labelings(name: str, block: int) -> None:
    energy = ENERGIES[name]()
    every = Enumeration(flatten_energy(energy))
    energies = torch.cat([every.energies(*rows).flatten() for rows in every.blocks(block)])
    truth = law_of(energy)
    close(energies, truth.energies)
    numbered = torch.cat([every.labelings(*rows).flatten(0, 1) for rows in every.blocks(block)])
    assert torch.equal(numbered, truth.labels.flatten(1))


@pytest.mark.parametrize("block", [1, 40, 1 << 18])
def test_sums_do_not_depend_on_the_blocks(block: int) -> None:
    """Also where the last labeling is the likeliest by far, so that sums so far have to vanish."""
    energy = ENERGIES["8-neighbours"]()
    for favour in (0.0, 400.0):
        unary = energy.unary.clone()
        unary[0, 1] -= favour
        strong = PottsEnergy(unary, energy.edges, energy.pairwise)
        every, truth = Enumeration(flatten_energy(strong), block), law_of(strong)
        nodes, pairs = every.beliefs()
        close(every.log_z, truth.log_z)
        close(nodes.mT.reshape(truth.marginals.shape), truth.marginals)
        close(pairs.sum(dim=0).flatten(), truth.pair_marginals.flatten(3).sum(dim=(0, 3)).flatten())


def test_draws_find_the_entry_that_their_sum_passes() -> None:
    chances = torch.tensor([[0.0, 0.5, 0.0, 0.5], [0.25, 0.25, 0.5, 0.0]], dtype=torch.float64)
    draws = torch.tensor([0.0, 0.5, 1 - 2**-53, 0.0, 0.25, 1 - 2**-53], dtype=torch.float64)
    rows = torch.tensor([0, 0, 0, 1, 1, 1])
    assert _invert(chances, draws, rows)[:5].tolist() == [1, 3, 3, 0, 1]
