"""Cluster samplers: Numba = reference, resumed runs, bonds and clusters by plain search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import flatten_energy
from flowcut.kernels.clusters import swendsen_wang_sweeps, wolff_steps
from flowcut.kernels.clusters_reference import swendsen_wang_reference, wolff_reference
from flowcut.kernels.random import BONDS, SITES, counter_uniforms
from tests.truths.brute_force import ENERGIES, random_energy

_DOORS = {
    "swendsen_wang": (swendsen_wang_sweeps, swendsen_wang_reference),
    "wolff": (wolff_steps, wolff_reference),
}
_SAMPLERS = pytest.mark.parametrize("doors", _DOORS.values(), ids=_DOORS)
_NAMES = ["4-neighbours", "twice", "star", "no ties", "one pixel"]
_CASES = pytest.mark.parametrize("name", _NAMES)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _arguments(energy: PottsEnergy, chains: int = 3, scale: float = 1.0) -> tuple[Tensor, ...]:
    """Tables left out, ties made positive."""
    flat = flatten_energy(energy)
    count, labels = flat.unary.shape[1:]
    g = torch.Generator().manual_seed(1)
    start = torch.randint(labels, (chains, count), generator=g).to(torch.int8)
    return start, flat.unary, flat.pairs, scale * flat.weights.abs()


def _batch(energy: PottsEnergy) -> PottsEnergy:
    assert energy.edges is not None
    unary = torch.cat([energy.unary, -energy.unary, 2 * energy.unary])
    edges = torch.cat([energy.edges, 2 * energy.edges, energy.edges])
    return PottsEnergy(unary, edges, None, energy.neighborhood)


@_SAMPLERS
@_CASES
def test_numba_draws_the_labels_of_the_reference(doors, name: str) -> None:
    energy = ENERGIES[name]()
    for model in (energy, _batch(energy)):
        arguments = _arguments(model)
        ours, theirs = (door(*arguments, 6, 4, 5, 100) for door in doors)
        assert ours.dtype == torch.int8
        assert torch.equal(ours, theirs)


@_SAMPLERS
@pytest.mark.parametrize("scale", [0.1, 1.0, 1000.0])
@pytest.mark.parametrize("labels", [2, 5])
def test_clusters_of_any_size(doors, scale: float, labels: int) -> None:
    energy = random_energy((13, 17), Neighborhood.edges(2, 2), labels, "none")
    for field in (0.0, 1.0, 1000.0):
        arguments = _arguments(PottsEnergy(field * energy.unary, energy.edges), scale=scale)
        ours, theirs = (door(*arguments, 4, 2, 5, 0) for door in doors)
        assert torch.equal(ours, theirs)


def _bonds(state: Tensor, pairs: Tensor, weights: Tensor, seed: int, sweep: int) -> list[set[int]]:
    """The clusters of one chain, by merging sets."""
    u = counter_uniforms(torch.arange(len(pairs)), seed, BONDS, 1, sweep)[0]
    clusters = [{i} for i in range(len(state))]
    for e, (i, j) in enumerate(pairs.tolist()):
        if state[i] == state[j] and u[e] < 1 - torch.exp(-weights[0, e]):
            union = clusters[i] | clusters[j]
            for member in union:
                clusters[member] = union
    return clusters


def test_a_sweep_gives_every_cluster_one_label() -> None:
    energy = random_energy((6, 7), Neighborhood.edges(2), 3, "none")
    start, unary, pairs, weights = _arguments(energy, 1, scale=0.7)
    clusters = _bonds(start[0], pairs, weights, 5, 0)
    assert 3 < len({min(c) for c in clusters}) < 40
    after = swendsen_wang_sweeps(start, unary, pairs, weights, 1, 1, 5, 0)[0, 0]
    for cluster in clusters:
        assert after[list(cluster)].unique().numel() == 1
    # With a field that decides, every cluster takes the label that is cheapest for its sum.
    costs = 1e6 * unary
    after = swendsen_wang_sweeps(start, costs, pairs, weights, 1, 1, 5, 0)[0, 0]
    for cluster in clusters:
        assert (after[list(cluster)] == costs[0, list(cluster)].sum(dim=0).argmin()).all()


def test_a_step_changes_the_cluster_of_one_site() -> None:
    energy = random_energy((6, 7), Neighborhood.edges(2), 2, "none")
    start, unary, pairs, weights = _arguments(energy, 1)
    for step in range(20):
        cluster = _bonds(start[0], pairs, weights, 5, step)
        site = int(counter_uniforms(torch.arange(1), 5, SITES, 1, step)[0, 0] * 42)
        # Without a field it always changes.
        after = wolff_steps(start, 0 * unary, pairs, weights, 1, 1, 5, step)[0]
        assert set((after != start)[0].nonzero()[:, 0].tolist()) == cluster[site]
        start = after


@_SAMPLERS
@_CASES
def test_a_run_goes_on_from_its_labels_and_its_count(doors, name: str) -> None:
    start, *rest = _arguments(ENERGIES[name]())
    for door in doors:
        whole = door(start, *rest, 10, 1, 7, 3)
        first = door(start, *rest, 4, 1, 7, 3)
        assert torch.equal(whole, torch.cat([first, door(first[-1], *rest, 6, 1, 7, 7)]))
        assert torch.equal(whole[1::2], door(start, *rest, 5, 2, 7, 3))


@_SAMPLERS
def test_the_same_bits_for_any_number_of_threads_and_chains(doors) -> None:
    arguments = _arguments(random_energy((33, 17), Neighborhood.edges(2, 2), 3, "none"), 40)
    torch.set_num_threads(1)
    expected = doors[0](*arguments, 2, 20, 0, 0)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(doors[0](*arguments, 2, 20, 0, 0), expected)
    assert torch.equal(doors[0](arguments[0][:5], *arguments[1:], 2, 20, 0, 0), expected[:, :5])


@_SAMPLERS
def test_operation(doors) -> None:
    for name in ("4-neighbours", "twice", "no ties"):
        energy = ENERGIES[name]()
        for model in (energy, _batch(energy)):
            torch.library.opcheck(doors[0], (*_arguments(model), 2, 3, 5, 1))


@_SAMPLERS
def test_nothing_to_draw(doors) -> None:
    start, *rest = _arguments(ENERGIES["4-neighbours"]())
    empty = _arguments(PottsEnergy(torch.zeros(1, 2, 0, 3), torch.zeros(1, 2, 0, 3)))
    for door in doors:
        assert door(start, *rest, 0, 1, 0, 0).shape == (0, 3, 6)
        assert door(start[:0], *rest, 2, 1, 0, 0).shape == (2, 0, 6)
        assert door(*empty, 2, 1, 0, 0).shape == (2, 3, 0)


@_SAMPLERS
def test_inputs_may_lie_anywhere_in_memory_and_stay_as_they_are(doors) -> None:
    arguments = _arguments(ENERGIES["4-neighbours"]())
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in arguments]
    before = [t.clone() for t in strided]
    assert torch.equal(doors[0](*strided, 2, 2, 0, 0), doors[0](*arguments, 2, 2, 0, 0))
    assert all(torch.equal(a, b) for a, b in zip(before, strided, strict=True))
