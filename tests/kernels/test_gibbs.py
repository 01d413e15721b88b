"""Gibbs sampling: Numba = reference, conditional laws by enumeration, the same bits for any threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.colouring import colouring
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import flatten_energy
from flowcut.kernels import threads as spread
from flowcut.kernels.gibbs import gibbs_sweeps
from flowcut.kernels.gibbs_layout import adjacency
from flowcut.kernels.gibbs_reference import conditional_costs, gibbs_reference
from flowcut.kernels.threads import strip_count
from tests.truths.brute_force import ENERGIES, chi_square, law_of, random_energy

_CASES = pytest.mark.parametrize("name", ENERGIES)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _arguments(energy: PottsEnergy, chains: int = 3, dtype: torch.dtype = torch.int8) -> tuple[Tensor, ...]:
    flat = flatten_energy(energy)
    count, labels = flat.unary.shape[1:]
    g = torch.Generator().manual_seed(1)
    start = torch.randint(labels, (chains, count), generator=g).to(dtype)
    tables = torch.zeros(1, 1, 0, 0, dtype=torch.float64) if flat.tables is None else flat.tables
    assert energy.neighborhood is not None
    colours = colouring(energy.neighborhood, energy.spatial)
    return start, flat.unary, flat.pairs, flat.weights, tables, colours


def _batch(energy: PottsEnergy) -> PottsEnergy:
    """Three energies: other costs, the ties and tables of one."""
    unary = torch.cat([energy.unary, -energy.unary, 2 * energy.unary])
    return PottsEnergy(unary, energy.edges, energy.pairwise, energy.neighborhood)


def _both(arguments: tuple[Tensor, ...], *rest) -> None:
    ours, theirs = gibbs_sweeps(*arguments, *rest), gibbs_reference(*arguments, *rest)
    assert ours.dtype == arguments[0].dtype
    assert torch.equal(ours, theirs)


@_CASES
def test_numba_draws_the_labels_of_the_reference(name: str) -> None:
    energy = ENERGIES[name]()
    heat = torch.ones(12, dtype=torch.float64)
    for temperatures in (heat, torch.linspace(5, 0.5, 12, dtype=torch.float64)):
        _both(_arguments(energy), temperatures, 3, 5, 100)
        _both(_arguments(_batch(energy)), temperatures, 3, 5, 100)


@pytest.mark.parametrize("labels", [2, 3, 130])
@pytest.mark.parametrize("tables", ["none", "shared", "own"])
def test_costs_and_ties_of_every_item(labels: int, tables: str) -> None:
    where = Neighborhood.edges(2)
    each = [random_energy((3, 4), where, labels, tables, seed=s) for s in range(2)]
    unary, edges = torch.cat([e.unary for e in each]), torch.cat([e.edges for e in each])
    pairwise = each[0].pairwise
    if tables == "own":
        pairwise = torch.cat([e.pairwise for e in each])
    both = PottsEnergy(unary, edges, pairwise, where)
    heat = torch.ones(6, dtype=torch.float64)
    arguments = _arguments(both, 2, torch.int16)
    _both(arguments, heat, 2, 3, 0)
    # The first energy alone is the first chain; the second chain has other numbers.
    alone = gibbs_sweeps(arguments[0][:1], *_arguments(both[0])[1:], heat, 2, 3, 0)
    assert torch.equal(alone[:, 0], gibbs_sweeps(*arguments, heat, 2, 3, 0)[:, 0])


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("size", [1e-3, 30.0, 3000.0])
def test_costs_of_any_size(labels: int, size: float) -> None:
    """Neither overflow nor underflow, whichever formula is used; ties of both signs."""
    small = random_energy((5, 6), Neighborhood.edges(2, 2), labels, "none")
    energy = PottsEnergy(size * small.unary, size * small.edges)
    for temperature in (1.0, 0.7):
        _both(_arguments(energy), torch.full((10,), temperature, dtype=torch.float64), 1, 2, 0)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("tables", ["none", "shared", "own"])
@pytest.mark.parametrize("ties", [[], [(0, 1)], [(1, 0), (0, 1)]], ids=str)
def test_graphs_of_hardly_any_ties(labels: int, tables: str, ties: list[tuple[int, int]]) -> None:
    where = Graph(torch.tensor(ties, dtype=torch.int64).reshape(-1, 2).T, 2)
    energy = random_energy((2,), where, labels, tables)
    _both(_arguments(energy), torch.ones(4, dtype=torch.float64), 2, 0, 0)
    _both(_arguments(_batch(energy)), torch.ones(4, dtype=torch.float64), 2, 0, 0)


@_CASES
def test_conditional_costs_are_the_change_of_the_energy(name: str) -> None:
    energy = ENERGIES[name]()
    start, unary, pairs, weights, tables, _ = _arguments(energy)
    count, labels = unary.shape[1:]
    state, nodes = start.long(), torch.arange(count)
    ties = adjacency(pairs, count)
    found = conditional_costs(state, unary, weights, tables, ties, nodes, torch.arange(len(ties.ties)))
    for i in range(count):
        for j in range(labels):
            changed, zero = state.clone(), state.clone()
            changed[:, i], zero[:, i] = j, 0
            costs = [energy.energy(s.reshape(-1, *energy.spatial)) for s in (changed, zero)]
            torch.testing.assert_close(found[:, i, j] - found[:, i, 0], costs[0] - costs[1])


@pytest.mark.parametrize("door", [gibbs_sweeps, gibbs_reference], ids=["numba", "reference"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_one_pixel_is_drawn_from_softmax(door, temperature: float) -> None:
    """Every draw is independent of the last one."""
    for labels in (2, 3):
        energy = random_energy((1, 1), Neighborhood.edges(2), labels, "none")
        heat = torch.full((400,), temperature, dtype=torch.float64)
        drawn = door(*_arguments(energy, chains=50), heat, 1, 0, 0)
        law = law_of(energy.at_temperature(temperature))
        statistic, quantile = chi_square(drawn.flatten().long(), law.p)
        assert statistic < quantile


@pytest.mark.parametrize("name", ["4-neighbours", "own ties", "twice"])
def test_a_hot_chain_has_the_hot_law(name: str) -> None:
    energy = ENERGIES[name]()
    heat = torch.full((80,), 2.0, dtype=torch.float64)
    drawn = gibbs_sweeps(*_arguments(energy, chains=20_000), heat, 80, 0, 0)[0].long()
    place = energy.num_labels ** torch.arange(drawn.shape[1] - 1, -1, -1)
    numbers = (drawn * place).sum(dim=1)
    statistic, quantile = chi_square(numbers, law_of(energy.at_temperature(2.0)).p)
    assert statistic < quantile
    statistic, quantile = chi_square(numbers, law_of(energy.at_temperature(1.8)).p)
    assert statistic > quantile  # a temperature wrong by a tenth is seen


@_CASES
def test_a_run_goes_on_from_its_labels_and_its_count(name: str) -> None:
    start, *rest = _arguments(ENERGIES[name]())
    heat = torch.linspace(2, 1, 10, dtype=torch.float64)
    whole = gibbs_sweeps(start, *rest, heat, 1, 7, 3)
    first = gibbs_sweeps(start, *rest, heat[:4], 1, 7, 3)
    second = gibbs_sweeps(first[-1], *rest, heat[4:], 1, 7, 7)
    assert torch.equal(whole, torch.cat([first, second]))
    assert torch.equal(whole[1::2], gibbs_sweeps(start, *rest, heat, 2, 7, 3))


@pytest.mark.parametrize("spatial", [(259, 257), (33, 17)], ids=str)
@pytest.mark.parametrize("labels", [2, 3])
def test_the_same_bits_for_any_number_of_threads(spatial: tuple[int, ...], labels: int) -> None:
    energy = random_energy(spatial, Neighborhood.edges(2, 2), labels, "none")
    heat = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    for chains in (1, 7):
        arguments = _arguments(energy, chains)
        torch.set_num_threads(1)
        expected = gibbs_sweeps(*arguments, heat, 2, 0, 0)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(gibbs_sweeps(*arguments, heat, 2, 0, 0), expected)


def test_one_large_picture_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have found the machine too busy for threads that wait for each other.
    monkeypatch.setattr(spread, "_alone_until", 0.0)
    torch.set_num_threads(2)
    assert strip_count(259 * 257) == 2
    energy = random_energy((259, 257), Neighborhood.edges(2), 2, "none")
    heat = torch.ones(3, dtype=torch.float64)
    _both(_arguments(energy, 1), heat, 3, 0, 0)


def test_a_chain_does_not_depend_on_how_many_there_are() -> None:
    arguments = _arguments(ENERGIES["4-neighbours"](), 3000)
    heat = torch.ones(50, dtype=torch.float64)
    torch.set_num_threads(2)
    many = gibbs_sweeps(*arguments, heat, 50, 0, 0)
    few = gibbs_sweeps(arguments[0][:5], *arguments[1:], heat, 50, 0, 0)
    assert torch.equal(many[:, :5], few)


@pytest.mark.parametrize("name", ["4-neighbours", "8-neighbours", "twice", "no ties"])
def test_operation(name: str) -> None:
    heat = torch.linspace(2, 1, 4, dtype=torch.float64)
    torch.library.opcheck(gibbs_sweeps, (*_arguments(ENERGIES[name]()), heat, 2, 5, 1))
    torch.library.opcheck(gibbs_sweeps, (*_arguments(_batch(ENERGIES[name]())), heat, 2, 5, 1))


@pytest.mark.parametrize("door", [gibbs_sweeps, gibbs_reference], ids=["numba", "reference"])
def test_nothing_to_draw(door) -> None:
    arguments = _arguments(ENERGIES["4-neighbours"]())
    heat = torch.ones(2, dtype=torch.float64)
    assert door(*arguments, heat[:0], 1, 0, 0).shape == (0, 3, 6)
    assert door(arguments[0][:0], *arguments[1:], heat, 1, 0, 0).shape == (2, 0, 6)
    empty = PottsEnergy(torch.zeros(1, 2, 0, 3), torch.zeros(1, 2, 0, 3))
    assert door(*_arguments(empty), heat, 1, 0, 0).shape == (2, 3, 0)


def test_inputs_may_lie_anywhere_in_memory_and_stay_as_they_are() -> None:
    arguments = _arguments(ENERGIES["8-neighbours"]())
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in arguments]
    before = [t.clone() for t in strided]
    heat = torch.ones(4, dtype=torch.float64)
    assert torch.equal(gibbs_sweeps(*strided, heat, 2, 0, 0), gibbs_sweeps(*arguments, heat, 2, 0, 0))
    assert all(torch.equal(a, b) for a, b in zip(before, strided, strict=True))
