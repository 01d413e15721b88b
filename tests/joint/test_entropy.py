"""Entropy estimators on laws whose entropy is known, and against numbers made by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from flowcut.joint.entropy import EntropyMethod, entropy_from_counts, entropy_of_labels
from flowcut.joint.minimax_entropy import (
    best_polynomial,
    interval,
    minimax_contributions,
    polynomial_estimates,
)

METHODS: tuple[EntropyMethod, ...] = ("plug-in", "miller-madow", "jackknife", "minimax")
STATES, REPETITIONS = 1000, 40


def _law(name: str) -> np.ndarray:
    if name == "uniform":
        weights = np.ones(STATES)
    elif name == "zipf":
        weights = 1 / np.arange(1.0, STATES + 1)
    else:  # geometric: its entropy is that of about 0.54 STATES equal ones
        weights = (1 - 5 / STATES) ** np.arange(8.0 * STATES)
    return weights / weights.sum()


def _errors(name: str, samples: int, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every method: estimate minus truth, and reported standard error, over repetitions."""
    p, random = _law(name), np.random.default_rng(seed)
    truth = -(p * np.log(p)).sum()
    draws = [torch.from_numpy(random.multinomial(samples, p)) for _ in range(REPETITIONS)]
    out = {}
    for method in METHODS:
        found = [entropy_from_counts(draw, method) for draw in draws]
        errors = np.array([float(estimate.value) - truth for estimate in found])
        out[method] = errors, np.array([float(estimate.standard_error) for estimate in found])
    return out


def test_laws_are_what_they_say() -> None:
    q = 5 / STATES
    closed = (-(1 - q) * math.log(1 - q) - q * math.log(q)) / q  # of the whole geometric series
    p = _law("geometric")
    assert -(p * np.log(p)).sum() == pytest.approx(closed, abs=1e-12)


def test_numbers_made_by_hand() -> None:
    counts = torch.tensor([3, 1, 0])
    plug_in = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    # Leaving one of the three out: (2, 1); leaving the single one out: (3), of no entropy.
    without = math.log(3) - 2 / 3 * math.log(2)
    jackknife = 4 * plug_in - 3 * (0.75 * without)
    for method, expected in (
        ("plug-in", plug_in),
        ("miller-madow", plug_in + 1 / 8),
        ("jackknife", jackknife),
    ):
        assert float(entropy_from_counts(counts, method).value) == pytest.approx(expected, abs=1e-14)
    known = entropy_from_counts(counts, "miller-madow", support=5)
    assert float(known.value) == pytest.approx(plug_in + 4 / 8, abs=1e-14)
    # Two draws of two labelings: h(1) = -0.5 log 0.5 for both, so that all changes are equal.
    assert float(entropy_from_counts(torch.tensor([1, 1]), "plug-in").standard_error) == 0
    # d(3) = h(3) - h(2), d(1) = h(1), h(c) = -(c/4) log(c/4).
    d3, d1 = -0.75 * math.log(0.75) + 0.5 * math.log(0.5), 0.25 * math.log(4)
    mean = (3 * d3 + d1) / 4
    variance = 0.75 * (3 * (d3 - mean) ** 2 + (d1 - mean) ** 2)
    error = float(entropy_from_counts(counts, "plug-in").standard_error)
    assert error == pytest.approx(math.sqrt(variance), abs=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_one_labeling_has_no_entropy(method: EntropyMethod) -> None:
    for count in (2, 17, 10**6):
        estimate = entropy_from_counts(torch.tensor([count]), method)
        assert float(estimate.value) == pytest.approx(0, abs=1e-9)
        assert float(estimate.standard_error) == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda c: sum(c) >= 2))
def test_jackknife_is_the_leave_one_out_sum(counts: list[int]) -> None:
    def plug_in(c: np.ndarray) -> float:
        c = c[c > 0] / c.sum()
        return float(-(c * np.log(c)).sum())

    c = np.array(counts)
    m, left_out = c.sum(), 0.0
    for j in c.nonzero()[0]:
        less = c.copy()
        less[j] -= 1
        left_out += c[j] * plug_in(less)
    expected = m * plug_in(c) - (m - 1) / m * left_out
    found = entropy_from_counts(torch.from_numpy(c), "jackknife")
    assert float(found.value) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", ["uniform", "zipf", "geometric"])
@pytest.mark.parametrize("factor", [0.2, 0.5])
def test_fewer_draws_than_labelings(name: str, factor: float) -> None:
    errors = {method: e.mean() for method, (e, _) in _errors(name, int(factor * STATES)).items()}
    assert errors["plug-in"] < errors["miller-madow"] < errors["jackknife"] < 0
    assert abs(errors["minimax"]) < 0.7 * abs(errors["jackknife"])
    assert abs(errors["minimax"]) < (0.6 if factor == 0.2 else 0.25) * abs(errors["miller-madow"])


@pytest.mark.parametrize("name", ["uniform", "zipf", "geometric"])
@pytest.mark.parametrize("factor", [1, 3])
def test_about_as_many_draws_as_labelings(name: str, factor: int) -> None:
    errors = {method: e.mean() for method, (e, _) in _errors(name, factor * STATES).items()}
    assert errors["plug-in"] < errors["miller-madow"] < 0
    if (name, factor) != ("uniform", 3):  # there both are off by 0.02, on either side
        assert abs(errors["jackknife"]) < 0.8 * abs(errors["miller-madow"])
    # At m = s the jackknife happens to be good on uniform laws; elsewhere minimax is best.
    assert abs(errors["minimax"]) < (0.1 if name == "uniform" else 0.06)
    if factor == 1:
        assert abs(errors["minimax"]) < 0.4 * abs(errors["miller-madow"])


@pytest.mark.parametrize("name", ["uniform", "zipf"])
def test_many_draws(name: str) -> None:
    # RAF (20): the plug-in is off by -(s-1)/(2m); its next term, of order 1/m^2, is below 3 % here.
    found = _errors(name, 100 * STATES)
    error, _ = found["plug-in"]
    spread = error.std() / math.sqrt(REPETITIONS)
    assert error.mean() == pytest.approx(-(STATES - 1) / (200 * STATES), abs=3e-4 + 4 * spread)
    for method in ("miller-madow", "jackknife", "minimax"):
        error, _ = found[method]
        assert abs(error.mean()) < 3e-4 + 4 * error.std() / math.sqrt(REPETITIONS)


@pytest.mark.parametrize("name", ["uniform", "zipf", "geometric"])
@pytest.mark.parametrize("factor", [0.5, 3, 100])
def test_standard_errors_are_not_too_small(name: str, factor: float) -> None:
    # The standard deviation over 40 repetitions is itself known to 11 %: three of those.
    for method, (errors, reported) in _errors(name, int(factor * STATES), seed=1).items():
        assert reported.mean() > (1 - 3 * 0.11) * errors.std(), method
        if name == "zipf":  # where -log p varies, they are not far too large either
            assert reported.mean() < 1.6 * errors.std(), method


def test_for_many_draws_it_is_the_plug_in_variance_of_log_p() -> None:
    p = _law("zipf")
    counts = torch.from_numpy(np.random.default_rng(5).multinomial(10**7, p))
    expected = math.sqrt(((p * np.log(p) ** 2).sum() - (p * np.log(p)).sum() ** 2) / 10**7)
    for method in METHODS:
        assert float(entropy_from_counts(counts, method).standard_error) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("degree", [1, 2, 5, 10, 17, 24])
def test_the_polynomial_is_the_nearest(degree: int) -> None:
    y = np.linspace(0, 1, 200_001) ** 2
    angle = np.arccos(np.clip(2 * y - 1, -1, 1))
    value = y * sum(c * np.cos(k * angle) for k, c in enumerate(best_polynomial(degree)))
    error = -y * np.log(np.maximum(y, 1e-300)) - value
    largest = np.abs(error).max()
    # It alternates K + 1 times, which only the nearest polynomial of y span(1 ... y^(K-1)) does.
    runs = np.split(error, (np.diff(np.sign(error)) != 0).nonzero()[0] + 1)
    peaks = np.array([np.abs(run).max() for run in runs])
    assert (peaks > (1 - 1e-4) * largest).sum() == degree + 1
    assert largest * degree**2 == pytest.approx(0.325, rel=0.15)


def test_degree_one_has_a_closed_form() -> None:
    # Error at the inner extremum y = exp(-1 - a) is that y, at 1 it is -a: a = exp(-1 - a).
    a = best_polynomial(1)[0]
    assert a == pytest.approx(math.exp(-1 - a), abs=1e-7)


@pytest.mark.parametrize(("length", "degree"), [(3.0, 2), (9.0, 6), (27.0, 17), (32.0, 19)])
def test_estimates_are_the_falling_factorials(length: float, degree: int) -> None:
    # y q(y) in powers of y, exactly; X ... (X-k+1) / n^k estimates y^k.
    t = [[Fraction(1)], [Fraction(-1), Fraction(2)]]
    while len(t) < degree:
        longer = [Fraction(0), *(4 * c for c in t[-1])]
        for i, c in enumerate(t[-1]):
            longer[i] -= 2 * c
        for i, c in enumerate(t[-2]):
            longer[i] -= c
        t.append(longer)
    powers = [Fraction(0)] * degree
    for coefficient, polynomial in zip(best_polynomial(degree), t, strict=False):
        for i, c in enumerate(polynomial):
            powers[i] += Fraction(coefficient) * c
    largest = math.ceil(0.6 * length)
    expected = []
    for x in range(largest + 1):
        falling, total = Fraction(1), Fraction(0)
        for k, c in enumerate(powers):
            falling *= (x - k) / Fraction(length)
            total += c * falling
        expected.append(float(total))
    found = polynomial_estimates(largest, length, degree)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("y", [0.0, 0.01, 0.2, 0.7, 1.0])
def test_estimates_have_no_bias(y: float) -> None:
    length, degree = interval(1000)
    weights = poisson.pmf(np.arange(200), y * length)
    found = float(polynomial_estimates(199, length, degree)[:120] @ torch.from_numpy(weights[:120]))
    angle = math.acos(2 * y - 1)
    expected = y * sum(c * math.cos(k * angle) for k, c in enumerate(best_polynomial(degree)))
    assert found == pytest.approx(expected, abs=1e-9)


def test_large_counts_are_the_corrected_plug_in() -> None:
    p = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    found = minimax_contributions((1000 * p).long(), 1000)
    torch.testing.assert_close(found, -torch.xlogy(p, p) + (1 - p) / 2000)


def test_labelings_are_counted() -> None:
    g = torch.Generator().manual_seed(2)
    labels = torch.randint(3, (5000, 2, 2), generator=g)
    for method in METHODS:
        value, error = entropy_of_labels(labels, method)
        assert abs(float(value) - 4 * math.log(3)) < 4 * float(error) + 0.01


@pytest.mark.parametrize(
    ("counts", "options", "error", "message"),
    [
        (torch.tensor([1.0, 2.0]), {}, TypeError, "counts: expected an integer tensor, got torch.float32"),
        ([1, 2], {}, TypeError, "counts: expected an integer tensor, got list"),
        (torch.tensor([[1, 2]]), {}, ValueError, r"counts: expected shape \(s,\), got \(1, 2\)"),
        (torch.tensor([3, -1]), {}, ValueError, "counts: expected integers >= 0, got -1"),
        (torch.tensor([0, 1]), {}, ValueError, "counts: expected m >= 2 labelings, got 1"),
        (torch.tensor([], dtype=torch.int64), {}, ValueError, "counts: expected m >= 2 labelings, got 0"),
        (torch.tensor([2, 2]), {"method": "best"}, ValueError, "method: expected one of .*, got 'best'"),
        (torch.tensor([2, 2]), {"support": 1}, ValueError, "support: expected at least the 2 .*, got 1"),
        (
            torch.tensor([2, 2]),
            {"method": "minimax", "support": 4},
            ValueError,
            "support: expected None with method 'minimax', got 4",
        ),
    ],
)
def test_refusals(
    counts: torch.Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        entropy_from_counts(counts, **options)  # type: ignore[arg-type]


def test_one_labeling_is_refused() -> None:
    with pytest.raises(ValueError, match="counts: expected m >= 2 labelings, got 1"):
        entropy_of_labels(torch.zeros(1, 4, dtype=torch.int64))
