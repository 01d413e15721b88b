"""How a solve reports what became of it."""

from __future__ import annotations

import warnings

import pytest
import torch

from flowcut.core.results import NotConvergedError, Result, Solution, Stats, report_failure
from flowcut.core.warnings import FlowcutWarning

_MIXED = torch.tensor([[0, 2], [0, 1], [1, 0]])
_RESIDUAL = torch.tensor([[0.0, torch.nan], [0.0, 0.25], [0.5, 0.0]], dtype=torch.float64)


def test_codes_and_messages() -> None:
    assert [int(r) for r in Result] == [0, 1, 2]
    assert "max_steps" in Result.NOT_CONVERGED.message
    assert "NaN" in Result.NOT_FINITE.message
    assert all(r.message for r in Result)


def test_a_missed_tolerance_warns_once_with_count_and_place() -> None:
    with pytest.warns(FlowcutWarning) as caught:
        report_failure(_MIXED, _RESIDUAL, "warn")
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith("2 of 6 right-hand sides: the tolerance was not met")
    assert "item 1, channel 1: relative residual 2.5e-01" in text


def test_or_raises() -> None:
    with pytest.raises(NotConvergedError, match="2 of 6"):
        report_failure(_MIXED, _RESIDUAL, "raise")


@pytest.mark.parametrize("on_failure", ["warn", "raise", "ignore"])
def test_success_and_passed_through_nan_are_no_failures(on_failure: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_failure(torch.tensor([[0, 2]]), torch.zeros(1, 2), on_failure)
        report_failure(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3), on_failure)
        if on_failure == "ignore":
            report_failure(_MIXED, _RESIDUAL, on_failure)


@pytest.mark.parametrize(("result", "success"), [([[0, 0]], True), ([[0, 1]], False), ([[2, 0]], False)])
def test_success_means_all(result: list[list[int]], success: bool) -> None:
    code = torch.tensor(result)
    stats = Stats(torch.zeros_like(code), torch.zeros(1, 2))
    assert Solution(torch.zeros(1, 2, 3), code, stats, torch.zeros(1, 2)).success is success
