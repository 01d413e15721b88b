"""Exact laws, both ways of summing: brute force, closed forms, RAF's Table 1, chi-square of samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.entropy import entropy_from_counts
from flowcut.joint.exact import exact_law
from flowcut.joint.ising import IsingEnergy
from tests.truths.brute_force import ENERGIES, all_labelings, chi_square, close, law_of, random_energy

METHODS = ["enumeration", "elimination"]
_METHODS = pytest.mark.parametrize("method", METHODS)
_ENERGIES = pytest.mark.parametrize("name", ENERGIES)


def ising_of_table_1() -> PottsEnergy:
    unary = torch.zeros(1, 2, 3, 8, dtype=torch.float64)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    return PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1, dtype=torch.float64))


@_METHODS
@_ENERGIES
def test_everything_is_the_sum_over_all_labelings(name: str, method: str) -> None:
    energy = ENERGIES[name]()
    law, truth = exact_law(energy, method), law_of(energy)
    assert law.method == method
    close(law.log_z, truth.log_z)
    assert law.log_z.shape == ()
    close(law.marginals, truth.marginals)
    close(law.pair_marginals, truth.pair_marginals)
    close(law.mean_energy, (truth.p * truth.energies).sum())
    close(law.entropy, -(truth.p * truth.p.log()).sum())
    close(law.log_prob(truth.labels), truth.p.log())


@_METHODS
@pytest.mark.parametrize("name", ["8-neighbours", "twice", "one pixel"])
@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_states_are_all_labelings_in_counting_order(name: str, method: str, block: int) -> None:
    energy = ENERGIES[name]()
    truth, blocks = law_of(energy), list(exact_law(energy, method).states(block))
    assert torch.equal(torch.cat([b.labels for b in blocks]), truth.labels)
    close(torch.cat([b.log_prob for b in blocks]), truth.p.log())


@_METHODS
@_ENERGIES
def test_samples_follow_the_law(name: str, method: str) -> None:
    energy = ENERGIES[name]()
    truth = law_of(energy)
    samples = exact_law(energy, method).sample(20_000, seed=3)
    assert samples.dtype == torch.int64
    labels, nodes = energy.num_labels, truth.labels[0].numel()
    powers = torch.tensor([labels ** (nodes - 1 - i) for i in range(nodes)])
    statistic, quantile = chi_square((samples.flatten(1) * powers).sum(dim=1), truth.p)
    assert statistic < quantile


@_METHODS
def test_table_1_of_raf(method: str) -> None:
    energy = ising_of_table_1()
    law = exact_law(energy, method)
    assert f"{law.log_z:.4f} {law.mean_energy:.4f} {law.entropy:.4f}" == "5.1362 -1.5395 3.5967"
    straight = torch.stack([(torch.arange(8) > c).long().expand(3, 8) for c in range(7)])
    close(law.log_prob(straight).exp(), torch.full((7,), 0.0875, dtype=torch.float64), 1e-4)
    # Turning the picture by half a turn exchanges the labels.
    close(law.marginals[0], law.marginals[1].flip(0, 1))


def test_38_states_of_table_1_hold_90_percent() -> None:
    likely = torch.cat([b.log_prob.topk(50).values for b in exact_law(ising_of_table_1()).states()])
    mass = likely.sort(descending=True).values.exp().cumsum(dim=0)
    assert mass[36] < 0.9 < mass[37]


@_METHODS
def test_independent_pixels(method: str) -> None:
    g = torch.Generator().manual_seed(0)
    unary = 3 * torch.randn(1, 3, 2, 5, generator=g, dtype=torch.float64)
    law = exact_law(PottsEnergy(unary, torch.zeros(1, 2, 2, 5)), method)
    close(law.log_z, (-unary).logsumexp(dim=1).sum())
    close(law.marginals, (-unary[0]).softmax(dim=0))


@pytest.mark.parametrize(("coupling", "field"), [(0.3, 0.1), (1.5, -0.02), (-0.8, 0.5)])
def test_the_ising_ring(coupling: float, field: float) -> None:
    """Z = a^n + b^n with the eigenvalues of [[e^(c+h), e^-c], [e^-c, e^(c-h)]]."""
    n = 500
    nodes = torch.arange(n)
    ring = Graph(torch.stack([nodes, (nodes + 1) % n]), n)
    h = torch.full((1, 1, n), field, dtype=torch.float64)
    c = torch.full((1, n), coupling, dtype=torch.float64)
    law = exact_law(IsingEnergy(h, c, ring))
    root = math.sqrt(math.exp(2 * coupling) * math.sinh(field) ** 2 + math.exp(-2 * coupling))
    large, small = (math.exp(coupling) * math.cosh(field) + sign * root for sign in (1, -1))
    ratio = (small / large) ** n
    close(law.log_z, n * math.log(large) + math.log1p(ratio))
    # d log Z / dh / n, the same for every node.
    spin = math.exp(coupling) * math.sinh(field) / root * (1 - ratio) / (1 + ratio)
    close(law.marginals[1], torch.full((n,), (1 + spin) / 2, dtype=torch.float64))


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_strip_by_its_transfer_matrix(turned: bool) -> None:
    """v <- (T v) * u along 60 rows of 3 pixels, with dense 8 x 8 matrices."""
    g = torch.Generator().manual_seed(0)
    unary = torch.randn(60, 3, 2, generator=g, dtype=torch.float64)
    down, right = torch.randn(2, 60, 3, generator=g, dtype=torch.float64)
    rows = all_labelings((3,), 2)
    v = torch.ones(8, dtype=torch.float64)
    for r in range(60):
        own = unary[r][torch.arange(3), rows].sum(dim=1)
        own = own + ((rows[:, :-1] != rows[:, 1:]) * right[r, :2]).sum(dim=1)
        if r:
            v = torch.exp(-((rows[:, None] != rows) * down[r - 1]).sum(dim=2)) @ v
        v = v * torch.exp(-own)
    u, edges = unary.permute(2, 0, 1)[None], torch.stack([down, right])[None]
    if turned:
        u, edges = u.mT, edges.mT.flip(1)
    close(exact_law(PottsEnergy(u, edges)).log_z, v.sum().log())


def test_strong_costs_neither_overflow_nor_vanish() -> None:
    """Forced labels: of all labelings one is e^1000 times as likely as the others together."""
    want = torch.tensor([[0, 1, 1, 0, 1, 0, 0, 1]] * 3)
    unary = 2000.0 * torch.stack([want, 1 - want])[None].double()
    for method in METHODS:
        law = exact_law(PottsEnergy(unary, torch.full((1, 2, 3, 8), -50.0)), method)
        close(law.log_z, -law.energy.energy(want[None])[0])
        assert torch.equal(law.marginals[1], want.double())
        assert torch.equal(law.sample(5, seed=0), want.expand(5, 3, 8))
        assert law.entropy == 0


def test_long_grids_keep_their_digits() -> None:
    energy = random_energy((5, 300), Neighborhood.edges(2), 2, "own")
    law = exact_law(energy)
    close(law.marginals.sum(dim=0), torch.ones(5, 300, dtype=torch.float64), 1e-11)
    pairs = law.pair_marginals
    close(pairs[1, :, :, :, :-1].sum(dim=1), law.marginals[:, :, :-1], 1e-11)
    close(pairs[1, :, :, :, :-1].sum(dim=0), law.marginals[:, :, 1:], 1e-11)
    # Two halves joined by one column of ties: log Z of both when the ties between them cost nothing.
    assert energy.edges is not None
    edges = energy.edges.clone()
    edges[:, 1, :, 149] = 0
    cut = exact_law(PottsEnergy(energy.unary, edges, energy.pairwise))
    assert energy.pairwise is not None
    halves = [
        exact_law(PottsEnergy(energy.unary[..., part], edges[..., part], energy.pairwise[..., part])).log_z
        for part in (slice(None, 150), slice(150, None))
    ]
    close(cut.log_z, halves[0] + halves[1])


@_METHODS
def test_divergence_of_a_model_given_by_its_probabilities(method: str) -> None:
    energy = ENERGIES["4-neighbours"]()
    law, truth = exact_law(energy, method), law_of(energy)
    chances = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=0)

    def log_prob(labels: Tensor) -> Tensor:  # independent pixels, in single precision
        return chances.log().expand(len(labels), -1, -1, -1).gather(1, labels[:, None]).flatten(1).sum(dim=1)

    q = log_prob(truth.labels).double()
    expected = (q.exp() * (q - truth.p.log())).sum()
    for block in (10, 1 << 16):
        close(law.kl(log_prob, block), expected, 1e-7)
    close(law.kl(law.log_prob), 0.0)


def test_divergence_of_a_model_that_leaves_labelings_out() -> None:
    law = exact_law(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
    model = torch.tensor([0.5, 0.0, 0.0, 0.5]).log()
    # Both equal labelings have p = 1 / (2 + 2 e^-2).
    found = law.kl(lambda labels: model[2 * labels[:, 0] + labels[:, 1]])
    close(found, math.log(1 + math.exp(-2)), 1e-7)


def test_divergence_from_samples() -> None:
    """The energy of M draws from the law itself is its mean within four standard errors."""
    law = exact_law(ising_of_table_1())
    samples = law.sample(20_000, seed=1)
    error = float(law.energy.energy(samples).std()) / math.sqrt(len(samples))
    assert abs(float(law.kl_from_samples(samples, law.entropy))) < 4 * error
    estimated = law.kl_from_samples(samples, entropy_from_counts)
    by_hand = law.kl_from_samples(samples, lambda counts: entropy_from_counts(counts).value)
    assert torch.equal(estimated, by_hand)
    # Miller and Madow's estimate is a little low here, so that the divergence comes out high.
    assert -4 * error < float(estimated) < 0.1


def test_samples_of_a_larger_grid_have_its_marginals() -> None:
    energy = random_energy((6, 20), Neighborhood.edges(2, 2), 2, "none")
    law = exact_law(energy)
    samples = law.sample(4000, seed=0)
    error = (law.marginals[1] * law.marginals[0] / len(samples)).sqrt()
    assert bool(((samples.double().mean(dim=0) - law.marginals[1]).abs() < 4.5 * error).all())
    close(law.energy.energy(samples).mean(), law.mean_energy, 0.02)


@_METHODS
def test_seeds_and_threads(method: str) -> None:
    law = exact_law(ENERGIES["8-neighbours"](), method)
    first = law.sample(500, seed=7)
    assert torch.equal(first, law.sample(500, seed=7))
    assert not torch.equal(first, law.sample(500, seed=8))
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(first, law.sample(500, generator))
    assert not torch.equal(first, law.sample(500, generator))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(first, exact_law(ENERGIES["8-neighbours"](), method).sample(500, seed=7))
    finally:
        torch.set_num_threads(threads)
    assert law.sample(0, seed=0).shape == (0, 3, 3)


def test_the_callers_gradients_stay_on_between_blocks() -> None:
    for _ in exact_law(ENERGIES["line"]()).states(100):
        assert torch.is_grad_enabled()


def test_single_precision_costs_are_summed_in_double() -> None:
    energy = random_energy((3, 4), Neighborhood.edges(2), 2, "own").to(torch.float32)
    law = exact_law(energy)
    assert law.log_z.dtype == law.marginals.dtype == torch.float64
    close(law.log_z, law_of(energy).log_z)


def test_the_cheaper_way_is_taken() -> None:
    dense = Graph(torch.combinations(torch.arange(16)).T, 16)
    assert exact_law(random_energy((16,), dense, 2, "none")).method == "enumeration"
    assert exact_law(ising_of_table_1()).method == "elimination"


@_METHODS
def test_no_pixels_at_all(method: str) -> None:
    energy = PottsEnergy(torch.zeros(1, 2, 0, 3), torch.zeros(1, 2, 0, 3), constant=0.5)
    law = exact_law(energy, method)
    assert law.log_z == -0.5
    assert law.marginals.shape == (2, 0, 3)
    assert law.sample(4, seed=0).shape == (4, 0, 3)
