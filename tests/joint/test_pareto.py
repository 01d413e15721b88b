"""The tail index against laws of known tail and against SciPy's maximum-likelihood fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from flowcut.joint.pareto import _zhang_stephens, pareto_shape


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_fit_of_exact_exceedances(k: float) -> None:
    found, likeliest = [], []
    for seed in range(20):
        x = np.sort(genpareto.rvs(k, scale=3.0, size=400, random_state=seed))
        found.append(_zhang_stephens(torch.from_numpy(x)))
        likeliest.append(genpareto.fit(x, floc=0)[0])
    # (1 + k) / sqrt(n) is the asymptotic standard deviation (k > -1/2).
    error = (1 + k) / math.sqrt(400)
    assert np.mean(found) == pytest.approx(k, abs=4 * error / math.sqrt(20) + 0.01)
    assert np.abs(np.array(found) - likeliest).max() < 0.75 * error


@pytest.mark.parametrize("k", [0.3, 0.7, 1.5])
def test_weights_with_a_power_tail(k: float) -> None:
    g = torch.Generator().manual_seed(0)
    log_weights = -k * torch.rand(40_000, generator=g, dtype=torch.float64).log()
    # 600 exceedances, and ten observations of 1/2.
    expected = (600 * k + 5) / 610
    assert pareto_shape(log_weights) == pytest.approx(expected, abs=4 * (1 + k) / math.sqrt(600))
    assert pareto_shape(log_weights + 1000) == pytest.approx(pareto_shape(log_weights), abs=1e-6)


def test_samples_without_a_tail() -> None:
    assert pareto_shape(torch.zeros(100)) == -math.inf
    assert math.isnan(pareto_shape(torch.arange(24.0)))
    few = torch.zeros(100)
    few[:4] = 1.0
    assert math.isnan(pareto_shape(few))
    assert pareto_shape(torch.cat([torch.zeros(99), torch.tensor([1000.0])])) == math.inf
    bounded = torch.rand(10_000, generator=torch.Generator().manual_seed(1)).log()  # density is constant at 1
    assert pareto_shape(bounded) < 0
