"""Effective sample size and split R-hat against processes whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowcut.joint.diagnostics import autocovariance, effective_sample_size, split_r_hat


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _ar1(rho: float, draws: int, chains: int, seed: int = 0) -> Tensor:
    """x_t = rho x_{t-1} + sqrt(1 - rho^2) e_t, from its stationary law: variance 1, autocorrelation rho^t."""
    e = _noise(draws, chains, seed=seed)
    x = e.clone()
    for t in range(1, draws):
        x[t] = rho * x[t - 1] + (1 - rho**2) ** 0.5 * e[t]
    return x


@pytest.mark.parametrize("draws", [1, 2, 7, 64])
def test_autocovariance_is_its_sum(draws: int) -> None:
    x = _noise(draws, 2, 3)
    found, centred = autocovariance(x), x - x.mean(dim=0)
    assert found.shape == x.shape
    for t in range(draws):
        expected = (centred[: draws - t] * centred[t:]).sum(dim=0) / draws
        torch.testing.assert_close(found[t], expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(autocovariance(x, torch.zeros(1))[0], x.square().mean(dim=0))


@pytest.mark.parametrize("draws", [4, 5, 10, 300])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_many_short_chains(draws: int, rho: float) -> None:
    """The variance of their mean is known for any length: tau = 1 + 2 sum_t (1 - t / D) rho^t."""
    time = 1 + 2 * sum((1 - t / draws) * rho**t for t in range(1, draws))
    found = draws * 20_000 / effective_sample_size(_ar1(rho, draws, 20_000))
    # At most 30 lags or so are not noise; each has a standard error of at most 3 / sqrt(20 000 draws).
    assert abs(float(found) / time - 1) < 0.05


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("chains", [1, 4])
def test_effective_size_of_ar1_has_a_closed_form(rho: float, chains: int) -> None:
    # 1 + 2 sum_t rho^t = (1 + rho) / (1 - rho). The estimate of this time has a relative standard error of
    # about sqrt(2 (2 w + 1) / draws) for a window of w lags; a sum to noise takes w of about 5 times.
    draws = 40_000
    time = (1 + rho) / (1 - rho)
    found = draws * chains / effective_sample_size(_ar1(rho, draws, chains))
    error = math.sqrt(2 * (10 * max(time, 1) + 1) / (draws * chains))
    assert abs(float(found) / time - 1) < 4 * error


def test_the_standard_error_it_gives_is_the_spread_of_means() -> None:
    """Over many repetitions: the variance of the mean is that of the process over the effective size."""
    x = _ar1(0.8, 1000, 2000)
    spread = x.mean(dim=0).var()
    sizes = effective_sample_size(x.reshape(1000, 1, 2000))
    # The standard error of a variance of 2000 normal numbers is a share of sqrt(2 / 2000) = 0.03.
    assert abs(float((1 / sizes).mean() / spread) - 1) < 0.15


def test_sizes_above_the_number_of_draws_are_bounded() -> None:
    alternating = _ar1(-0.95, 1000, 4)
    assert 4000 < effective_sample_size(alternating) <= 4000 * math.log10(4000)


def test_r_hat_is_its_definition() -> None:
    x = _noise(11, 3)
    halves = torch.cat([x[:5], x[6:]], dim=1)
    within = halves.var(dim=0).mean()
    between = 5 * halves.mean(dim=0).var()
    torch.testing.assert_close(split_r_hat(x), ((0.8 * within + between / 5) / within).sqrt())


def test_r_hat_finds_other_places_and_drifts() -> None:
    x = _noise(2000, 4)
    assert abs(float(split_r_hat(x)) - 1) < 0.005
    # Means that differ by c in variance: sqrt(1 + c).
    shift = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    expected = (1 + 8 / 7) ** 0.5
    assert abs(float(split_r_hat(x + shift)) - expected) < 0.05
    assert effective_sample_size(x + shift) < 40
    drift = x[:, :1] + torch.linspace(-2, 2, 2000, dtype=torch.float64)[:, None]
    assert split_r_hat(drift) > 1.2
    assert effective_sample_size(drift) < 40


def test_further_axes_are_further_statistics() -> None:
    x = torch.stack([_ar1(rho, 400, 3) for rho in (0.0, 0.5, 0.9, -0.3)], dim=2).reshape(400, 3, 2, 2)
    for measure in (effective_sample_size, split_r_hat):
        together = measure(x)
        assert together.shape == (2, 2)
        for i in range(2):
            for j in range(2):
                torch.testing.assert_close(together[i, j], measure(x[:, :, i, j]))


def test_what_never_changes_says_nothing() -> None:
    for value in (0.0, 0.1, 1e9):
        constant = torch.full((50, 3), value)
        assert split_r_hat(constant).isnan()
        assert effective_sample_size(constant).isnan()
    # Each stands still, elsewhere.
    apart = torch.tensor([0.1, 0.1, 0.7]).expand(50, 3)
    assert split_r_hat(apart) == math.inf
    torch.testing.assert_close(effective_sample_size(apart), torch.tensor(3.0, dtype=torch.float64))


def test_types_and_integers() -> None:
    x = (_noise(100, 2) > 0).long()
    torch.testing.assert_close(effective_sample_size(x), effective_sample_size(x.double()))
    torch.testing.assert_close(split_r_hat(x.to(torch.int8)), split_r_hat(x.double()))
    assert split_r_hat(x.float()).dtype == torch.float64


@pytest.mark.parametrize("measure", [effective_sample_size, split_r_hat])
def test_refusals(measure) -> None:
    for shape in ((10,), (3, 2), (10, 0)):
        with pytest.raises(
            ValueError, match=r"^values: expected shape \(draws, chains, ...\) with at least 4"
        ):
            measure(torch.zeros(shape))
    x = _noise(10, 2)
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match=r"^values: expected finite values, got nan at index"):
        measure(x)
