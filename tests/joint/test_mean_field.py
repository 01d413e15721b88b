"""Mean field against the enumerated relative entropy, its own equations, SciPy, and RAF's Table 1."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import chi2
from torch import Tensor

import flowcut as fc
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError
from flowcut.joint import mean_field as module
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.mean_field import mean_field

WHERE = {
    "4-neighbours": ((2, 3), Neighborhood.edges(2)),
    "8-neighbours": ((2, 3), Neighborhood.edges(2, 2)),
    "own": ((2, 3), Neighborhood(((0, 2), (1, -1)))),
    "graph": ((5,), Graph(torch.tensor([[0, 1, 2, 3, 0, 1], [1, 2, 0, 4, 3, 0]]), 5)),
}


def _energy(name: str, tables: bool = True, scale: float = 1.0, j: int = 3) -> PottsEnergy:
    spatial, where = WHERE[name]
    g = torch.Generator().manual_seed(0)
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    unary = torch.randn(1, j, *spatial, generator=g, dtype=torch.float64)
    edges = scale * torch.randn(1, *ties, generator=g, dtype=torch.float64)
    table = torch.randn(j, j, generator=g, dtype=torch.float64) if tables else None
    return PottsEnergy(unary, edges, table, where, constant=0.7)


def _all_labelings(energy: PottsEnergy) -> Tensor:
    every = itertools.product(range(energy.num_labels), repeat=math.prod(energy.spatial))
    return torch.tensor(list(every)).reshape(-1, *energy.spatial)


def _product(assignments: Tensor) -> Tensor:
    law = torch.ones(1, dtype=assignments.dtype)
    for row in assignments.flatten(1).T:
        law = torch.outer(law, row).flatten()
    return law


def _table_one() -> tuple[PottsEnergy, float, np.ndarray]:
    """The 3x8 Ising model of RAF's Table 1; log Z and P(label 1) by a transfer matrix over its columns."""
    unary = torch.zeros(1, 2, 3, 8, dtype=torch.float64)
    unary[0, 0, :, 0], unary[0, 0, :, -1] = -3.0, 3.0
    energy = PottsEnergy(unary, torch.full((1, 2, 3, 8), 2.1, dtype=torch.float64))
    columns = np.array(list(itertools.product((0, 1), repeat=3)))
    inside = 2.1 * np.abs(np.diff(columns, axis=1)).sum(1)
    between = np.exp(-2.1 * np.abs(columns[:, None] - columns).sum(2))
    zeros = 3.0 * (columns == 0).sum(1)
    node = [np.exp(-inside - (-zeros if c == 0 else zeros if c == 7 else 0)) for c in range(8)]
    ahead, behind = [node[0]], [np.ones(8)]
    for c in range(1, 8):
        ahead.append(ahead[-1] @ between * node[c])
        behind.insert(0, between @ (node[8 - c] * behind[0]))
    total = ahead[-1].sum()
    marginals = np.stack([(a * b / total) @ columns for a, b in zip(ahead, behind, strict=True)], axis=1)
    return energy, float(np.log(total)), marginals


def test_table_one() -> None:
    """RAF prints KL 1.974, energy -1.57, entropy 1.60, marginal difference 0.198: rounded optima."""
    energy, log_z, marginals = _table_one()
    assert log_z == pytest.approx(5.1362, abs=5e-5)
    found = mean_field(energy)
    assert found.converged.all()
    assert float(found.kl(log_z)) == pytest.approx(1.9683, abs=5e-5)
    assert float(found.energy) == pytest.approx(-1.566, abs=5e-4)
    assert float(found.entropy) == pytest.approx(1.602, abs=5e-4)
    ones = found.assignments[1].numpy()
    # Two optima are equal up to the fifth digit: an interface in the middle, or a column aside.
    difference = np.abs(ones - marginals).mean()
    assert min(abs(difference - 0.1979), abs(difference - 0.2161)) < 5e-5
    # Straight interfaces in all seven places, and others that are worse.
    assert found.free_energies.shape == (1000,)
    assert found.free_energies.min() == pytest.approx(float(found.free_energy), abs=1e-8)
    assert len(found.free_energies.round(decimals=3).unique()) >= 4


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("name", WHERE)
def test_kl_is_the_sum_over_all_labelings(name: str, tables: bool) -> None:
    """RAF (14a), without its second line."""
    energy = _energy(name, tables)
    found = mean_field(energy, restarts=20)
    costs = energy.energy(_all_labelings(energy))
    law, log_z = (-costs).softmax(dim=0), (-costs).logsumexp(dim=0)
    p = _product(found.assignments)
    truth = (p * (p / law).log()).sum()
    exact = SimpleNamespace(log_z=log_z)
    for given in (exact, log_z, log_z[None], float(log_z)):
        torch.testing.assert_close(found.kl(given), truth)
    torch.testing.assert_close(found.energy, p @ costs)
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum())  # (16)
    assert 0 <= truth < 2
    assert -found.free_energy <= log_z
    torch.testing.assert_close(found.log_prob(_all_labelings(energy)), p.log())
    assert found.assignments.dtype == found.free_energy.dtype == torch.float64


@pytest.mark.parametrize("name", WHERE)
def test_a_fixed_point_of_its_equations(name: str) -> None:
    energy = _energy(name, scale=3.0)
    found = mean_field(energy, restarts=5, tolerance=1e-10)
    s = found.assignments[None]
    torch.testing.assert_close(s, (-energy.local_costs(s)).softmax(dim=1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", WHERE)
def test_sweeps_never_raise_the_free_energy(name: str) -> None:
    energy = _energy(name, scale=4.0)
    last = torch.full((50,), math.inf, dtype=torch.float64)
    for sweeps in range(1, 12):
        found = mean_field(energy, 50, max_sweeps=sweeps, on_failure="ignore")
        assert (found.free_energies <= last + 1e-12).all()
        assert (found.sweeps <= sweeps).all()
        last = found.free_energies


def test_scipy_finds_nothing_better() -> None:
    """BFGS on logits, as the paper does with Adam, from 15 starts."""
    energy = _energy("4-neighbours", scale=1.5)
    g = torch.Generator().manual_seed(1)

    def free_energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        v = torch.from_numpy(x).reshape(1, *energy.shape).requires_grad_()
        s = v.softmax(dim=1)
        f = energy.mean_field_energy(s).sum() + (s * s.log()).sum()
        return f.item(), torch.autograd.grad(f, v)[0].flatten().numpy()

    starts = torch.randn(15, energy.unary.numel(), generator=g, dtype=torch.float64).numpy()
    best = min(minimize(free_energy, x, jac=True).fun for x in starts)
    found = mean_field(energy, restarts=200)
    assert float(found.free_energy) == pytest.approx(best, abs=1e-7)


def test_without_ties_it_is_the_law() -> None:
    for where, ties in ((None, (2, 2, 3)), (Graph(torch.empty(2, 0, dtype=torch.int64), 4), (0,))):
        unary = torch.randn(1, 3, *(ties[1:] or (4,)), generator=torch.Generator().manual_seed(0))
        found = mean_field(PottsEnergy(unary, torch.zeros(1, *ties), None, where), restarts=3)
        torch.testing.assert_close(found.assignments, (-unary[0].double()).softmax(dim=0))
        log_z = (-unary.double()).logsumexp(dim=1).sum()
        assert float(found.kl(log_z)) == pytest.approx(0, abs=1e-12)
        assert (found.sweeps == 2).all()


def test_restarts_find_the_better_of_two_modes() -> None:
    """A magnet in a weak field has two minima; the one with the field wins."""
    unary = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    unary[:, 1] = 0.05
    energy = PottsEnergy(unary, torch.full((1, 2, 4, 4), 2.0, dtype=torch.float64))
    found = mean_field(energy, restarts=50)
    assert len(found.free_energies.round(decimals=6).unique()) >= 2
    assert (found.assignments[0] > 0.9).all()


def test_blocks_of_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = _energy("8-neighbours", scale=3.0)
    whole = mean_field(energy, restarts=40)
    for size in (1, 7 * energy.unary.numel()):
        monkeypatch.setattr(module, "BLOCK", size)
        blocks = mean_field(energy, restarts=40)
        assert blocks.free_energies.shape == blocks.converged.shape == blocks.sweeps.shape == (40,)
        torch.testing.assert_close(blocks.free_energy, blocks.free_energies.min())
        torch.testing.assert_close(blocks.free_energy, whole.free_energy)


def test_seeds() -> None:
    energy, _, _ = _table_one()
    first, again, other = (mean_field(energy, 30, seed=s) for s in (0, torch.Generator().manual_seed(0), 1))
    assert torch.equal(first.free_energies, again.free_energies)
    assert not torch.equal(first.free_energies, other.free_energies)
    assert torch.equal(first.sample(5, 3), first.sample(5, 3))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(first.sample(50, generator), first.sample(50, 3))
    assert not torch.equal(first.sample(50, generator), first.sample(50, 3))


def test_samples_have_the_product_law() -> None:
    energy = _energy("graph")
    found = mean_field(energy, restarts=10)
    count = 20_000
    samples = found.sample(count, seed=0)
    assert samples.shape == (count, 5)
    assert samples.dtype == torch.int64
    powers = 3 ** torch.arange(4, -1, -1)
    seen = torch.bincount(samples @ powers, minlength=3**5).double()
    expected = count * _product(found.assignments)
    frequent = expected >= 5
    seen, expected = (torch.cat([v[frequent], v[~frequent].sum()[None]]) for v in (seen, expected))
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(0.999, len(seen) - 1)
    assert found.sample(0, seed=0).shape == (0, 5)


def test_labels_that_cannot_be() -> None:
    """A label so costly that its probability underflows has log-probability -inf, and is not drawn."""
    unary = torch.zeros(1, 2, 2)
    unary[0, 1] = 2000.0
    found = mean_field(PottsEnergy(unary, torch.zeros(1, 1, 2)), restarts=2)
    assert found.log_prob(torch.tensor([[0, 0], [0, 1]])).tolist() == [0.0, -math.inf]
    assert not found.sample(100, seed=0).any()
    assert float(found.kl(0.0)) == 0


def test_single_precision_costs_and_no_pixels() -> None:
    energy, log_z, _ = _table_one()
    single = mean_field(energy.to(torch.float32), restarts=100)
    assert float(single.kl(log_z)) == pytest.approx(1.9683, abs=5e-5)
    tracked = PottsEnergy(energy.unary.clone().requires_grad_(), energy.edges)
    assert not mean_field(tracked, restarts=2).assignments.requires_grad
    nothing = PottsEnergy(torch.zeros(1, 2, 0, 3), torch.zeros(1, 2, 0, 3), constant=2.0)
    empty = mean_field(nothing, restarts=3)
    assert float(empty.free_energy) == 2.0
    assert empty.sample(4, seed=0).shape == (4, 0, 3)


def test_what_did_not_converge_is_reported() -> None:
    energy, _, _ = _table_one()
    with pytest.warns(fc.FlowcutWarning, match="20 of 20 restarts: tolerance 1e-06 .* raise max_sweeps"):
        found = mean_field(energy, 20, max_sweeps=2)
    assert not found.converged.any()
    with pytest.raises(NotConvergedError, match="within 2 sweeps"):
        mean_field(energy, 20, max_sweeps=2, on_failure="raise")
    mean_field(energy, 20, max_sweeps=2, on_failure="ignore")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"energy": torch.zeros(1, 2, 3)}, TypeError, "energy: expected a PottsEnergy, got Tensor"),
        (
            {"energy": PottsEnergy(torch.zeros(2, 2, 3), torch.ones(1, 1, 3))},
            ValueError,
            r"energy: expected one energy, got 2; take energy\[i\]",
        ),
        ({"restarts": 0}, ValueError, "restarts: expected at least 1, got 0"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps: expected at least 1, got 0"),
        ({"tolerance": 0.0}, ValueError, "tolerance: expected a finite number > 0, got 0.0"),
        ({"tolerance": math.nan}, ValueError, "tolerance: .*nan"),
    ],
)
def test_bad_input_gets_one_clear_line(change, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        mean_field(**{"energy": _energy("graph"), **change})
    assert "\n" not in str(caught.value)


def test_bad_requests_to_the_result() -> None:
    found = mean_field(_energy("graph"), restarts=2)
    with pytest.raises(ValueError, match="count: expected a number >= 0, got -1"):
        found.sample(-1, seed=0)
    with pytest.raises(ValueError, match="labels: expected 0 to 2, got 3 to 3"):
        found.log_prob(torch.full((1, 5), 3))
    with pytest.raises(TypeError, match="labels: expected an integer tensor"):
        found.log_prob(torch.zeros(1, 5))
