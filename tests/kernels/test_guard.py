"""The check that survives compilation."""

from __future__ import annotations

import math

import pytest
import torch

from flowcut.kernels.guard import guard_range, guarded


def test_operation_keeps_the_rules_of_operations() -> None:
    torch.library.opcheck(guard_range, (torch.rand(3, 4), 0.0, 1.0, "x: expected"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.5])
def test_bad_values_are_named_also_in_compiled_programs(bad: float) -> None:
    value = torch.rand(2, 3, 4)
    value[1, 2, 0] = bad

    def call(v: torch.Tensor) -> torch.Tensor:
        return 2 * guarded(v, "v: expected numbers >= 0", low=0)

    for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager"), torch.vmap(call)):
        with pytest.raises(ValueError, match=rf"^v: expected numbers >= 0, got {bad:g} at index \("):
            function(value)
    assert torch.equal(call(value.abs().nan_to_num(1, 1, 1)), 2 * value.abs().nan_to_num(1, 1, 1))


def test_bounds_are_included_and_nothing_is_fine() -> None:
    ends = torch.tensor([[0.0, 1.0]])
    assert torch.equal(guarded(ends, "x", low=0, high=1), ends)
    assert guarded(torch.ones(0, 3), "x", low=2).shape == (0, 3)
    assert guarded(torch.ones(2, 0), "x", low=2).shape == (2, 0)


def test_another_tensor_can_be_looked_at() -> None:
    value = torch.full((1, 4), 0.5)
    with pytest.raises(ValueError, match="sum, got 2 at index"):
        guarded(value, "sum", high=1, of=value.sum(dim=1))


def test_derivatives_pass_through() -> None:
    value = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: guarded(v, "v").square(), value)
    gradient = torch.vmap(torch.func.grad(lambda v: guarded(v, "v").square().sum()))
    torch.testing.assert_close(gradient(value), 2 * value)
