"""Importance weights against enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from flowcut.core.results import NotConvergedError
from flowcut.core.warnings import FlowcutWarning
from flowcut.joint.divergence import draw_labels, leave_one_out_log_prob, mixture_log_prob
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.importance import Importance, importance

J, SPATIAL = 3, (2, 3)
EVERY = torch.tensor(list(itertools.product(range(J), repeat=6))).reshape(-1, *SPATIAL)  # 729


def _energy(scale: float = 1.0) -> PottsEnergy:
    g = torch.Generator().manual_seed(5)
    unary = scale * torch.randn(1, J, *SPATIAL, generator=g, dtype=torch.float64)
    edges = scale * torch.rand(1, 2, *SPATIAL, generator=g, dtype=torch.float64)
    return PottsEnergy(unary, edges, constant=0.7)


def _truth(energy: PottsEnergy) -> tuple[float, Tensor, Tensor]:
    """log Z, p of every labeling, marginals (J, *SPATIAL)."""
    cost = energy.energy(EVERY)
    log_z = torch.logsumexp(-cost, dim=0)
    p = (-cost - log_z).exp()
    one_hot = torch.nn.functional.one_hot(EVERY, J).movedim(-1, 1).double()
    return float(log_z), p, torch.tensordot(p, one_hot, dims=1)


def _proposal(name: str, energy: PottsEnergy) -> Tensor:
    """Log q of every labeling."""
    if name == "uniform":
        return torch.full((len(EVERY),), -math.log(len(EVERY)), dtype=torch.float64)
    if name == "hotter":
        return (-0.6 * energy.energy(EVERY)).log_softmax(dim=0)
    if name == "target":
        return (-energy.energy(EVERY)).log_softmax(dim=0)
    assert name == "independent"  # pixels with the unary costs alone
    s = (-energy.unary[0]).log_softmax(dim=0)
    return s.expand(len(EVERY), *s.shape).gather(1, EVERY.unsqueeze(1)).flatten(1).sum(dim=1)


def _draw(log_q: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    index = torch.multinomial(log_q.exp(), samples, replacement=True, generator=g)
    return EVERY[index], log_q[index]


def _repeat(name: str, samples: int, repetitions: int) -> list[Importance]:
    energy = _energy()
    log_q = _proposal(name, energy)
    return [
        importance(energy, *_draw(log_q, samples, seed), on_failure="ignore") for seed in range(repetitions)
    ]


@pytest.mark.parametrize("name", ["uniform", "hotter", "independent"])
def test_z_has_no_bias_and_its_error_covers(name: str) -> None:
    log_z, _, _ = _truth(_energy())
    runs = _repeat(name, 400, 200)
    z = np.array([math.exp(float(run.log_z.value) - log_z) for run in runs])
    assert abs(z.mean() - 1) < 4 * z.std(ddof=1) / math.sqrt(len(z))
    scores = np.array([(float(r.log_z.value) - log_z) / float(r.log_z.standard_error) for r in runs])
    # Two standard errors cover 95.4 %; of 200 runs, four standard deviations of a count are 5.9 %.
    assert 0.954 - 0.059 < (np.abs(scores) < 2).mean() <= 1
    assert scores.std() == pytest.approx(1, abs=4 / math.sqrt(400))


@pytest.mark.parametrize("name", ["uniform", "independent"])
def test_marginals_and_expectations_cover(name: str) -> None:
    _, p, _ = _truth(_energy())
    ratio = p**2 / _proposal(name, _energy()).exp()
    phi = torch.randn(J, *SPATIAL, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    quantities = {
        "marginal": (EVERY[:, 0, 1] == 1).double(),
        "phi": phi.expand(729, -1, -1, -1).gather(1, EVERY.unsqueeze(1)).flatten(1).sum(dim=1),
        "agree": (EVERY[:, 0, 0] == EVERY[:, 1, 2]).double(),
    }
    found: dict[str, list[tuple[float, float]]] = {key: [] for key in quantities}
    for run in _repeat(name, 400, 200):
        marginals = run.marginals()
        torch.testing.assert_close(marginals.value.sum(dim=0), torch.ones(SPATIAL, dtype=torch.float64))
        found["marginal"].append((float(marginals.value[1, 0, 1]), float(marginals.standard_error[1, 0, 1])))
        for key, of in (("phi", phi), ("agree", lambda labels: labels[:, 0, 0] == labels[:, 1, 2])):
            value, error = run.expectation(of)
            found[key].append((float(value), float(error)))
    for key, values in quantities.items():
        truth = float(p @ values)
        estimates, errors = np.array(found[key]).T
        assert (np.abs(estimates - truth) < 2 * errors).mean() > 0.954 - 0.059, key
        # A ratio of means has bias -E_q[(w / Z)^2 (f - E_p f)] / M, to first order.
        bias = -float(ratio @ (values - truth)) / 400
        assert abs(estimates.mean() - truth - bias) < 4 * estimates.std(ddof=1) / math.sqrt(200), key
        # A standard deviation from 200 runs is known to 5 %; errors of the sample's tails add a little.
        assert np.sqrt((errors**2).mean()) == pytest.approx(estimates.std(), rel=0.2), key


def test_marginals_are_expectations_of_indicators(monkeypatch: pytest.MonkeyPatch) -> None:
    run = _repeat("uniform", 300, 1)[0]
    one_hot = run.expectation(lambda labels: torch.nn.functional.one_hot(labels, J).movedim(-1, 1))
    monkeypatch.setattr("flowcut.joint.importance._BLOCK", 600)  # 100 labelings of 6 pixels
    found = run.marginals()
    torch.testing.assert_close(found.value, one_hot.value)
    torch.testing.assert_close(found.standard_error, one_hot.standard_error)
    phi = torch.zeros(J, *SPATIAL)
    phi[2, 1, 0] = 1
    value, error = run.expectation(phi)
    torch.testing.assert_close(value, found.value[2, 1, 0])
    torch.testing.assert_close(error, found.standard_error[2, 1, 0])


def test_free_energy_and_kl() -> None:
    energy = _energy()
    log_z, _, _ = _truth(energy)
    log_q = _proposal("independent", energy)
    free = float(log_q.exp() @ (energy.energy(EVERY) + log_q))
    runs = _repeat("independent", 400, 200)
    for estimates, truth in (
        ([run.free_energy for run in runs], free),
        ([run.kl for run in runs], free + log_z),
    ):
        scores = [(float(value) - truth) / float(error) for value, error in estimates]
        assert (np.abs(scores) < 2).mean() > 0.954 - 0.059
    assert all(float(run.kl.value) >= 0 for run in runs)
    assert float(runs[0].kl.value) == pytest.approx(
        float(runs[0].free_energy.value + runs[0].log_z.value), abs=1e-12
    )


def test_the_target_itself_has_no_error() -> None:
    energy = _energy()
    log_z, _, _ = _truth(energy)
    run = importance(energy, *_draw(_proposal("target", energy), 500, 0), on_failure="raise")
    assert float(run.log_z.value) == pytest.approx(log_z, abs=1e-12)
    assert float(run.log_z.standard_error) < 1e-14
    assert run.effective_sample_size == pytest.approx(500, rel=1e-12)
    assert float(run.kl.value) < 1e-12
    assert float(run.kl.standard_error) < 1e-14
    torch.testing.assert_close(run.weights, torch.full((500,), 1 / 500, dtype=torch.float64))


def test_every_labeling_once_gives_exact_sums() -> None:
    # Under the uniform law all 729 labelings, each once, are a perfectly stratified sample.
    energy = _energy()
    log_z, p, marginals = _truth(energy)
    run = importance(energy, EVERY, _proposal("uniform", energy))
    assert float(run.log_z.value) == pytest.approx(log_z, abs=1e-12)
    torch.testing.assert_close(run.weights, p)
    torch.testing.assert_close(run.marginals().value, marginals)
    assert run.effective_sample_size == pytest.approx(1 / float((p**2).sum()))
    relative = (1 / run.effective_sample_size - 1 / 729) * 729 / 728
    assert float(run.log_z.standard_error) == pytest.approx(math.sqrt(relative))


def test_single_precision() -> None:
    energy = _energy().to(torch.float32)
    labels, log_q = _draw(_proposal("hotter", _energy()), 400, 0)
    run, exact = importance(energy, labels, log_q.float()), importance(_energy(), labels, log_q)
    torch.testing.assert_close(run.log_z.value, exact.log_z.value, rtol=0, atol=1e-5)
    torch.testing.assert_close(run.marginals().value, exact.marginals().value, rtol=0, atol=1e-5)


def _mixture(m: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (1.2 * torch.randn(m, J, *SPATIAL, generator=g, dtype=torch.float64)).log_softmax(dim=1)


def test_mixture_with_its_own_component_gives_z_without_bias() -> None:
    energy = _energy()
    log_z, _, _ = _truth(energy)
    own, without, reported = [], [], []
    for seed in range(300):
        log_s = _mixture(30, seed)
        labels = draw_labels(log_s, seed)
        run = importance(energy, labels, mixture_log_prob(log_s, labels), on_failure="ignore")
        own.append(math.exp(float(run.log_z.value) - log_z))
        reported.append(own[-1] * float(run.log_z.standard_error))
        log_q = leave_one_out_log_prob(log_s, labels)
        run = importance(energy, labels, log_q, on_failure="ignore")
        without.append(math.exp(float(run.log_z.value) - log_z))
    spread = np.std(own, ddof=1) / math.sqrt(300)
    assert abs(np.mean(own) - 1) < 4 * spread
    assert np.std(own) < 1.05 * np.sqrt(np.mean(np.square(reported)))
    assert np.mean(without) > 1 + 4 * np.std(without, ddof=1) / math.sqrt(300)  # 1 / P-hat is convex


def test_draws_follow_the_assignment() -> None:
    log_s = _mixture(1, 3).expand(40_000, J, *SPATIAL)
    labels = draw_labels(log_s, torch.Generator().manual_seed(1))
    counts = torch.stack([(labels == j).sum(dim=0) for j in range(J)])
    expected = 40_000 * log_s[0].exp()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(0.999, 6 * (J - 1))
    assert torch.equal(labels, draw_labels(log_s, 1))


def test_heavy_tails_are_reported() -> None:
    # A confident wrong model: independent pixels that nearly exclude what the energy likes.
    energy = _energy()
    log_q = (3 * energy.energy(EVERY)).log_softmax(dim=0)
    sample = _draw(log_q, 2000, 0)
    with pytest.warns(FlowcutWarning, match=r"importance: weights have tail index .* > 0.7 .*effective"):
        run = importance(energy, *sample)
    assert run.pareto_k > 0.7
    with pytest.raises(NotConvergedError, match="tail index"):
        importance(energy, *sample, on_failure="raise")
    assert importance(energy, *sample, on_failure="ignore").pareto_k == run.pareto_k


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": EVERY[:1], "log_prob": torch.zeros(1)}, ValueError, "labels: expected M >= 2 .*, got 1"),
        ({"labels": EVERY[:3].float()}, TypeError, "labels: expected an integer tensor"),
        ({"labels": EVERY[:3, :1]}, ValueError, r"labels: expected shape"),
        ({"labels": EVERY[:3] + 1}, ValueError, "labels: expected 0 to 2, got 1 to 3"),
        ({"log_prob": torch.zeros(2)}, ValueError, r"log_prob: expected shape \(3,\), got \(2,\)"),
        ({"log_prob": torch.zeros(3, dtype=torch.int64)}, TypeError, "log_prob: expected a floating"),
        ({"log_prob": torch.tensor([0.0, -math.inf, 0.0])}, ValueError, "log_prob: expected finite .*-inf"),
        ({"log_prob": torch.tensor([0.0, 0.5, 0.0])}, ValueError, "log_prob: expected .* <= 0, got 0.5"),
        (
            {"energy": PottsEnergy(torch.zeros(2, J, *SPATIAL), torch.zeros(1, 2, *SPATIAL))},
            ValueError,
            r"energy: expected one energy, got 2",
        ),
    ],
)
def test_refusals(change: dict[str, object], error: type[Exception], message: str) -> None:
    labels = EVERY[[0, 100, 700]]
    labels[:, 0, 0] = 2
    arguments = {"energy": _energy(), "labels": labels, "log_prob": torch.full((3,), -1.0)} | change
    with pytest.raises(error, match=message):
        importance(**arguments)  # type: ignore[arg-type]


def test_refused_quantities() -> None:
    run = _repeat("uniform", 10, 1)[0]
    with pytest.raises(ValueError, match=r"phi: expected shape \(3, 2, 3\), got \(2, 3\)"):
        run.expectation(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"phi: expected a function to \(10, ...\), got \(\)"):
        run.expectation(lambda labels: labels.sum())
    with pytest.raises(ValueError, match="phi: expected finite values, got nan"):
        run.expectation(lambda labels: torch.full((10,), math.nan))
