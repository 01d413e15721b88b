"""Every sampler of the zoo draws from the enumerated law, and keeps the promises of the house."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.chains import Chains
from flowcut.joint.energy import PottsEnergy
from tests.truths.brute_force import ENERGIES, Law, chi_square, law_of, random_energy
from tests.zoo import SAMPLERS
from tests.zoo.entry import SamplerEntry

pytestmark = pytest.mark.parametrize("entry", SAMPLERS, ids=str)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _fit(energy: PottsEnergy, entry: SamplerEntry) -> PottsEnergy:
    """For samplers that cannot do more: the same unary costs and sizes of ties."""
    if not entry.attractive:
        return energy
    assert energy.edges is not None
    return PottsEnergy(energy.unary, energy.edges.abs(), None, energy.neighborhood, energy.constant)


def _numbers(labels: Tensor, choices: int) -> Tensor:
    """Labelings (..., *spatial) as positions in the list of all of them, flat."""
    flat = labels.reshape(-1, labels[0, 0].numel())
    return (flat * choices ** torch.arange(flat.shape[1] - 1, -1, -1)).sum(dim=1)


def _draw(entry: SamplerEntry, energy: PottsEnergy, **options) -> Chains:
    settings = {"chains": 3000, "draws": 6, "thin": entry.thin, "burn_in": 5 * entry.thin, "seed": 1}
    return entry.call(energy, **{**settings, **options})


def _agrees(chains: Chains, law: Law) -> bool:
    statistic, quantile = chi_square(_numbers(chains.labels, chains.energy.num_labels), law.p)
    return statistic < quantile


@pytest.mark.parametrize("name", ENERGIES)
def test_meets_exact_enumeration(entry: SamplerEntry, name: str) -> None:
    energy = _fit(ENERGIES[name](), entry)
    law = law_of(energy)
    chains = _draw(entry, energy)
    assert _agrees(chains, law)
    # Marginals and mean energy within 4.5 standard errors of 18 000 draws that are nearly independent.
    error = 4.5 * (law.marginals * (1 - law.marginals) / 18_000).sqrt() + 1e-12
    assert ((chains.marginals() - law.marginals).abs() < error).all()
    mean, spread = chains.estimate(lambda labels: energy.energy(labels))
    exact = (law.p * law.energies).sum()
    assert (mean - exact).abs() < 4.5 * spread
    torch.testing.assert_close(mean, chains.energies.mean())


def test_another_law_is_told_apart(entry: SamplerEntry) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    assert not _agrees(_draw(entry, energy), law_of(energy.at_temperature(1.1)))


def test_one_long_chain_meets_it_too(entry: SamplerEntry) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    assert _agrees(_draw(entry, energy, chains=1, draws=15_000), law_of(energy))


def test_a_batch_has_a_chain_for_each_energy(entry: SamplerEntry) -> None:
    each = [_fit(random_energy((2, 3), Neighborhood.edges(2), 2, "none", seed=s), entry) for s in range(2)]
    unary, edges = (torch.cat([getattr(e, name) for e in each]) for name in ("unary", "edges"))
    unary, edges = unary.repeat(500, 1, 1, 1), edges.repeat(500, 1, 1, 1)
    batch = PottsEnergy(unary, edges, constant=torch.tensor([0.7, -2.0]).repeat(500))
    chains = _draw(entry, batch, chains=1, draws=12)
    assert chains.labels.shape == (12, 1000, 2, 3)
    assert chains.marginals().shape == (1000, 2, 2, 3)
    for s, energy in enumerate(each):
        statistic, quantile = chi_square(_numbers(chains.labels[:, s::2], 2), law_of(energy).p)
        assert statistic < quantile
        shifted = energy.energy(chains.labels[:, s]) + (0.0, -2.7)[s]
        torch.testing.assert_close(chains.energies[:, s], shifted, rtol=1e-6, atol=1e-6)
    same = entry.call(batch, chains=1000, draws=12, thin=entry.thin, burn_in=5 * entry.thin, seed=1)
    assert torch.equal(same.labels, chains.labels)


def test_statistics_of_a_batch_are_those_of_each_energy(entry: SamplerEntry) -> None:
    each = [_fit(random_energy((2, 3), Neighborhood.edges(2), 2, "none", seed=s), entry) for s in range(3)]
    batch = PottsEnergy(torch.cat([e.unary for e in each]), torch.cat([e.edges for e in each]))
    chains = _draw(entry, batch, chains=3, draws=50)

    def ones(labels: Tensor) -> Tensor:
        return labels.double().flatten(1)

    for n in range(3):
        alone = Chains(batch[n], chains.states[:, n : n + 1], chains.thin, chains.sweep, chains.sampler)
        for measure in ("expectation", "effective_sample_size", "r_hat"):
            found = getattr(chains, measure)(ones)[n]
            torch.testing.assert_close(found, getattr(alone, measure)(ones), equal_nan=True)
        for ours, theirs in zip(chains.estimate(ones), alone.estimate(ones), strict=True):
            torch.testing.assert_close(ours[n], theirs, equal_nan=True)
        torch.testing.assert_close(chains.effective_sample_size()[n], alone.effective_sample_size())
        torch.testing.assert_close(chains.r_hat()[n], alone.r_hat())
        assert torch.equal(chains.marginals()[n], alone.marginals())


def test_going_on_gives_the_bits_of_one_run(entry: SamplerEntry) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    whole = entry.call(energy, chains=3, draws=9, thin=2, burn_in=5, seed=4)
    part = entry.call(energy, chains=3, draws=4, thin=2, burn_in=5, seed=4)
    assert part.sweep == 13
    stored = pickle.loads(pickle.dumps(part))
    for chains in (part.extend(5), stored.extend(2).extend(3)):
        assert chains.sweep == whole.sweep == 23
        assert torch.equal(chains.labels, whole.labels)
        assert torch.equal(chains.energies, whole.energies)
    assert part.labels.shape[0] == 4


def test_the_seed_decides_and_nothing_else(entry: SamplerEntry) -> None:
    energy = _fit(random_energy((30, 31), Neighborhood.edges(2), 3, "none"), entry)

    def labels(seed, chains: int = 4) -> Tensor:
        return entry.call(energy, chains=chains, draws=3, thin=5, burn_in=2, seed=seed).labels

    torch.set_num_threads(1)
    expected = labels(7)
    assert not torch.equal(expected[:, 0], expected[:, 1])
    torch.set_num_threads(2)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(labels(7), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(labels(7, chains=2), expected[:, :2])
    assert not torch.equal(labels(8), expected)
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.equal(labels(first), labels(second))
    assert not torch.equal(labels(first), labels(torch.Generator().manual_seed(3)))


def test_initial_labelings_are_where_it_begins(entry: SamplerEntry) -> None:
    """Two halves of one label each, with ties that nothing breaks: each half keeps one label."""
    energy = PottsEnergy(torch.zeros(1, 3, 6, 8), torch.full((1, 2, 6, 8), 80.0))
    start = torch.stack([(torch.arange(8) // 4).expand(6, 8), 2 - (torch.arange(8) // 4).expand(6, 8)])

    def halves_are_whole(initial: Tensor | None) -> bool:
        drawn = entry.call(energy, chains=2, draws=5, burn_in=0, initial=initial).labels
        left, right = drawn[..., :4], drawn[..., 4:]
        return bool((left == left[..., :1, :1]).all() and (right == right[..., :1, :1]).all())

    for given in (start, start[:1], start.to(torch.uint8)):
        assert halves_are_whole(given)
    assert not halves_are_whole(None)


@pytest.mark.parametrize("spatial", [(1, 1), (0, 3), (3, 0)], ids=str)
def test_one_pixel_and_none(entry: SamplerEntry, spatial: tuple[int, ...]) -> None:
    energy = PottsEnergy(torch.zeros(1, 2, *spatial), torch.full((1, 2, *spatial), float("nan")))
    chains = entry.call(energy, chains=5, draws=200, burn_in=3).extend(4)
    assert chains.labels.shape == (204, 5, *spatial)
    assert chains.marginals().shape == (2, *spatial)
    assert torch.equal(chains.energies, torch.zeros(204, 5, dtype=torch.float64))
    if spatial == (1, 1):
        # Gibbs and Swendsen-Wang draw anew (standard error 0.016), Wolff changes every time.
        assert (chains.marginals() - 0.5).abs().max() < 0.07


@pytest.mark.parametrize("choices", [128, 129, 300])
def test_many_labels(entry: SamplerEntry, choices: int) -> None:
    unary = 30.0 * (torch.arange(choices) < choices - 1).double().reshape(1, choices, 1).expand(1, choices, 2)
    chains = entry.call(PottsEnergy(unary, torch.zeros(1, 1, 2)), draws=20, burn_in=4000)
    assert (chains.labels == choices - 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 0}, "chains: expected an integer >= 1, got 0"),
        ({"chains": 2.5}, "chains: expected an integer >= 1, got 2.5"),
        ({"draws": 0}, "draws: expected an integer >= 1, got 0"),
        ({"thin": 0}, "thin: expected an integer >= 1, got 0"),
        ({"burn_in": -1}, "burn_in: expected an integer >= 0, got -1"),
        ({"seed": -1}, r"seed: expected an integer from 0 to 2\*\*63 - 1 or a torch.Generator, got -1"),
        ({"seed": 2**63}, "seed: expected an integer from 0 .*, got 9223372036854775808"),
        ({"seed": 0.5}, "seed: expected an integer from 0 .*, got 0.5"),
        (
            {"initial": torch.zeros(2, 2, 3, dtype=torch.int64)},
            r"initial: expected shape \(3, 2, 3\), got \(2, 2, 3\)",
        ),
        (
            {"initial": torch.zeros(2, 3, dtype=torch.int64)},
            r"initial: expected shape \(3, 2, 3\), got \(2, 3\)",
        ),
        (
            {"initial": torch.full((3, 2, 3), 3)},
            "initial: expected labels 0 to 2, got 3 to 3",
        ),
        (
            {"initial": torch.full((3, 2, 3), -1)},
            "initial: expected labels 0 to 2, got -1 to -1",
        ),
    ],
)
def test_refusals(entry: SamplerEntry, options: dict, message: str) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    with pytest.raises(ValueError, match=f"^{message}$"):
        entry.call(energy, **{"chains": 3, "draws": 2, **options})


def test_refusals_of_batches_and_types(entry: SamplerEntry) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    batch = PottsEnergy(energy.unary.expand(3, -1, -1, -1), energy.edges)
    with pytest.raises(ValueError, match=r"^chains: expected 1 for each of 3 energies, got 2$"):
        entry.call(batch, chains=2)
    with pytest.raises(ValueError, match=r"^energy: expected at least one, got an empty batch$"):
        entry.call(PottsEnergy(energy.unary[:0], energy.edges))
    with pytest.raises(TypeError, match=r"^initial: expected an integer tensor, got torch.float32$"):
        entry.call(energy, initial=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"^draws: expected an integer >= 1, got 0$"):
        entry.call(energy, draws=1, burn_in=0).extend(0)


def test_energies_with_gradients_and_in_single_precision(entry: SamplerEntry) -> None:
    energy = _fit(ENERGIES["4-neighbours"](), entry)
    unary = energy.unary.clone().requires_grad_()
    learned = entry.call(PottsEnergy(unary, energy.edges), draws=20)
    assert torch.equal(learned.labels, entry.call(energy, draws=20).labels)
    assert not learned.energies.requires_grad
    single = entry.call(energy.to(torch.float32), draws=5)
    assert single.energies.dtype == torch.float64
