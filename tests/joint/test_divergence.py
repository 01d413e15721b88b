"""Mixtures of products against enumeration, and bounds on KL against KL."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from flowcut.joint.divergence import (
    draw_labels,
    kl_bounds,
    leave_one_out_log_prob,
    mixture_log_prob,
)
from flowcut.joint.energy import PottsEnergy

J, SPATIAL = 3, (2, 2)
EVERY = torch.tensor(list(itertools.product(range(J), repeat=4))).reshape(-1, *SPATIAL)  # 81


def _log_s(m: int, seed: int = 0, scale: float = 1.5) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(m, J, *SPATIAL, generator=g, dtype=torch.float64)).log_softmax(dim=1)


def _dense(log_s: Tensor, labels: Tensor) -> Tensor:
    """(M, m): T(S^l) of every labeling, product by product."""
    out = torch.ones(len(labels), len(log_s), dtype=torch.float64)
    for k, l in itertools.product(range(len(labels)), range(len(log_s))):
        for a, b in itertools.product(*map(range, SPATIAL)):
            out[k, l] *= log_s[l, int(labels[k, a, b]), a, b].exp()
    return out


def _energy() -> PottsEnergy:
    g = torch.Generator().manual_seed(1)
    unary = torch.randn(1, J, *SPATIAL, generator=g, dtype=torch.float64)
    return PottsEnergy(unary, torch.ones(1, 2, *SPATIAL, dtype=torch.float64), constant=-0.4)


@pytest.mark.parametrize("block", [1, 10, 35, 10**6])
def test_is_the_mean_of_products(block: int) -> None:
    log_s = _log_s(7)
    products = _dense(log_s, EVERY)
    torch.testing.assert_close(mixture_log_prob(log_s, EVERY, block).exp(), products.mean(dim=1))
    assert float(mixture_log_prob(log_s, EVERY, block).exp().sum()) == pytest.approx(1, abs=1e-12)
    labels = EVERY[10:17]
    off = products[10:17].masked_fill(torch.eye(7, dtype=torch.bool), 0).sum(dim=1) / 6
    torch.testing.assert_close(leave_one_out_log_prob(log_s, labels, block).exp(), off)


@pytest.mark.parametrize("block", [4, 10**6])
def test_derivatives(block: int) -> None:
    x = torch.randn(3, J, *SPATIAL, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x.requires_grad_()
    labels = EVERY[[3, 40, 77]]
    for of in (mixture_log_prob, leave_one_out_log_prob):
        assert gradcheck(lambda v, of=of: of(v.log_softmax(dim=1), labels, block), (x,))
        assert gradgradcheck(lambda v, of=of: of(v.log_softmax(dim=1), labels, block), (x,))


def test_gradients_do_not_keep_all_blocks() -> None:
    log_s = _log_s(50).requires_grad_()
    labels = EVERY.repeat(4, 1, 1)  # 324 x 50
    kept: list[int] = []

    def largest(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(largest, lambda tensor: tensor):
        total = mixture_log_prob(log_s, labels, block=500).sum()
    assert max(kept) <= labels.numel()
    whole = mixture_log_prob(log_s, labels).sum()
    expected = torch.autograd.grad(whole, log_s)[0]
    torch.testing.assert_close(torch.autograd.grad(total, log_s)[0], expected)


def test_extreme_probabilities_and_single_precision() -> None:
    # Products of 400 pixels: exp(-400 * 80) underflows in any precision.
    log_s = torch.tensor([[-80.0, -1e-8], [-60.0, -1e-7]]).reshape(2, 2, 1).expand(2, 2, 400)
    labels = torch.zeros(1, 400, dtype=torch.uint8)
    found = mixture_log_prob(log_s, labels)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(-24_000 - math.log(2), rel=1e-6)
    double = mixture_log_prob(_log_s(7), EVERY)
    torch.testing.assert_close(mixture_log_prob(_log_s(7).float(), EVERY).double(), double, rtol=0, atol=1e-5)
    assert mixture_log_prob(log_s, labels[:0]).shape == (0,)


def _kl(pool: Tensor, energy: PottsEnergy) -> tuple[float, float, float, float]:
    """KL, log Z, mean energy and entropy of the equal mixture of all of the pool."""
    p, cost = _dense(pool, EVERY).mean(dim=1), energy.energy(EVERY)
    log_z = float(torch.logsumexp(-cost, dim=0))
    mean, entropy = float(p @ cost), float(-(p @ p.log()))
    return mean - entropy + log_z, log_z, mean, entropy


def test_bounds_bracket_kl_in_expectation() -> None:
    # S is one of five assignments, each as likely: P and KL by enumeration.
    pool, energy = _log_s(5, scale=3.0), _energy()
    kl, log_z, mean, entropy = _kl(pool, energy)
    runs = []
    for seed in range(200):
        g = torch.Generator().manual_seed(seed)
        draws = pool[torch.randint(5, (12,), generator=g)]
        bounds = kl_bounds(energy, draws, log_z, generator=g)
        runs.append(
            [
                float(e.value)
                for e in (
                    bounds.lower,
                    bounds.upper,
                    bounds.energy,
                    bounds.entropy_lower,
                    bounds.entropy_upper,
                )
            ]
        )
    means, error = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / math.sqrt(200)
    assert means[0] < kl - 4 * error[0]
    assert means[1] > kl + 4 * error[1]
    assert abs(means[2] - mean) < 4 * error[2]
    assert means[3] < entropy - 4 * error[3]
    assert means[4] > entropy + 4 * error[4]


def test_the_including_side_is_the_entropy_of_the_drawn_mixture() -> None:
    # Given S, the mean over labels is KL(P-hat || P*) exactly: above KL by H(P) - H(P-hat).
    energy, draws = _energy(), _log_s(8, seed=4)
    kl, log_z, _, _ = _kl(draws, energy)
    values = [kl_bounds(energy, draws, log_z, generator=seed).upper.value for seed in range(400)]
    found = torch.stack(values)
    assert abs(float(found.mean()) - kl) < 4 * float(found.std()) / math.sqrt(400)


def test_bounds_meet_and_errors_cover_for_many_draws() -> None:
    pool, energy = _log_s(5), _energy()
    kl, log_z, _, _ = _kl(pool, energy)
    scores = []
    for seed in range(100):
        g = torch.Generator().manual_seed(seed)
        bounds = kl_bounds(energy, pool[torch.randint(5, (1000,), generator=g)], log_z, generator=g)
        assert abs(float(bounds.upper.value - bounds.lower.value)) < 0.01
        middle = (bounds.upper.value + bounds.lower.value) / 2
        scores.append(float(middle - kl) / float(bounds.upper.standard_error))
    assert (np.abs(scores) < 2).mean() > 0.954 - 4 * 0.021
    # The components' own fluctuation adds nothing to first order.
    assert np.std(scores) == pytest.approx(1, abs=4 / math.sqrt(200))


def test_one_component_is_mean_field() -> None:
    # P = T(S): KL = E_mf(S) - H(S) + log Z, RAF (16), (17), and both sides are equal.
    energy, log_s = _energy(), _log_s(1)
    _, log_z, _, _ = _kl(log_s, energy)
    expected = float(energy.mean_field_energy(log_s.exp())) + float((log_s.exp() * log_s).sum()) + log_z
    bounds = kl_bounds(energy, log_s.expand(4000, J, *SPATIAL), log_z)
    assert float(bounds.upper.value) == pytest.approx(float(bounds.lower.value), abs=1e-12)
    assert abs(float(bounds.upper.value) - expected) < 4 * float(bounds.upper.standard_error)


def test_labels_can_be_given() -> None:
    energy, draws = _energy(), _log_s(20)
    labels = draw_labels(draws, 7)
    a, b = kl_bounds(energy, draws, 0.0, labels=labels), kl_bounds(energy, draws, 0.0, generator=7)
    assert a == b


@pytest.mark.parametrize(
    ("log_s", "labels", "error", "message"),
    [
        (torch.zeros(2, 3, 4, dtype=torch.int64), EVERY, TypeError, "log_assignments: expected a floating"),
        (torch.zeros(0, 3, 4), EVERY, ValueError, r"log_assignments: expected shape .*got \(0, 3, 4\)"),
        (_log_s(2) - math.inf, EVERY, ValueError, "log_assignments: expected finite values, got -inf"),
        (_log_s(2), EVERY.double(), TypeError, "labels: expected an integer tensor, got torch.float64"),
        (_log_s(2), EVERY[:, :1], ValueError, r"labels: expected shape \(M, 2, 2\), got \(81, 1, 2\)"),
        (_log_s(2), EVERY + 1, ValueError, "labels: expected 0 to 2, got 1 to 3"),
    ],
)
def test_refusals(log_s: Tensor, labels: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mixture_log_prob(log_s, labels)


def test_more_refusals() -> None:
    energy = _energy()
    with pytest.raises(ValueError, match="block: expected an integer >= 1, got 0"):
        mixture_log_prob(_log_s(2), EVERY, block=0)
    with pytest.raises(ValueError, match="log_assignments: expected m >= 2 components, got 1"):
        leave_one_out_log_prob(_log_s(1), EVERY[:1])
    with pytest.raises(ValueError, match="labels: expected one labeling of each of 2 components, got 3"):
        leave_one_out_log_prob(_log_s(2), EVERY[:3])
    with pytest.raises(ValueError, match=r"draws: expected shape \(m, 3, 2, 2\), got \(2, 3, 4\)"):
        kl_bounds(energy, torch.zeros(2, 3, 4), 0.0)
    with pytest.raises(ValueError, match="draws: expected m >= 2"):
        kl_bounds(energy, _log_s(1), 0.0)
    with pytest.raises(ValueError, match="energy: expected one energy, got 2"):
        kl_bounds(PottsEnergy(torch.zeros(2, 2, 3), torch.zeros(1, 1, 3)), torch.zeros(2, 2, 3), 0.0)
