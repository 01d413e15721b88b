"""Every refusal is one line that names the argument and what it got."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.checks import check_edge_values, check_finite, check_floating, check_leak_values
from flowcut.core.neighborhood import Neighborhood

_TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
_BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("dtype", _TYPES)
def test_floating_types_pass(dtype: torch.dtype) -> None:
    check_floating("scores", torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize(("value", "got"), [
    (torch.zeros(2, dtype=torch.int64), "torch.int64"),
    (torch.zeros(2, dtype=torch.bool), "torch.bool"),
    (torch.zeros(2, dtype=torch.complex64), "torch.complex64"),
    ([1.0], "list"),
    (None, "NoneType"),
])  # fmt: skip
def test_other_types_do_not(value: object, got: str) -> None:
    with pytest.raises(TypeError, match=rf"^scores: expected a .*, got {got}$"):
        check_floating("scores", value)


@pytest.mark.parametrize("dtype", _TYPES)
@pytest.mark.parametrize("bad", _BAD)
def test_values_that_are_not_finite_are_found(dtype: torch.dtype, bad: float) -> None:
    value = torch.zeros(2, 3, 4, dtype=dtype)
    check_finite("scores", value)
    value[1, 0, 2] = bad
    with pytest.raises(
        ValueError, match=rf"^scores: expected finite values, got {bad} at index \(1, 0, 2\)$"
    ):
        check_finite("scores", value)


def test_nothing_is_finite() -> None:
    check_finite("scores", torch.zeros(0, 3))
    assert check_leak_values("confidence", torch.zeros(0)) is False


@pytest.mark.parametrize("dtype", _TYPES)
@pytest.mark.parametrize("bad", [*_BAD, -0.5])
def test_edges_are_checked_inside_the_picture_only(dtype: torch.dtype, bad: float) -> None:
    inside = Neighborhood.edges(2).inside((3, 4))
    edges = torch.ones(2, 1, 2, 3, 4, dtype=dtype)
    edges[..., ~inside] = bad
    check_edge_values(edges, inside)
    edges[1, 0, 1, 2, 1] = bad
    message = (
        rf"^edges: expected finite values >= 0 inside the picture, got {bad} at index \(1, 0, 1, 2, 1\)$"
    )
    with pytest.raises(ValueError, match=message):
        check_edge_values(edges, inside)


@pytest.mark.parametrize("dtype", _TYPES)
def test_confidence(dtype: torch.dtype) -> None:
    leak = torch.ones(1, 1, 5, dtype=dtype)
    assert check_leak_values("confidence", leak) is False
    leak[0, 0, 3] = 0
    assert check_leak_values("confidence", leak) is True
    for bad in (-1.0, float("nan"), -float("inf")):
        leak[0, 0, 2] = bad
        with pytest.raises(ValueError, match=rf"^confidence: .*got {bad} at index \(0, 0, 2\)$"):
            check_leak_values("confidence", leak)
