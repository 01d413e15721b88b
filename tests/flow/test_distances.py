"""Distances against SciPy's, and prototypes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from flowcut.flow.distances import kmeans, label_distances

_SCIPY = {"squared-euclidean": "sqeuclidean", "euclidean": "euclidean", "manhattan": "cityblock"}


def _data(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    data = torch.rand(2, 3, 4, 5, generator=g, dtype=torch.float64)
    return data, torch.rand(6, 3, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("metric", _SCIPY)
def test_distances_are_scipy_s(metric: str) -> None:
    data, labels = _data()
    ours = label_distances(data, labels, metric)
    flat = data.movedim(1, -1).reshape(-1, 3).numpy()
    truth = torch.from_numpy(cdist(flat, labels.numpy(), _SCIPY[metric])).reshape(2, 4, 5, 6).movedim(-1, 1)
    torch.testing.assert_close(ours, truth)


def test_any_metric() -> None:
    data, labels = _data()
    angle = lambda a, b: 1 - torch.cosine_similarity(a, b, dim=1)  # noqa: E731
    ours = label_distances(data, labels, angle)
    flat = data.movedim(1, -1).reshape(-1, 3).numpy()
    truth = torch.from_numpy(cdist(flat, labels.numpy(), "cosine")).reshape(2, 4, 5, 6).movedim(-1, 1)
    torch.testing.assert_close(ours, truth)


@pytest.mark.parametrize("metric", _SCIPY)
def test_gradients(metric: str) -> None:
    data, labels = (t.requires_grad_() for t in _data())
    assert torch.autograd.gradcheck(lambda d, l: label_distances(d[:1, :, :2, :2], l, metric), (data, labels))
    on_a_label = labels.detach()[0].reshape(1, 3, 1).requires_grad_()
    label_distances(on_a_label, labels.detach(), metric).sum().backward()
    assert torch.isfinite(on_a_label.grad).all()


def test_no_digits_are_lost_far_from_the_origin() -> None:
    """|f|^2 - 2 <f, l> + |l|^2 in single precision would give garbage here."""
    data, labels = torch.full((1, 3, 1), 1e4), torch.full((1, 3), 1e4 + 0.0625)
    assert label_distances(data, labels).item() == 3 * 0.0625**2


def test_kmeans_finds_separated_colours_and_orders_them() -> None:
    g = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.9, 0.9, 0.8], [0.1, 0.0, 0.1], [0.5, 0.1, 0.2]])
    kinds = torch.randint(3, (1, 16, 16), generator=g)
    data = centers[kinds].movedim(-1, 1) + 0.01 * torch.randn(1, 3, 16, 16, generator=g)
    found = kmeans(data, 3)
    torch.testing.assert_close(found, centers[[1, 2, 0]], rtol=0, atol=0.01)
    for row, kind in zip(found, (1, 2, 0), strict=True):
        torch.testing.assert_close(row, data.movedim(1, -1)[kinds == kind].mean(dim=0), rtol=0, atol=1e-5)
    assert torch.equal(found, kmeans(data, 3))


def test_kmeans_takes_every_colour_there_is() -> None:
    data = torch.tensor([0.0, 1.0, 1.0, 5.0, 0.0, 5.0]).reshape(1, 1, 6).repeat(3, 1, 1)
    assert kmeans(data, 3, seed=4).flatten().tolist() == [0, 1, 5]
    with pytest.raises(
        ValueError, match="k: expected at most 3, the number of distinct values in data, got 4"
    ):
        kmeans(data, 4)
    assert kmeans(torch.full((1, 2, 4), 7.0), 1).tolist() == [[7, 7]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kmeans(torch.full((1, 1, 3), math.nan), 1), ValueError, "data: .*nan"),
        (lambda: kmeans(torch.rand(1, 1, 3), 0), ValueError, "k: expected at least 1, got 0"),
        (lambda: kmeans(torch.rand(1, 1, 3), 1, steps=0), ValueError, "steps: expected at least 1, got 0"),
        (lambda: kmeans(torch.rand(3, 3), 1), ValueError, r"data: expected shape \(N, C, \*spatial\)"),
        (lambda: kmeans(torch.ones(1, 1, 3).int(), 1), TypeError, "data: .*int32"),
        (lambda: kmeans(torch.rand(0, 1, 3), 1), ValueError, "k: expected at most 0"),
        (lambda: label_distances(torch.rand(1, 3, 4), torch.rand(2, 2)), ValueError, r"labels: .*\(J, 3\)"),
        (lambda: label_distances(torch.rand(1, 3, 4), torch.rand(0, 3)), ValueError, r"labels: .*\(0, 3\)"),
        (lambda: label_distances(torch.rand(3, 4), torch.rand(2, 3)), ValueError, "data: expected shape"),
        (
            lambda: label_distances(torch.rand(1, 3, 4), torch.rand(2, 3), "cosine"),
            ValueError,
            "metric: .*squared-euclidean.*'cosine'",
        ),
        (lambda: label_distances(torch.ones(1, 3, 4).byte(), torch.rand(2, 3)), TypeError, "data: .*uint8"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_kmeans_of_a_picture_is_a_fixed_point() -> None:
    """Every prototype is the mean of the pixels that are nearest to it."""
    g = torch.Generator().manual_seed(3)
    data = torch.rand(1, 3, 24, 24, generator=g, dtype=torch.float64)
    found = kmeans(data, 5, seed=1, steps=500)
    nearest = label_distances(data, found).argmin(dim=1)[0]
    means = torch.stack([data[0][:, nearest == j].mean(dim=1) for j in range(5)])
    torch.testing.assert_close(found, means)
    assert np.isfinite(found.numpy()).all()
