"""Auto takes CG where it is cheap and factors where the contrast is high."""

from __future__ import annotations

import pytest
import torch

import flowcut as fc
from flowcut.linear import auto
from flowcut.linear.auto import may_factor, predicted_steps
from tests.truths.families import EVERY_FAMILY, make_family


def _system(spatial=(64, 64), weight=1.0):
    return fc.GridOperator(torch.full((1, len(spatial), *spatial), weight)).system()


def test_prediction_for_constant_ties() -> None:
    """d = 1 + incident ties: four in the interior, fewer at the border."""
    n, weight = 64, 10.0
    ties = 4 * weight * (n - 1) / n
    assert predicted_steps(_system((n, n), weight)) == pytest.approx(6 * (1 + ties) ** 0.5, rel=1e-5)


def test_sizes_that_may_be_factored() -> None:
    assert may_factor(_system((64, 64)))
    assert may_factor(_system((8, 8, 8)))
    assert not may_factor(_system((40, 40, 40)))


@pytest.fixture
def factored(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made: list[object] = []

    class Counted(auto.Factors):
        def __init__(self, *args, **kwargs) -> None:
            made.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(auto, "Factors", Counted)
    return made


def test_low_contrast_is_iterated_high_contrast_is_factored_once(factored: list[object]) -> None:
    scores = torch.randn(2, 1, 48, 48, requires_grad=True)
    for weight, expected in ((10.0, 0), (1e6, 1)):
        factored.clear()
        x = fc.soft_cut(scores, torch.full((2, 2, 48, 48), weight))
        x.square().sum().backward()
        assert len(factored) == expected


def test_a_missed_budget_ends_in_a_factorisation(
    factored: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction can be wrong; the answer is right all the same."""
    monkeypatch.setattr(auto, "predicted_steps", lambda system: 0.0)
    monkeypatch.setattr(auto, "_STEPS_PER_FACTOR", 3)
    monkeypatch.setattr(auto, "_SUPERLU", 1)
    scores = torch.randn(1, 1, 20, 20, dtype=torch.float64)
    edges = torch.full((1, 2, 20, 20), 50.0, dtype=torch.float64)
    x = fc.soft_cut(scores, edges, on_failure="raise")
    assert len(factored) == 1
    torch.testing.assert_close(x, fc.soft_cut(scores, edges, solver=fc.Cholesky()))


def test_a_volume_without_that_way_out_says_so() -> None:
    scores = torch.randn(1, 1, 40, 40, 40)
    edges = torch.full((1, 3, 40, 40, 40), 100.0)
    with pytest.warns(fc.FlowcutWarning, match="max_steps"):
        fc.soft_cut(scores, edges, solver=fc.Auto(max_steps=3))


@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_every_family_is_solved_within_its_bound(name: str) -> None:
    scores, edges = make_family(name, (64, 64), torch.float64)
    truth = fc.solve(fc.GridOperator(edges), scores, fc.Cholesky()).value
    for solver in (fc.Auto(rtol=1e-6), fc.CG(rtol=1e-3), fc.CG(rtol=1e-8)):
        solution = fc.solve(fc.GridOperator(edges), scores, solver)
        error = float((solution.value - truth).abs().max())
        bound = float(solution.error_bound)
        assert solution.success
        assert error <= bound + 1e-13
        assert bound <= 1e3 * error + 1e-9
    single = fc.solve(fc.GridOperator(edges.float()), scores.float(), fc.CG(rtol=1e-6))
    exact = fc.solve(fc.GridOperator(edges.float().double()), scores.float().double(), fc.Cholesky())
    assert (single.value.double() - exact.value).abs().max() <= single.error_bound + exact.error_bound
