"""Orders, frontiers, and the steps of an elimination; its sums stand in test_exact.py."""

from __future__ import annotations

import itertools

import pytest
import torch

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.elimination import Elimination, log_sum_exp
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law
from flowcut.joint.exact_method import choose_steps
from flowcut.joint.flat import flatten_energy
from flowcut.joint.frontier import (
    Eliminate,
    Introduce,
    Step,
    elimination_steps,
    frontier_sizes,
    greedy_order,
    grid_orders,
)
from tests.truths.brute_force import ENERGIES, close, law_of, random_energy

Pairs = list[tuple[int, int]]


def _random_pairs(nodes: int, ties: int, seed: int) -> Pairs:
    g = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes, (ties, 2), generator=g).tolist()
    return [(i, j) for i, j in pairs if i != j]


def _pairs(energy: PottsEnergy) -> Pairs:
    return [(i, j) for i, j in flatten_energy(energy).pairs.tolist()]


def _frontiers(steps: list[Step]) -> list[list[int]]:
    """The frontier before each step, as the steps say."""
    frontier: list[int] = []
    seen = []
    for step in steps:
        seen.append(list(frontier))
        if isinstance(step, Introduce):
            frontier.insert(0, step.node)
        else:
            assert frontier.pop(step.position) == step.node
    assert not frontier
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_steps_of_any_order_count_every_node_and_tie_once(seed: int) -> None:
    pairs = _random_pairs(9, 14, seed)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    steps = elimination_steps(9, pairs, order.tolist())
    assert [step.node for step in steps if isinstance(step, Introduce)] == order.tolist()
    assert sorted(step.node for step in steps if isinstance(step, Eliminate)) == list(range(9))
    counted = []
    for step, frontier in zip(steps, _frontiers(steps), strict=True):
        assert step.width == len(frontier)
        if isinstance(step, Introduce):
            for tie in step.ties:
                ends = (frontier[tie.position], step.node)
                assert pairs[tie.tie] == (ends if tie.swapped else ends[::-1])
                counted.append(tie.tie)
        else:  # nothing that comes later is tied to it
            later = {s.node for s in steps[steps.index(step) :] if isinstance(s, Introduce)}
            assert not any(step.node in pair and later & set(pair) for pair in pairs)
    assert sorted(counted) == list(range(len(pairs)))
    sizes = frontier_sizes(torch.tensor(pairs), order)
    assert sizes.tolist() == [step.width for step in steps if isinstance(step, Introduce)]


def test_grids_are_taken_up_along_their_longer_axis() -> None:
    for spatial, where, widest in (
        ((3, 8), Neighborhood.edges(2), 3),
        ((8, 3), Neighborhood.edges(2), 3),
        ((3, 8), Neighborhood.edges(2, 2), 4),
        ((2, 9, 3), Neighborhood.edges(3), 6),
        ((4, 6), Neighborhood(((0, 4), (1, 0))), 6),  # far ties along the longer axis: the other one
    ):
        energy = random_energy(spatial, where, 2, "none")
        steps = choose_steps(energy, flatten_energy(energy).pairs, "elimination")
        assert steps is not None
        assert max(step.width for step in steps if isinstance(step, Introduce)) == widest
    assert len(grid_orders((2, 3, 4))) == 6


def test_a_greedy_order_finds_the_strip_in_a_shuffled_graph() -> None:
    pairs = _pairs(random_energy((3, 40), Neighborhood.edges(2), 2, "none"))
    shuffled = torch.randperm(120, generator=torch.Generator().manual_seed(0)).tolist()
    mixed = [(shuffled[i], shuffled[j]) for i, j in pairs]
    order = greedy_order(120, mixed, limit=22)
    assert order is not None
    assert sorted(order) == list(range(120))
    assert frontier_sizes(torch.tensor(mixed), torch.tensor(order)).max() <= 4
    assert frontier_sizes(torch.tensor(mixed), torch.arange(120)).max() > 30
    g = torch.Generator().manual_seed(1)
    energy = PottsEnergy(
        torch.randn(1, 2, 120, generator=g, dtype=torch.float64),
        torch.randn(1, len(mixed), generator=g, dtype=torch.float64),
        None,
        Graph(torch.tensor(mixed).T, 120),
    )
    back = torch.tensor(shuffled)
    places = torch.tensor(pairs)
    edges = torch.zeros(1, 2, 3, 40, dtype=torch.float64)
    down = places[:, 1] - places[:, 0] == 40
    assert energy.edges is not None
    edges[0, (~down).long(), places[:, 0] // 40, places[:, 0] % 40] = energy.edges[0]
    grid = PottsEnergy(energy.unary[..., back].reshape(1, 2, 3, 40), edges)
    close(exact_law(energy).log_z, exact_law(grid).log_z)


def test_greedy_orders_of_trees_pieces_and_dense_graphs() -> None:
    tree = [((i - 1) // 2, i) for i in range(1, 31)]
    order = greedy_order(33, tree, limit=22)  # nodes 31 and 32 have no ties
    assert order is not None
    assert frontier_sizes(torch.tensor(tree), torch.tensor(order)).max() <= 4
    spider = [pair for leg in range(0, 18, 3) for pair in ((18, leg), (leg, leg + 1), (leg + 1, leg + 2))]
    order = greedy_order(19, spider, limit=22)  # one leg to its end before the next
    assert order is not None
    assert frontier_sizes(torch.tensor(spider), torch.tensor(order)).max() == 2
    assert greedy_order(12, list(itertools.combinations(range(12), 2)), limit=5) is None
    assert greedy_order(0, [], limit=5) == []


@pytest.mark.parametrize("name", ["8-neighbours", "complete", "twice", "26-neighbours"])
def test_any_order_gives_the_same_sums(name: str) -> None:
    energy = ENERGIES[name]()
    flat, truth = flatten_energy(energy), law_of(energy)
    nodes = len(flat.unary[0])
    for seed in range(4):
        order = torch.randperm(nodes, generator=torch.Generator().manual_seed(seed)).tolist()
        chain = Elimination(flat, elimination_steps(nodes, _pairs(energy), order))
        close(chain.log_z, truth.log_z)
        close(chain.beliefs().nodes.mT.reshape(truth.marginals.shape), truth.marginals)


def test_few_tables_are_kept() -> None:
    energy = random_energy((2, 400), Neighborhood.edges(2), 2, "none")
    flat = flatten_energy(energy)
    steps = choose_steps(energy, flat.pairs, "elimination")
    assert steps is not None
    chain = Elimination(flat, steps)
    assert len(steps) == 1600
    assert len(chain._starts) == 40
    assert sum(start.numel() for start in chain._starts) <= 40 * 8


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_log_sum_exp_at_all_scales(labels: int) -> None:
    g = torch.Generator().manual_seed(0)
    for scale in (0.0, 1.0, 30.0, 1e4):
        values = scale * torch.randn(3, labels, 4, generator=g, dtype=torch.float64)
        close(log_sum_exp(values), values.logsumexp(dim=1).flatten())
