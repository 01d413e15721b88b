"""What flows are fitted by, against sums over all labelings."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint import objective
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.objective import log_assignments, paper_objective, semi_implicit
from tests.truths.brute_force import all_labelings, chi_square, random_energy

_GRAPH = Graph(torch.tensor([[0, 2, 1], [1, 1, 0]]), 3)
# (J, *spatial), ties, tables, m, draws of earlier steps.
_CASES = {
    "two pixels": ((2, 2), Neighborhood.edges(1), "none", 3, 0),
    "three pixels": ((2, 3), Neighborhood.edges(1), "own", 3, 0),
    "three labels": ((3, 2), Neighborhood.edges(1), "shared", 3, 0),
    "graph": ((3, 3), _GRAPH, "own", 2, 0),
    "grid": ((2, 2, 2), Neighborhood.edges(2, 2), "own", 2, 0),
    "memory": ((3, 2), Neighborhood.edges(1), "shared", 3, 4),
    "memory of two labels": ((2, 3), Neighborhood.edges(1), "own", 2, 3),
}
_ALL = pytest.mark.parametrize("name", list(_CASES))


def _case(name: str, scale: float = 1.5) -> tuple[PottsEnergy, Tensor, Tensor]:
    """An energy, logits (C, n, m) that ask for gradients, and log S of earlier draws (J, n, m')."""
    (labels, *spatial), where, tables, samples, earlier = _CASES[name]
    energy = random_energy(tuple(spatial), where, labels, tables, seed=1)
    g = torch.Generator().manual_seed(2)
    channels, pixels = 1 if labels == 2 else labels, math.prod(spatial)
    logits = scale * torch.randn(channels, pixels, samples, generator=g, dtype=torch.float64)
    old = scale * torch.randn(labels, pixels, earlier, generator=g, dtype=torch.float64)
    return energy, logits.requires_grad_(), old.log_softmax(dim=0)


def _log_products(log_s: Tensor, labels: Tensor) -> Tensor:
    """(A, m): log T(S^l) of labelings (A, n), factor by factor."""
    rows = []
    for alpha in labels.tolist():
        rows.append(sum(log_s[label, pixel] for pixel, label in enumerate(alpha)))
    return torch.stack(rows)


def _bound(energy: PottsEnergy, logits: Tensor, earlier: Tensor, beta: float, hold: bool = False) -> Tensor:
    """(1/m) sum_k sum_alpha T(S^k)_alpha (beta E(alpha) + log P-hat(alpha)); ``hold``: P-hat is fixed."""
    log_s = log_assignments(logits)
    every = all_labelings(energy.spatial, energy.num_labels)
    flat = every.flatten(1)
    own = _log_products(log_s, flat)
    log_p = torch.cat([own, _log_products(earlier, flat)], dim=1).exp().mean(dim=1).log()
    log_p = log_p.detach() if hold else log_p
    return (own.exp() * (beta * energy.energy(every) + log_p)[:, None]).sum(dim=0).mean()


def _all_draws(log_s: Tensor) -> list[tuple[Tensor, float]]:
    """All labels (n, m) of all samples at once, with their probabilities."""
    num_labels, pixels, samples = log_s.shape
    shape = (pixels, samples)
    found = []
    for flat in itertools.product(range(num_labels), repeat=pixels * samples):
        labels = torch.tensor(flat).reshape(shape)
        found.append((labels, float(log_s.gather(0, labels[None]).sum().exp())))
    return found


@_ALL
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_gradient_and_value_are_right_on_average(name: str, beta: float) -> None:
    """The mean over all draws of labels, each with its probability, without any error of sampling."""
    energy, logits, earlier = _case(name)
    log_s = log_assignments(logits)
    fixed = log_s.detach()
    mixture = torch.cat([fixed, earlier], dim=2)
    by_s, value, total = torch.zeros_like(fixed), 0.0, 0.0
    for labels, p in _all_draws(fixed):
        a, v = objective._coefficients(fixed, mixture, labels, energy, beta)
        by_s, value, total = by_s + p * a, value + p * v, total + p
    assert total == pytest.approx(1, abs=1e-12)
    found = torch.autograd.grad((by_s * log_s.exp()).sum(), logits)[0]
    bound = _bound(energy, logits, earlier, beta, hold=True)
    assert float(value) == pytest.approx(float(bound.detach()), abs=1e-11)
    torch.testing.assert_close(found, torch.autograd.grad(bound, logits)[0], rtol=1e-10, atol=1e-11)
    if not earlier.shape[2]:  # what is left out has the mean zero
        whole = torch.autograd.grad(_bound(energy, logits, earlier, beta), logits)[0]
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-11)


@_ALL
def test_the_twin_s_gradient_is_that_of_finite_differences(name: str) -> None:
    energy, logits, earlier = _case(name)
    assert gradcheck(lambda v: _bound(energy, v, earlier, 0.7), (logits,))


@_ALL
def test_the_loss_is_made_of_one_draw(name: str) -> None:
    """The gradient of semi_implicit is that of its coefficients at the labels that its generator draws."""
    energy, logits, earlier = _case(name)
    g = torch.Generator().manual_seed(4)
    found = semi_implicit(logits, energy, 0.6, g, earlier if earlier.shape[2] else None)
    log_s = log_assignments(logits)
    labels = objective._draw(log_s.detach(), torch.Generator().manual_seed(4))
    mixture = torch.cat([log_s.detach(), earlier], dim=2)
    a, value = objective._coefficients(log_s.detach(), mixture, labels, energy, 0.6)
    expected = torch.autograd.grad((a * log_s.exp()).sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(found.loss, logits)[0], expected)
    assert not found.free_energy.requires_grad
    assert float(found.free_energy) == pytest.approx(float(value))
    # The value is the bound at these labels, by plain loops.
    products = _log_products(mixture, labels.T).exp().mean(dim=1).log()
    cost = energy.energy(labels.T.reshape(-1, *energy.spatial))
    assert float(found.free_energy) == pytest.approx(float((0.6 * cost + products).mean().detach()))


@pytest.mark.parametrize("rows", [1, 2, 7, 512])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    energy = random_energy((2, 2), Neighborhood.edges(2), 3, "own")
    g = torch.Generator().manual_seed(0)
    log_s, earlier = (
        torch.randn(3, 4, m, generator=g, dtype=torch.float64).log_softmax(dim=0) for m in (15, 4)
    )
    labels = objective._draw(log_s, g)
    mixture = torch.cat([log_s, earlier], dim=2)
    monkeypatch.setattr(objective, "_ROWS", 10**6)
    whole = objective._coefficients(log_s, mixture, labels, energy, 0.5)
    monkeypatch.setattr(objective, "_ROWS", rows)
    for a, b in zip(objective._coefficients(log_s, mixture, labels, energy, 0.5), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_more_samples_than_one_block() -> None:
    """700 samples are two blocks: every row of the second against plain loops."""
    energy = random_energy((3,), Neighborhood.edges(1), 2, "own")
    log_s = torch.randn(2, 3, 700, generator=torch.Generator().manual_seed(0)).double().log_softmax(dim=0)
    labels = objective._draw(log_s, torch.Generator().manual_seed(1))
    by_s, value = objective._coefficients(log_s, log_s, labels, energy, 1.0)
    products = _log_products(log_s, labels.T).exp()  # (k, l)
    log_p = products.mean(dim=1).log()
    cost = energy.energy(labels.T)
    assert float(value) == pytest.approx(float((cost + log_p).mean()), abs=1e-12)
    for j, i in itertools.product(range(2), range(3)):
        changed = labels.clone()
        changed[i] = j
        there = energy.energy(changed.T) + _log_products(log_s, changed.T).exp().mean(dim=1).log()
        torch.testing.assert_close(by_s[j, i], (there - cost - log_p) / 700, rtol=1e-10, atol=1e-12)


def test_labels_are_drawn_from_their_rows() -> None:
    g = torch.Generator().manual_seed(0)
    log_s = (2 * torch.randn(3, 2, 1, generator=g, dtype=torch.float64)).log_softmax(dim=0)
    drawn = objective._draw(log_s.expand(3, 2, 50_000), g)
    assert drawn.shape == (2, 50_000)
    p = (log_s[:, 0, :] + log_s[:, 1, :].T).exp().flatten()
    statistic, quantile = chi_square(3 * drawn[0] + drawn[1], p)
    assert statistic < quantile
    sure = torch.tensor([-1e4, 0.0, -1e4]).reshape(3, 1, 1).expand(3, 4, 5)
    assert (objective._draw(sure, g) == 1).all()


def test_one_channel_is_two_labels() -> None:
    u = torch.tensor([-1000.0, -3.0, 0.0, 2.0, 1000.0], dtype=torch.float64).reshape(1, 5, 1)
    found = log_assignments(u)
    assert found.shape == (2, 5, 1)
    expected = torch.cat([torch.zeros_like(u), u]).log_softmax(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_perfect_model_has_no_noise_in_what_is_known_of_it() -> None:
    """P-hat = P*: E + log P-hat is constant, and so nothing multiplies S."""
    log_s = torch.tensor([[-0.3, 1.2], [0.9, -2.0]], dtype=torch.float64)
    log_s = torch.stack([-log_s, log_s]).log_softmax(dim=0)  # (2, 2, 2)
    every = all_labelings((2,), 2)
    table = -_log_products(log_s, every).exp().mean(dim=1).log()
    zero, one = torch.zeros(1, 2, 2, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64)
    energy = PottsEnergy(zero, one, table.reshape(2, 2), Neighborhood.edges(1))
    for labels, _ in _all_draws(log_s):
        by_s, value = objective._coefficients(log_s, log_s, labels, energy, 1.0)
        assert by_s.abs().max() < 1e-12
        assert float(value) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_assignments_of_any_size_give_finite_numbers(channels: int) -> None:
    """Integral in single precision: S is 0 or 1 to the last digit."""
    labels = max(channels, 2)
    energy = random_energy((4, 4), Neighborhood.edges(2), labels, "none").to(torch.float32)
    g = torch.Generator().manual_seed(0)
    for size in (0.0, 30.0, 1e3, 1e6):
        logits = (size * torch.randn(channels, 16, 64, generator=g)).requires_grad_()
        for form in (semi_implicit, paper_objective):
            found = form(logits, energy, 1.0, g)
            assert math.isfinite(found.free_energy)
            assert torch.autograd.grad(found.loss, logits)[0].isfinite().all()


# --- the paper's objective


def _paper(logits: Tensor, energy: PottsEnergy, beta: float) -> Tensor:
    """RAF (14), (17), (20), (22), (23) as sums and products."""
    s = log_assignments(logits).exp()
    num_labels, pixels, samples = s.shape
    every = all_labelings(energy.spatial, num_labels)
    cost, rounded, total = energy.energy(every), [], torch.zeros((), dtype=torch.float64)
    for k in range(samples):
        # (17): the mean energy of independent pixels, by enumeration.
        for alpha, e in zip(every.flatten(1).tolist(), cost, strict=True):
            product = torch.ones((), dtype=torch.float64)
            for i in range(pixels):
                product = product * s[alpha[i], i, k]
            total = total + beta * e * product / samples
        rounded.append([int(s[:, i, k].argmax()) for i in range(pixels)])
    for alpha in rounded:
        # (22): the mean of T(S^l) at the labeling that S^k is rounded to.
        p = torch.zeros((), dtype=torch.float64)
        for l in range(samples):
            product = torch.ones((), dtype=torch.float64)
            for i in range(pixels):
                product = product * s[alpha[i], i, l]
            p = p + product / samples
        total = total + p.log() / samples
    rows = [s[:, i, k] for i in range(pixels) for k in range(samples)]
    mean_entropy = sum(-(row * row.log()).sum() for row in rows) / len(rows)
    support = len({tuple(alpha) for alpha in rounded})
    return total - (support * mean_entropy.exp() - 1) / (2 * samples)


@_ALL
def test_the_paper_s_objective_term_by_term(name: str) -> None:
    energy, logits, _ = _case(name, scale=3.0)
    for beta in (1.0, 0.4):
        found = paper_objective(logits, energy, beta, torch.Generator())
        expected = _paper(logits, energy, beta)
        assert float(found.free_energy) == pytest.approx(float(expected.detach()), abs=1e-11)
        ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (found.loss, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@_ALL
def test_the_paper_s_gradient_is_that_of_finite_differences(name: str) -> None:
    energy, logits, _ = _case(name)
    assert gradcheck(lambda v: paper_objective(v, energy, 0.7, torch.Generator()).loss, (logits,))
