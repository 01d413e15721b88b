"""The paper's cropped arrays and the edge tensor."""

from __future__ import annotations

import pytest
import torch

from flowcut.core.edges import axes_from_edges, edges_from_axes
from flowcut.core.neighborhood import Neighborhood

_SPATIAL = [(5,), (1,), (3, 4), (1, 1), (1, 7), (2, 3, 4), (3, 2, 5), (2, 2, 2, 3)]


def _arrays(spatial: tuple[int, ...], lead: tuple[int, ...]) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    sizes = [tuple(n - (a == m) for a, n in enumerate(spatial)) for m in range(len(spatial))]
    return [torch.rand(*lead, *size, generator=g) + 1 for size in sizes]


@pytest.mark.parametrize("lead", [(), (2,), (3, 1)])
@pytest.mark.parametrize("spatial", _SPATIAL)
def test_round_trip(spatial: tuple[int, ...], lead: tuple[int, ...]) -> None:
    arrays = _arrays(spatial, lead)
    edges = edges_from_axes(arrays)
    assert edges.shape == (*lead, len(spatial), *spatial)
    inside = Neighborhood.edges(len(spatial)).inside(spatial)
    assert torch.equal(edges > 0, inside.expand(edges.shape))
    for array, back in zip(arrays, axes_from_edges(edges, len(spatial)), strict=True):
        assert torch.equal(array, back)


def test_each_array_ties_to_the_successor_on_its_axis() -> None:
    columns, rows = torch.arange(8.0).reshape(2, 4), torch.arange(9.0).reshape(3, 3) + 10
    edges = edges_from_axes([columns, rows])
    assert torch.equal(edges[0, :2], columns)
    assert torch.equal(edges[1, :, :3], rows)


def test_gradients_reach_the_arrays() -> None:
    arrays = [a.requires_grad_() for a in _arrays((3, 4), (2,))]
    (2 * edges_from_axes(arrays)).sum().backward()
    assert all(torch.equal(a.grad, torch.full_like(a, 2)) for a in arrays)


def test_axes_are_inferred_where_one_count_fits() -> None:
    edges = torch.rand(4, 2, 5, 6)
    assert [tuple(a.shape) for a in axes_from_edges(edges)] == [(4, 4, 6), (4, 5, 5)]


@pytest.mark.parametrize("shape", [(4, 2, 1, 7), (4, 3, 2, 5, 5)])
def test_a_shape_that_fits_twice_is_refused_not_guessed(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"edges: shape .* fits .* axes; pass ndim="):
        axes_from_edges(torch.rand(shape))


@pytest.mark.parametrize(("arrays", "message"), [
    ([], "arrays: expected one array per axis, each with all axes, got shapes none"),
    ([torch.ones(3), torch.ones(3)], "arrays: expected one array per axis"),
    ([torch.ones(2, 3), torch.ones(2, 3)], "arrays: expected the m-th shorter by one along axis m"),
    ([torch.ones(3, 3), torch.ones(3, 3)], "arrays: expected the m-th shorter by one along axis m"),
    ([torch.ones(1, 2, 3), torch.ones(2, 3, 2)], "arrays: expected the m-th shorter by one along axis m"),
])  # fmt: skip
def test_arrays_of_different_pictures_are_refused(arrays: list[torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        edges_from_axes(arrays)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("shape", "ndim"), [((4, 5), None), ((2, 4, 5), 3), ((2, 4, 5), 1), ((3,), None)])
def test_other_shapes_are_refused(shape: tuple[int, ...], ndim: int | None) -> None:
    with pytest.raises(ValueError, match="edges: expected shape"):
        axes_from_edges(torch.ones(shape), ndim)
