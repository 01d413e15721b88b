"""Belief propagation against enumeration on trees, and against its own equations on loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import flowcut as fc
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError
from flowcut.joint.belief import BeliefPropagation, belief_propagation
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import flatten_energy


def _random_energy(where: Neighborhood | Graph, spatial: tuple[int, ...], j: int, tables: str, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    each = (j, j, *ties) if isinstance(where, Graph) else (ties[0], j, j, *ties[1:])
    shapes = {"none": None, "shared": (j, j), "own": (1, *each)}
    shape = shapes[tables]
    return PottsEnergy(
        torch.randn(1, j, *spatial, generator=g, dtype=torch.float64),
        2 * torch.randn(1, *ties, generator=g, dtype=torch.float64),
        None if shape is None else torch.randn(shape, generator=g, dtype=torch.float64),
        where,
        constant=-0.3,
    )


def _random_tree(n: int, seed: int) -> Graph:
    """Every node hangs on an earlier one; names and directions are shuffled."""
    g = torch.Generator().manual_seed(seed)
    name = torch.randperm(n, generator=g)
    parents = torch.tensor([int(torch.randint(i, (1,), generator=g)) for i in range(1, n)], dtype=torch.int64)
    index = torch.stack([name[parents], name[torch.arange(1, n)]])
    turned = torch.rand(n - 1, generator=g) < 0.5
    return Graph(torch.where(turned, index.flip(0), index), n)


def _enumerated(energy: PottsEnergy) -> tuple[Tensor, list[Tensor], Tensor]:
    """Marginals (n, J), of ties (J, J) each, and log Z."""
    n, j = math.prod(energy.spatial), energy.num_labels
    every = torch.tensor(list(itertools.product(range(j), repeat=n))).reshape(-1, n)
    costs = energy.energy(every.reshape(-1, *energy.spatial))
    law = (-costs).softmax(dim=0)
    one_hot = torch.nn.functional.one_hot(every, j).double()
    pairs = [
        torch.einsum("m,ma,mb->ab", law, one_hot[:, a], one_hot[:, b])
        for a, b in flatten_energy(energy).pairs.tolist()
    ]
    return torch.einsum("m,mia->ia", law, one_hot), pairs, (-costs).logsumexp(dim=0)


def _pairs(energy: PottsEnergy, found: BeliefPropagation) -> Sequence[Tensor]:
    """Marginals of ties in the order of a flat energy, picked out one by one."""
    if isinstance(energy.neighborhood, Graph):
        return found.pair_marginals.permute(2, 0, 1)
    picked = []
    for k, offset in enumerate(energy.neighborhood.offsets):
        for pixel in itertools.product(*map(range, energy.spatial)):
            other = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            place = found.pair_marginals[(k, slice(None), slice(None), *pixel)]
            if all(0 <= p < size for p, size in zip(other, energy.spatial, strict=True)):
                picked.append(place)
            else:
                assert (place == 0).all()
    return picked


TREES = {
    "line": (Neighborhood.edges(1), (6,)),
    "column": (Neighborhood.edges(2), (5, 1)),
    "tree 1": (_random_tree(7, 1), (7,)),
    "tree 2": (_random_tree(7, 2), (7,)),
    "forest": (Graph(torch.tensor([[4, 1, 2], [2, 5, 0]]), 6), (6,)),
    "one pixel": (Neighborhood.edges(2), (1, 1)),
    "no ties": (Graph(torch.empty(2, 0, dtype=torch.int64), 3), (3,)),
}


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("tables", ["none", "shared", "own"])
@pytest.mark.parametrize("where", TREES.values(), ids=TREES)
def test_exact_on_trees(where: tuple, tables: str, damping: float) -> None:
    energy = _random_energy(*where, j=3, tables=tables)
    found = belief_propagation(energy, damping=damping)
    nodes, pairs, log_z = _enumerated(energy)
    torch.testing.assert_close(found.marginals.flatten(1).mT, nodes, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.log_z, log_z)
    torch.testing.assert_close(found.free_energy, -log_z)
    ours = _pairs(energy, found)
    assert len(ours) == len(pairs)
    for one, truth in zip(ours, pairs, strict=True):
        torch.testing.assert_close(one, truth, rtol=0, atol=1e-8)
    assert found.converged
    if damping == 0:  # what one end says arrives at the other after as many sweeps as there are ties between
        assert found.sweeps <= len(nodes) + 1


def _ring(n: int, coupling: float, field: float) -> PottsEnergy:
    index = torch.tensor([list(range(n)), [(i + 1) % n for i in range(n)]])
    unary = torch.tensor([field, -field], dtype=torch.float64).reshape(1, 2, 1).expand(1, 2, n)
    return PottsEnergy(unary, torch.full((1, n), coupling, dtype=torch.float64), None, Graph(index, n))


def test_a_ring_is_an_endless_line() -> None:
    """Beliefs are those of an infinite chain: F = -n log of the largest eigenvalue of its transfer matrix."""
    n, coupling, field = 5, 0.8, 0.3
    found = belief_propagation(_ring(n, coupling, field))
    weight = torch.tensor([-field, field], dtype=torch.float64).mul(0.5).exp()
    unequal = math.exp(-coupling)
    transfer = torch.outer(weight, weight) * torch.tensor([[1, unequal], [unequal, 1]], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(transfer)
    torch.testing.assert_close(found.free_energy, -n * values[-1].log())
    truth = vectors[:, -1].square()
    torch.testing.assert_close(found.marginals, truth.unsqueeze(1).expand(2, n), rtol=0, atol=1e-8)
    # The exact law counts the second eigenvalue too.
    log_z = _enumerated(_ring(n, coupling, field))[2]
    torch.testing.assert_close((values**n).sum().log(), log_z)
    assert not torch.isclose(found.log_z, log_z, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tables", ["none", "shared", "own"])
def test_beliefs_on_loops_agree_with_each_other(tables: str) -> None:
    """Sums of pairs are the marginals, and F is the printed formula."""
    energy = _random_energy(Neighborhood.edges(2, 2), (3, 4), 3, tables).at_temperature(4.0)
    found = belief_propagation(energy)
    assert found.converged
    flat = flatten_energy(energy)
    nodes = found.marginals.flatten(1).mT
    energies = flat.constant[0] + (flat.unary[0] * nodes).sum()
    entropy = -(nodes * nodes.log()).sum()
    for (i, j), pair, table in zip(
        flat.pairs.tolist(), _pairs(energy, found), flat.full_tables()[0], strict=True
    ):
        torch.testing.assert_close(pair.sum(dim=1), nodes[i], rtol=0, atol=1e-8)
        torch.testing.assert_close(pair.sum(dim=0), nodes[j], rtol=0, atol=1e-8)
        energies = energies + (pair * table).sum()
        # The entropy of independent ends, less their mutual information.
        entropy = entropy - (pair * (pair / torch.outer(nodes[i], nodes[j])).log()).sum()
    torch.testing.assert_close(found.free_energy, energies - entropy, rtol=0, atol=1e-7)


def test_close_to_the_law_at_high_temperature() -> None:
    """Errors are of fourth order in the ties on a 4-neighbour grid, mean field's of second."""
    energy = _random_energy(Neighborhood.edges(2), (3, 3), 2, "none")
    errors = []
    for factor in (0.2, 0.1):
        weak = PottsEnergy(energy.unary, factor * energy.edges)
        found = belief_propagation(weak)
        nodes, _, log_z = _enumerated(weak)
        errors.append(
            (
                float((found.log_z - log_z).abs()),
                float((found.marginals.flatten(1).mT - nodes).abs().max()),
            )
        )
    for large, small in zip(*errors, strict=True):
        assert 10 < large / small < 26  # 2^4 and higher orders


def test_costs_of_a_thousand_and_single_precision() -> None:
    energy = _random_energy(TREES["tree 1"][0], (7,), 3, "own")
    sharp = energy.at_temperature(1e-3)
    found = belief_propagation(sharp)
    nodes, _, log_z = _enumerated(sharp)
    assert torch.isfinite(found.free_energy)
    torch.testing.assert_close(found.log_z, log_z)
    torch.testing.assert_close(found.marginals.flatten(1).mT, nodes, rtol=0, atol=1e-8)
    single = belief_propagation(energy.to(torch.float32))
    assert single.marginals.dtype == torch.float64
    tracked = PottsEnergy(torch.zeros(1, 2, 3, requires_grad=True), torch.ones(1, 1, 3))
    assert not belief_propagation(tracked).marginals.requires_grad


def test_what_did_not_converge_is_reported() -> None:
    energy = _random_energy(Neighborhood.edges(2, 2), (4, 4), 2, "none", seed=1).at_temperature(0.2)
    with pytest.warns(fc.FlowcutWarning, match="tolerance 1e-09 was not met within 3 sweeps"):
        found = belief_propagation(energy, max_sweeps=3)
    assert not found.converged
    assert found.sweeps == 3
    torch.testing.assert_close(found.marginals.sum(dim=0), torch.ones(4, 4, dtype=torch.float64))
    with pytest.raises(NotConvergedError, match="raise max_sweeps, damping or the temperature"):
        belief_propagation(energy, max_sweeps=3, on_failure="raise")
    belief_propagation(energy, max_sweeps=3, on_failure="ignore")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"energy": "energy"}, TypeError, "energy: expected a PottsEnergy, got str"),
        (
            {"energy": PottsEnergy(torch.zeros(2, 2, 3), torch.ones(1, 1, 3))},
            ValueError,
            r"energy: expected one energy, got 2; take energy\[i\]",
        ),
        ({"damping": 1.0}, ValueError, "damping: expected a number >= 0 and < 1, got 1.0"),
        ({"damping": -0.1}, ValueError, "damping: .*-0.1"),
        ({"damping": math.nan}, ValueError, "damping: .*nan"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps: expected at least 1, got 0"),
        ({"tolerance": -1.0}, ValueError, "tolerance: expected a finite number > 0, got -1.0"),
    ],
)
def test_bad_input_gets_one_clear_line(change, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        belief_propagation(**{"energy": _ring(3, 1.0, 0.0), **change})
    assert "\n" not in str(caught.value)
