"""Normal vectors: moments of many draws against F F^T + noise, and shared factors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flowcut.joint.gaussian import COVARIANCES, NormalVectors

SIZE, RANK, COMPONENTS, SAMPLES = 4, 2, 3, 100_000
_ALL = pytest.mark.parametrize("covariance", COVARIANCES)


def _vectors(covariance: str, size: int = SIZE, components: int = COMPONENTS, seed: int = 0) -> NormalVectors:
    """Parameters of any size, none of them special."""
    g = torch.Generator().manual_seed(seed)
    out = NormalVectors(size, RANK, components, covariance, 0.1, 0.2, 0.3, 0.4, g).double()
    with torch.no_grad():
        for parameter in out.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    return out


def _truth(vectors: NormalVectors, component: int) -> tuple[Tensor, Tensor]:
    """Mean and factors of one component."""
    rank = 0 if vectors.covariance == "diagonal" else RANK
    first = component * rank
    return vectors.mean[:, component].detach(), vectors.factors[:, first : first + rank].detach()


def _noise(vectors: NormalVectors) -> Tensor:
    scale = vectors.scale.detach()
    if vectors.covariance == "full":
        lower = scale * (torch.arange(SIZE)[:, None] >= torch.arange(SIZE))
        return lower @ lower.T
    return torch.diag(scale[:, 0].exp() ** 2)


def _draw(vectors: NormalVectors, component: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    factors = torch.randn(RANK + 1, len(component), generator=g, dtype=torch.float64)
    with torch.no_grad():
        return factors, vectors(factors, component, g)


def _check_moments(x: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Within five standard errors, of normal vectors."""
    count, variances = x.shape[1], covariance.diag()
    error = (x.mean(dim=1) - mean).abs() / (variances / count).sqrt()
    assert error.max() < 5
    spread = (torch.outer(variances, variances) + covariance**2) / count
    assert ((x.cov() - covariance).abs() / spread.sqrt()).max() < 5


@_ALL
def test_moments_of_every_component(covariance: str) -> None:
    vectors = _vectors(covariance)
    component = torch.arange(COMPONENTS).repeat(SAMPLES)
    _, x = _draw(vectors, component)
    assert x.shape == (SIZE, COMPONENTS * SAMPLES)
    for c in range(COMPONENTS):
        mean, factors = _truth(vectors, c)
        _check_moments(x[:, component == c], mean, factors @ factors.T + _noise(vectors))


def test_vectors_that_share_factors_are_correlated() -> None:
    first, second = _vectors("low-rank"), _vectors("full", components=1, seed=1)
    component = torch.arange(COMPONENTS).repeat(SAMPLES)
    g = torch.Generator().manual_seed(2)
    factors = torch.randn(RANK, len(component), generator=g, dtype=torch.float64)
    with torch.no_grad():
        both = torch.cat([first(factors, component, g), second(factors, component * 0, g)])
    mean_2, f_2 = _truth(second, 0)
    for c in range(COMPONENTS):
        mean_1, f_1 = _truth(first, c)
        f = torch.cat([f_1, f_2])
        noise = torch.block_diag(_noise(first), _noise(second))
        _check_moments(both[:, component == c], torch.cat([mean_1, mean_2]), f @ f.T + noise)


@_ALL
def test_is_linear_in_its_factors(covariance: str) -> None:
    """The same noise, other factors: the difference is F_c times that of the factors, exactly."""
    vectors = _vectors(covariance)
    component = torch.tensor([2, 0, 1, 1])
    first, second = (
        torch.randn(RANK + 3, 4, generator=torch.Generator().manual_seed(s)).double() for s in (1, 2)
    )
    with torch.no_grad():
        a, b = (vectors(f, component, torch.Generator().manual_seed(3)) for f in (first, second))
    for k, c in enumerate(component.tolist()):
        f = _truth(vectors, c)[1]
        expected = f @ (first - second)[: f.shape[1], k]
        torch.testing.assert_close((a - b)[:, k], expected, rtol=1e-12, atol=1e-12)


@_ALL
def test_a_generator_means_a_draw(covariance: str) -> None:
    vectors, component = _vectors(covariance), torch.tensor([0, 2, 1])
    one, again, other = (_draw(vectors, component, s)[1] for s in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.isclose(one, other).any()
    # Global state plays no part.
    torch.manual_seed(1)
    assert torch.equal(_draw(vectors, component, 5)[1], one)
    made, same, different = (
        NormalVectors(5, 2, 2, covariance, 0.0, 0.3, 0.3, 0.1, torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    )
    for a, b, c in zip(made.parameters(), same.parameters(), different.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (a is made.scale or not a.numel())


@_ALL
def test_initial_moments_are_those_asked_for(covariance: str) -> None:
    """Over 5000 numbers: means about 0.7 +- 0.2, F z with deviation 0.3, noise with 0.1."""
    size = 5000 if covariance != "full" else 500
    g = torch.Generator().manual_seed(0)
    vectors = NormalVectors(size, 8, 2, covariance, 0.7, 0.2, 0.3, 0.1, g)
    five = 5 / math.sqrt(2 * size)
    means = vectors.mean.detach()
    assert float(means.mean()) == pytest.approx(0.7, abs=0.2 * five)
    assert float(means.std()) == pytest.approx(0.2, rel=five)
    component, z = torch.zeros(1, dtype=torch.int64), torch.zeros(8, 1)
    with torch.no_grad():
        noise = vectors(z, component, g)[:, 0] - vectors.mean[:, 0]
    assert float(noise.std()) == pytest.approx(0.1, rel=1.5 * five)
    if covariance == "diagonal":
        assert vectors.factors.shape == (size, 0)
    else:
        deviation = (vectors.factors.detach()[:, :8] ** 2).sum(dim=1).mean().sqrt()
        assert float(deviation) == pytest.approx(0.3, rel=five)


@_ALL
def test_everything_learns(covariance: str) -> None:
    vectors = _vectors(covariance)
    g = torch.Generator().manual_seed(0)
    factors = torch.randn(RANK, 6, generator=g, dtype=torch.float64)
    vectors(factors, torch.arange(6) % 3, g).sin().sum().backward()
    for name, parameter in vectors.named_parameters():
        used = torch.ones_like(parameter).tril() if name == "scale" and covariance == "full" else 1.0
        assert torch.equal(parameter.grad != 0, (torch.ones_like(parameter) * used).bool()), name


def test_no_factors_and_no_draws() -> None:
    g = torch.Generator().manual_seed(0)
    plain = NormalVectors(3, 0, 2, "low-rank", 0.0, 1.0, 0.3, 0.1, g)
    x = plain(torch.zeros(0, 4), torch.tensor([0, 1, 1, 0]), g)
    assert x.shape == (3, 4)
    assert ((x - plain.mean[:, [0, 1, 1, 0]]).abs() < 1).all()
    none = plain(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), g)
    assert none.shape == (3, 0)
