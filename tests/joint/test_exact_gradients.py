"""log Z of exact laws is differentiable: finite differences, moments, maximum likelihood."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law
from tests.truths.brute_force import ENERGIES, close, law_of, random_energy

_METHODS = pytest.mark.parametrize("method", ["enumeration", "elimination"])


@_METHODS
@pytest.mark.parametrize("tables", ["none", "own"])
def test_log_z_has_derivatives_of_both_orders(method: str, tables: str) -> None:
    start = random_energy((2, 3), Neighborhood.edges(2), 2, tables)
    assert start.edges is not None
    unary, edges = (t.clone().requires_grad_() for t in (start.unary, start.edges))
    pairwise = None if start.pairwise is None else start.pairwise.clone().requires_grad_()
    inputs = (unary, edges) if pairwise is None else (unary, edges, pairwise)

    def log_z(unary: Tensor, edges: Tensor, pairwise: Tensor | None = None) -> Tensor:
        return exact_law(PottsEnergy(unary, edges, pairwise), method).log_z

    assert torch.autograd.gradcheck(log_z, inputs)
    assert torch.autograd.gradgradcheck(log_z, inputs)


@_METHODS
def test_first_derivatives_are_marginals(method: str) -> None:
    energy = ENERGIES["8-neighbours"]()
    assert energy.pairwise is not None
    unary, pairwise = energy.unary.requires_grad_(), energy.pairwise.requires_grad_()
    constant = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    law = exact_law(PottsEnergy(unary, torch.ones_like(energy.edges), pairwise, constant=constant), method)
    slopes = torch.autograd.grad(law.log_z, (unary, pairwise, constant))
    close(-slopes[0][0], law.marginals)
    close(-slopes[1][0], law.pair_marginals)
    close(slopes[2], -1.0)
    assert not law.marginals.requires_grad
    assert not law.entropy.requires_grad


@_METHODS
def test_second_derivatives_of_symmetric_models_are_covariances(method: str) -> None:
    """Equal terms under a sum's logarithm, and terms that differ by more than an exponential can hold."""
    for strength in (0.0, 1.0, 800.0):
        unary = torch.zeros(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
        edges = torch.full((1, 2, 2, 2), strength, dtype=torch.float64)
        law = exact_law(PottsEnergy(unary, edges), method)
        (slope,) = torch.autograd.grad(law.log_z, unary, create_graph=True)
        (row,) = torch.autograd.grad(slope[0, 1, 0, 0], unary)
        truth = law_of(PottsEnergy(unary.detach(), edges))
        first = (truth.labels[:, 0, 0] == 1).double()
        both = (truth.p * first) @ truth.labels.flatten(1).double()
        close(row[0, 1].flatten(), both - 0.25)


def test_maximum_likelihood_finds_the_moments_of_the_data() -> None:
    """At the maximum, the model's marginals are the data's: an exponential family."""
    data = exact_law(random_energy((2, 4), Neighborhood.edges(2), 2, "none")).sample(200, seed=0)
    unary = torch.zeros(1, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    edges = torch.zeros(1, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([unary, edges], max_iter=200, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-9, tolerance_change=1e-14)  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -exact_law(PottsEnergy(unary, edges)).log_prob(data).mean()
        value.backward()
        return value

    optimizer.step(loss)
    law = exact_law(PottsEnergy(unary.detach(), edges.detach()))
    close(law.marginals[1], data.double().mean(dim=0), 1e-6)
    unequal = (data[:, :, 1:] != data[:, :, :-1]).double().mean(dim=0)
    close(law.pair_marginals[1, 0, 1, :, :-1] + law.pair_marginals[1, 1, 0, :, :-1], unequal, 1e-6)
