"""Randomized flows: draws have the law that they claim, limits are fixed points, estimates are right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.divergence import mixture_log_prob
from flowcut.joint.dynamics import ConvolutionDynamics
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.entropy import entropy_from_counts
from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.randomized import RandomizedAssignment
from tests.truths.brute_force import all_labelings, chi_square, random_energy

_GRAPH = Graph(torch.tensor([[0, 3, 1, 0], [1, 1, 2, 2]]), 4)


def _stirred(model: RandomizedAssignment, seed: int = 0, scale: float = 0.4) -> RandomizedAssignment:
    """Parameters away from where they start, so that components, couplings and noise all matter."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=g)
    return model


_MODELS: dict[str, dict[str, Any]] = {
    "pairs": {"shape": (2, 3)},
    "three labels": {"shape": (3, 1, 2)},
    "diagonal": {"shape": (2, 3), "covariance": "diagonal", "start_covariance": "diagonal"},
    "full": {"shape": (2, 3), "covariance": "full", "start_covariance": "low-rank", "rank": 2},
    "fixed start": {"shape": (3, 2), "start": "fixed"},
    "learned start": {"shape": (2, 3), "start": "learned", "rank": 1},
    "graph": {"shape": (2, 4), "couplings": _GRAPH, "epsilon": 0.5},
    "window": {"shape": (2, 2, 2), "couplings": Neighborhood.edges(2)},
    "convolution": {"shape": (2, 3), "couplings": 3},
    "one component": {"shape": (2, 3), "components": 1, "rank": 0},
}
_ALL = pytest.mark.parametrize("name", list(_MODELS))


def _model(name: str) -> RandomizedAssignment:
    options = {"components": 3, "time": 1.3, "step": 0.4, "growth": 1.3, "seed": 2, **_MODELS[name]}
    return _stirred(RandomizedAssignment(**options))


# --- the law


def _normal(vectors: Any, z: np.ndarray, component: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(M, D) by NumPy, sample by sample in its own component."""
    mean, factors, scale = (
        p.detach().double().numpy() for p in (vectors.mean, vectors.factors, vectors.scale)
    )
    rank = factors.shape[1] // mean.shape[1]
    out = np.empty((len(z), len(mean)))
    for c in range(mean.shape[1]):
        f = factors[:, c * rank : (c + 1) * rank]
        mine = component == c
        out[mine] = mean[:, c] + z[mine, :rank] @ f.T
    noise = rng.standard_normal(out.shape)
    return out + (noise @ np.tril(scale).T if scale.shape[1] > 1 else noise * np.exp(scale[:, 0]))


def _matrices(model: RandomizedAssignment, x: np.ndarray) -> np.ndarray:
    """(M, n, n) Omega = max(X, 0) + epsilon I."""
    n = math.prod(model.shape[1:])
    pairs = model.dynamics.pairs.T.tolist()
    omega = np.zeros((len(x), n, n))
    for e, (i, j) in enumerate(pairs):
        omega[:, i, j] += np.maximum(x[:, e], 0)
        omega[:, j, i] += np.maximum(x[:, e], 0)
    for i in range(n):
        omega[:, i, i] = np.maximum(x[:, len(pairs) + i], 0) + model.dynamics.epsilon
    return omega


def _slopes(model: RandomizedAssignment, s: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Omega S for S (M, J, n)."""
    if isinstance(model.dynamics, ConvolutionDynamics):
        labels = model.shape[0]
        kernel, out = x.reshape(len(x), labels, labels, 3), np.zeros_like(s)
        padded = np.pad(s, ((0, 0), (0, 0), (1, 1)))
        for k in range(3):
            out += np.einsum("mjl,mln->mjn", kernel[..., k], padded[..., k : k + s.shape[2]])
        return out
    return np.einsum("mab,mjb->mja", _matrices(model, x), s)


def _simulated_law(model: RandomizedAssignment, count: int) -> np.ndarray:
    """P of all labelings by an independent simulation in NumPy: (states,)."""
    rng = np.random.default_rng(5)
    labels, n = model.shape[0], math.prod(model.shape[1:])
    component = rng.integers(model.components, size=count)
    z = rng.standard_normal((count, model.rank))
    if model.start_kind == "random":
        start = _normal(model.start, z, component, rng)
    else:
        start = model.start.mean.detach().double().numpy().T[component]
    x = _normal(model.couplings, z, np.zeros(count, dtype=int), rng)
    v = start.reshape(count, model.dynamics.channels, n)
    if v.shape[1] < labels:
        v = np.concatenate([-v / 2, v / 2], axis=1)
    left, step = model.time, model.step
    while left > 1e-12:
        s = np.exp(v - v.max(axis=1, keepdims=True))
        s /= s.sum(axis=1, keepdims=True)
        v = v + min(step, left) * _slopes(model, s, x)
        left, step = left - min(step, left), step * model.growth
    s = np.exp(v - v.max(axis=1, keepdims=True))
    s /= s.sum(axis=1, keepdims=True)
    every = all_labelings((n,), labels).numpy()
    return np.array([np.prod([s[:, a, i] for i, a in enumerate(alpha)], axis=0).mean() for alpha in every])


def _numbers(labels: Tensor, num_labels: int) -> Tensor:
    flat = labels.flatten(1)
    return (flat * num_labels ** torch.arange(flat.shape[1] - 1, -1, -1)).sum(dim=1)


@_ALL
def test_draws_have_the_law_of_an_independent_simulation(name: str) -> None:
    """100 000 flows simulated in NumPy against 20 000 labelings: chi-square over all states.

    The mean of N products T(S) in [0, 1] has at most the variance of the frequency in N labelings, so that
    the statistic of M labelings against it is at most 1 + M / N times as large as against P.
    """
    model = _model(name)
    law = torch.from_numpy(_simulated_law(model, 100_000))
    assert float(law.sum()) == pytest.approx(1, abs=1e-9)
    labels = model.sample(20_000, seed=3)
    assert labels.dtype == torch.int64
    assert labels.shape == (20_000, *model.shape[1:])
    states = _numbers(labels, model.shape[0])
    statistic, quantile = chi_square(states, law)
    assert statistic < 1.2 * quantile
    wrong, quantile = chi_square(states, law.roll(1))
    assert wrong > 1.2 * quantile
    # The probabilities that it knows are the same law.
    every = all_labelings(model.shape[1:], model.shape[0])
    log_p = model.log_prob(every, count=20_000, seed=8).double()
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-4)
    statistic, quantile = chi_square(states, log_p.exp() / log_p.exp().sum())
    assert statistic < 2 * quantile


@_ALL
def test_steps_reach_the_time(name: str) -> None:
    model = _model(name)
    assert model.steps() == pytest.approx([0.4, 0.52, 0.38])
    assert model.steps(0.4) == pytest.approx([0.4])
    assert model.steps(0.1) == pytest.approx([0.1])
    assert sum(model.steps(77.0)) == pytest.approx(77)


def test_a_later_time_is_nearer_to_the_limit() -> None:
    model = _model("pairs")
    spread = [float(-(s.exp() * s).sum(dim=1).mean()) for s in (_at(model, t) for t in (0.5, 2.0, 50.0))]
    assert spread[0] > spread[1] > 5 * spread[2] > 0
    early, late = model.sample(500, seed=1, time=0.01), model.sample(500, seed=1, time=1e5)
    limit = model.sample(500, limit=True, seed=1)
    assert (late == limit).double().mean() > 0.98 > (early == limit).double().mean()


def _at(model: RandomizedAssignment, time: float) -> Tensor:
    return model.log_assignments(2000, time=time)


def test_components_are_stratified_only_when_asked() -> None:
    model = RandomizedAssignment((2, 2), components=4, start="learned")
    with torch.no_grad():
        model.start.mean.copy_(torch.arange(8.0).reshape(2, 4))
    g = torch.Generator().manual_seed(0)
    drawn = model.draw(10, g, stratified=True).start[0, 0]
    assert drawn.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    free = model.draw(40_000, g).start[0, 0].long()
    statistic, quantile = chi_square(free, torch.full((4,), 0.25, dtype=torch.float64))
    assert 0 < statistic < quantile


def test_starts_have_zero_mean_over_three_labels() -> None:
    start = _model("three labels").draw(7, torch.Generator().manual_seed(0)).start
    assert start.shape == (3, 2, 7)
    assert start.sum(dim=0).abs().max() < 1e-5
    assert start.abs().max() > 0.1


# --- samples


@pytest.mark.filterwarnings("ignore:.*had not ended")  # random convolutions may go round for ever
@_ALL
def test_seeds_and_counts(name: str) -> None:
    model = _model(name)
    for limit in (False, True):
        one, again, other = (model.sample(300, limit, seed) for seed in (4, 4, 5))
        torch.manual_seed(0)
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        none = model.sample(0, limit)
        assert none.shape == (0, *model.shape[1:])
        assert none.dtype == torch.int64
        assert model.sample(1, limit).shape == (1, *model.shape[1:])
        with pytest.raises(ValueError, match=r"^count: expected an integer >= 0, got -1$"):
            model.sample(-1, limit)
    assert model.log_assignments(0).shape == (0, *model.shape)
    assert not any(p.grad_fn for p in (model.log_assignments(3), model.sample(3)))


def test_more_samples_than_are_drawn_at_once() -> None:
    """The parts are independent draws: frequencies of the first and of the last are the same law's."""
    model = _model("pairs")
    law = torch.from_numpy(_simulated_law(model, 50_000))
    for limit in (False, True):
        labels = model.sample(10_000, limit)
        assert len(labels) == 10_000
        assert not torch.equal(labels[:1000], labels[4096:5096])
        if not limit:
            for part in (labels[:4096], labels[4096:8192], labels[8192:]):
                statistic, quantile = chi_square(_numbers(part, 2), law)
                assert statistic < 1.1 * quantile  # 1 + 4096 / 50 000, see above


def test_the_same_samples_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    model = _stirred(RandomizedAssignment((2, 5, 6), time=4.0))
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append((model.sample(5000), model.sample(5000, limit=True)))
    finally:
        torch.set_num_threads(before)
    for draws, limits in found[1:]:
        assert torch.equal(draws, found[0][0])
        assert torch.equal(limits, found[0][1])


@pytest.mark.parametrize("name", ["pairs", "three labels", "graph", "window", "fixed start", "one component"])
def test_limits_are_integral_fixed_points(name: str) -> None:
    """At the one-hot S of a limit, no other label of any pixel has a larger slope (RAF, Theorem 1)."""
    model = _model(name)
    labels = model.sample(500, limit=True, seed=6)
    draw = next(model._chunks(500, 6))
    omega = _matrices(model, draw.couplings.detach().double().T.numpy())
    hot = torch.nn.functional.one_hot(labels.flatten(1), model.shape[0]).double().numpy()
    slope = np.einsum("mab,mbj->maj", omega, hot)
    own = (slope * hot).sum(axis=2)
    assert (own > 0).all()
    assert (own[..., None] >= slope - 1e-6).all()
    # And they are where these very flows go, by small steps for a long time.
    log_s = model.log_assignments(500, seed=6, time=5000.0).flatten(2)
    assert (log_s.argmax(dim=1) == labels.flatten(1)).all(dim=1).double().mean() > 0.95


# --- estimates


def _frequencies(labels: Tensor, num_labels: int) -> Tensor:
    return torch.stack([(labels == j).double().mean(dim=0) for j in range(num_labels)])


@_ALL
def test_marginals_and_expectations(name: str) -> None:
    model = _model(name)
    phi = torch.randn(model.shape, generator=torch.Generator().manual_seed(0))
    limits = (False,) if name == "convolution" else (False, True)
    for limit in limits:
        found = model.marginals(5000, limit, seed=1)
        assert found.value.shape == model.shape
        assert found.value.dtype == torch.float64
        torch.testing.assert_close(
            found.value.sum(dim=0), torch.ones(model.shape[1:]).double(), atol=1e-6, rtol=0
        )
        drawn = _frequencies(model.sample(20_000, limit, seed=2), model.shape[0])
        error = (found.standard_error**2 + drawn * (1 - drawn) / 20_000 + 1e-9).sqrt()
        assert ((found.value - drawn).abs() / error).max() < 5
        mean = model.expectation(phi, 5000, limit, seed=1)
        assert float(mean.value) == pytest.approx(float((phi * found.value).sum()), abs=1e-5)
        assert 0 < mean.standard_error < 0.1
        if limit:
            same = _frequencies(model.sample(5000, True, seed=1), model.shape[0])
            torch.testing.assert_close(found.value, same, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"^phi: expected shape \("):
        model.expectation(phi[..., :1])


def test_standard_errors_are_those_over_repetitions() -> None:
    model = _model("pairs")
    phi = torch.arange(6.0).reshape(2, 3).cos()
    runs = [model.expectation(phi, 400, seed=1000 + s) for s in range(100)]
    values = torch.stack([r.value for r in runs])
    errors = torch.stack([r.standard_error for r in runs])
    # A standard deviation of 100 normal numbers is known to 7 %.
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=0.25)


def test_entropies() -> None:
    """By all estimators, against the entropy of the simulated law."""
    model = _model("pairs")
    law = _simulated_law(model, 100_000)
    truth = float(-(law * np.log(law)).sum())
    for method in ("miller-madow", "plug-in", "jackknife", "minimax"):
        found = model.entropy(50_000, limit=False, method=method)
        assert abs(float(found.value) - truth) < 5 * float(found.standard_error) + 1e-3
    limit = model.entropy(50_000, seed=3)
    counts = torch.bincount(_numbers(model.sample(50_000, limit=True, seed=3), 2))
    assert float(limit.value) == pytest.approx(float(entropy_from_counts(counts).value))


def _fitted() -> tuple[RandomizedAssignment, PottsEnergy, ExactLaw]:
    """A model that is near to its energy but not too near."""
    energy = random_energy((2, 3), Neighborhood.edges(2), 2, "none").to(torch.float32)
    model = RandomizedAssignment(energy.shape, components=4)
    model.fit(energy, steps=60, samples=64, lr=0.03)
    return model, energy, exact_law(energy)


def test_bounds_meet_enumeration() -> None:
    model, energy, law = _fitted()
    log_s = model.log_assignments(100_000, seed=55).double()
    kl = float(law.kl(lambda labels: mixture_log_prob(log_s, labels)))
    assert 0.01 < kl < 1
    for count in (200, 8192):
        bounds = model.kl(law, count=count)
        assert float(bounds.lower.value) - 4 * float(bounds.lower.standard_error) < kl
        assert float(bounds.upper.value) + 4 * float(bounds.upper.standard_error) > kl
        free = model.free_energy(energy, count)
        assert float(free.upper.value + law.log_z) == pytest.approx(float(bounds.upper.value), abs=1e-6)
    # 8192 products know this law of 64 states: the bounds have nearly met.
    assert float(bounds.upper.value) == pytest.approx(kl, abs=4 * float(bounds.upper.standard_error) + 0.01)
    assert float(bounds.lower.value) == pytest.approx(kl, abs=4 * float(bounds.lower.standard_error) + 0.01)
    assert float(bounds.upper.value - bounds.lower.value) < 0.02


def test_kl_in_the_limit() -> None:
    """Against the frequencies of other limits: energy and entropy of 200 000 labelings over 64 states."""
    model, _, law = _fitted()
    found = model.kl(law, limit=True, count=50_000)
    counts = torch.bincount(_numbers(model.sample(200_000, limit=True, seed=9), 2), minlength=64).double()
    p = counts / counts.sum()
    log_p = law.log_prob(all_labelings((2, 3), 2))
    truth = float((torch.xlogy(p, p) - p * log_p).sum())
    assert found.lower == found.upper
    assert float(found.upper.value) == pytest.approx(truth, abs=5 * float(found.upper.standard_error))
    assert float(found.energy.value - found.entropy_lower.value + law.log_z) == pytest.approx(
        float(found.upper.value)
    )


def test_importance_weights() -> None:
    model, energy, law = _fitted()
    weighted = model.importance(energy, 8192)
    error = float(weighted.log_z.value - law.log_z)
    assert abs(error) < 4 * float(weighted.log_z.standard_error) < 0.1
    raw = (model.marginals(8192).value - law.marginals).abs()
    corrected = weighted.marginals()
    assert ((corrected.value - law.marginals).abs() / corrected.standard_error).max() < 4.5
    assert (corrected.value - law.marginals).abs().mean() < raw.mean()
    assert float(weighted.free_energy.value) > -float(law.log_z) - 4 * float(
        weighted.free_energy.standard_error
    )


def test_energies_of_other_shapes() -> None:
    model = RandomizedAssignment((2, 2, 3))
    other = random_energy((3, 2), Neighborhood.edges(2), 2, "none")
    batch = PottsEnergy(torch.zeros(2, 2, 2, 3), torch.ones(1, 2, 2, 3))
    for energy, message in (
        (other, r"^energy: expected the model's shape \(2, 2, 3\), got \(2, 3, 2\)$"),
        (batch, r"^energy: expected one energy, got 2; pick one by energy\[i\]$"),
    ):
        for call in (model.fit, model.free_energy, model.importance):
            with pytest.raises(ValueError, match=message):
                call(energy)
    for limit in (False, True):
        with pytest.raises(ValueError, match=r"^energy: expected the model's shape"):
            model.kl(exact_law(other), limit, count=10)


# --- convolutions


@pytest.mark.filterwarnings("ignore:.*had not ended")  # random convolutions may go round for ever
def test_a_convolution_learns_a_picture() -> None:
    unary = torch.zeros(1, 2, 4, 4)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -2.0, 2.0
    energy = PottsEnergy(unary, torch.full((1, 2, 4, 4), 0.8))
    law = exact_law(energy)
    model = RandomizedAssignment(energy.shape, couplings=3, components=4)
    assert model.sample(5).shape == model.sample(5, limit=True).shape == (5, 4, 4)
    assert model.log_assignments(5).shape == (5, 2, 4, 4)
    assert model.couplings.mean.shape == (36, 1)
    before = float(model.kl(law, count=2000).lower.value)
    model.fit(energy, steps=100, samples=64, lr=0.02)
    after = model.kl(law, count=2000).upper
    assert float(after.value) + 4 * float(after.standard_error) < 0.5 * before


# --- parameters


def test_what_is_learned() -> None:
    def learned(**options: Any) -> set[str]:
        model = RandomizedAssignment((2, 3), **options)
        return {name for name, p in model.named_parameters() if p.requires_grad}

    couplings = {"couplings.mean", "couplings.factors", "couplings.scale"}
    assert learned() == couplings | {"start.mean", "start.factors", "start.scale"}
    assert learned(start="learned") == couplings | {"start.mean"}
    assert learned(start="fixed") == couplings
    energy = random_energy((3,), Neighborhood.edges(1), 2, "none")
    for start in ("learned", "fixed"):
        model = RandomizedAssignment((2, 3), start=start)
        before = {name: p.clone() for name, p in model.named_parameters()}
        model.fit(energy, steps=2, samples=32)
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == learned(start=start)


def test_the_paper_s_initial_couplings() -> None:
    """Z ~ N(1/20, 1/10): sums of two have mean 1/10 and variance 1/5, over 100 000 entries."""
    model = RandomizedAssignment((2, 10, 10), initial="paper", seed=1)
    ties = model.draw(200, torch.Generator().manual_seed(0)).couplings[:4950].detach()
    assert float(ties.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(ties.var()) == pytest.approx(0.2, rel=0.05)


def test_initial_parameters_belong_to_a_seed() -> None:
    one, again, other = (RandomizedAssignment((2, 3), seed=s).state_dict() for s in (1, 1, 2))
    torch.manual_seed(3)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["couplings.factors"], other["couplings.factors"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 4)}, "shape: expected (J, *spatial) with J >= 2 labels, got (1, 4)"),
        ({"shape": (3,)}, "shape: expected (J, *spatial) with J >= 2 labels, got (3,)"),
        ({"shape": (2, 0)}, "shape: expected (J, *spatial) with J >= 2 labels, got (2, 0)"),
        ({"rank": 5}, "rank: expected 0 to 4, the number of pixels, got 5"),
        ({"rank": -1}, "rank: expected 0 to 4, the number of pixels, got -1"),
        ({"components": 0}, "components: expected an integer >= 1, got 0"),
        ({"time": 0.0}, "time: expected a finite number > 0, got 0.0"),
        ({"time": math.inf}, "time: expected a finite number > 0, got inf"),
        ({"step": -0.1}, "step: expected a finite number > 0, got -0.1"),
        ({"step": math.nan}, "step: expected a finite number > 0, got nan"),
        ({"epsilon": 0.0}, "epsilon: expected a finite number > 0, got 0.0"),
        ({"growth": 0.9}, "growth: expected a number >= 1, got 0.9"),
        ({"growth": math.inf}, "growth: expected a number >= 1, got inf"),
        ({"covariance": "lowrank"}, "covariance: expected one of diagonal, low-rank, full, got 'lowrank'"),
        ({"start_covariance": "x"}, "start_covariance: expected one of diagonal, low-rank, full, got 'x'"),
        ({"start": "zero"}, "start: expected one of random, learned, fixed, got 'zero'"),
        ({"initial": "ours"}, "initial: expected one of scaled, paper, got 'ours'"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        RandomizedAssignment(**{"shape": (2, 4), **options})
    assert str(caught.value) == message


def test_the_largest_rank_is_the_number_of_pixels() -> None:
    assert RandomizedAssignment((2, 4), rank=4).sample(2).shape == (2, 4)
    assert [RandomizedAssignment((2, n)).rank for n in (1, 4, 20)] == [1, 4, 8]


def test_printed() -> None:
    text = repr(RandomizedAssignment((2, 3), components=5, time=2.0))
    assert "shape=(2, 3), time=2, components=5" in text
    assert "covariance='low-rank'" in text


# --- files


@pytest.mark.filterwarnings("ignore:.*had not ended")  # random convolutions may go round for ever
@_ALL
def test_a_model_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pt"
    model = _model(name)
    model.time = 1.7
    model.save(path)
    options = {"components": 3, "step": 0.4, "growth": 1.3, "seed": 99, **_MODELS[name]}
    other = RandomizedAssignment(**options)
    other.load(path)
    assert other.time == 1.7
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(model.sample(50), other.sample(50))
    assert torch.equal(model.sample(50, limit=True), other.sample(50, limit=True))


def test_models_of_other_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    RandomizedAssignment((2, 2, 3), components=3).save(path)
    for options, part in (
        ({"shape": (2, 3, 2)}, r"shape \[2, 3, 2\], got \[2, 2, 3\]"),
        ({"shape": (2, 6)}, r"shape \[2, 6\], got"),
        ({"shape": (3, 2, 3)}, r"shape \[3, 2, 3\], got"),
        ({"shape": (2, 2, 3), "components": 4}, "sizes "),
        ({"shape": (2, 2, 3), "components": 3, "rank": 2}, "sizes "),
        ({"shape": (2, 2, 3), "components": 3, "covariance": "full"}, "sizes "),
        ({"shape": (2, 2, 3), "components": 3, "couplings": Neighborhood.edges(2)}, "sizes "),
        ({"shape": (2, 2, 3), "components": 3, "start": "learned"}, "start learned, got random"),
    ):
        model = RandomizedAssignment(**options)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(ValueError, match=f"model.pt: expected a model of {part}"):
            model.load(path)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "model.pt", RandomizedAssignment((2, 3))
    with pytest.raises(FileNotFoundError):
        model.load(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"model\.pt: expected a file of flowcut"):
        model.load(path)
    torch.save({"kind": "randomized_assignment", "version": 1, "call": print}, path)
    with pytest.raises(ValueError, match=r"model\.pt: expected a file of flowcut"):
        model.load(path)
    torch.save({"state": model.state_dict()}, path)
    with pytest.raises(ValueError, match=r"model\.pt: expected a randomized_assignment of version 1"):
        model.load(path)
    with pytest.raises(OSError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "model.pt")


# --- Table 1


@pytest.mark.slow
def test_table_1() -> None:
    """The 3 x 8 Ising model of RAF, Table 1 (log Z = 5.1362), at default settings."""
    unary = torch.zeros(1, 2, 3, 8)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    energy = PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1))
    law = exact_law(energy)
    model = RandomizedAssignment(energy.shape)
    model.fit(energy)
    bounds = model.kl(law)
    assert float(bounds.upper.value) <= 0.05
    assert float(bounds.lower.value) >= -4 * float(bounds.lower.standard_error)
    difference = (model.marginals().value - law.marginals)[0].abs().mean()
    assert float(difference) <= 0.015
    weighted = model.importance(energy)
    corrected = (weighted.marginals().value - law.marginals)[0].abs().mean()
    assert float(corrected) <= 0.003
    assert abs(float(weighted.log_z.value - law.log_z)) <= 0.01
