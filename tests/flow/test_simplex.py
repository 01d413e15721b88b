"""Simplex geometry against its defining identities, and at the boundary in single precision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from flowcut.flow.simplex import (
    barycenter,
    barycenter_like,
    entropy,
    exp_map,
    fisher_rao_distance,
    fisher_rao_metric,
    inverse_exp,
    lifting_map,
    project_tangent,
    replicator,
)


def _points(seed: int = 0, count: int = 1, dtype: torch.dtype = torch.float64, j: int = 4) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, j, 3, 2, generator=g, dtype=torch.float64).softmax(dim=1).to(dtype)
        for _ in range(count)
    ]


def _vector(seed: int = 7, j: int = 4) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, j, 3, 2, generator=g, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), j=st.integers(1, 6))
def test_exp_and_its_inverse_undo_each_other(seed: int, j: int) -> None:
    p, q = _points(seed, 2, j=j)
    torch.testing.assert_close(exp_map(p, inverse_exp(p, q)), q)
    v = 0.1 * project_tangent(_vector(seed, j)) * p.amin()
    v = project_tangent(v)
    torch.testing.assert_close(inverse_exp(p, exp_map(p, v)), v)


def test_lifting_is_exp_after_the_replicator() -> None:
    p, z = _points()[0], _vector()
    torch.testing.assert_close(lifting_map(p, z), exp_map(p, replicator(p, z)))
    torch.testing.assert_close(lifting_map(p, z), (p.log() + z).softmax(dim=1))
    torch.testing.assert_close(lifting_map(lifting_map(p, z), z), lifting_map(p, 2 * z))


def test_tangent_vectors_sum_to_zero_and_points_to_one() -> None:
    (p, q), z = _points(count=2), _vector()
    for tangent in (replicator(p, z), inverse_exp(p, q), project_tangent(z)):
        torch.testing.assert_close(tangent.sum(dim=1), torch.zeros(2, 3, 2, dtype=torch.float64))
    for point in (lifting_map(p, z), exp_map(p, project_tangent(z)), barycenter_like(p)):
        torch.testing.assert_close(point.sum(dim=1), torch.ones(2, 3, 2, dtype=torch.float64))


def test_replicator_is_the_matrix_of_the_paper_and_the_differential_of_softmax() -> None:
    p, z = _points()[0], _vector()
    for n, y, x in ((0, 0, 0), (1, 2, 1)):
        row = p[n, :, y, x]
        matrix = torch.diag(row) - torch.outer(row, row)
        torch.testing.assert_close(replicator(p, z)[n, :, y, x], matrix @ z[n, :, y, x])
    softmax = torch.autograd.functional.jacobian(lambda v: v.softmax(dim=0), p[0, :, 0, 0].log())
    torch.testing.assert_close(replicator(p, z)[0, :, 0, 0], softmax @ z[0, :, 0, 0])


def test_replicator_is_the_gradient_in_the_metric() -> None:
    """<R_p df, u>_p = <df, u> for every tangent vector u."""
    p, z, u = _points()[0], _vector(1), project_tangent(_vector(2))
    torch.testing.assert_close(fisher_rao_metric(p, replicator(p, z), u), (z * u).sum(dim=1))


def test_metric_is_the_square_of_small_distances() -> None:
    p, u = _points()[0], project_tangent(_vector())
    for h in (1e-4, 1e-6):
        square = fisher_rao_distance(p, p + h * u).square() / h**2
        torch.testing.assert_close(square, fisher_rao_metric(p, u, u), rtol=30 * h, atol=0)


def test_distance_is_the_arc_of_the_paper_and_the_corners_are_pi_apart() -> None:
    p, q = _points(count=2)
    arc = 2 * torch.arccos((p * q).sqrt().sum(dim=1))
    torch.testing.assert_close(fisher_rao_distance(p, q), arc)
    corners = torch.eye(3)[:, :, None]
    far = fisher_rao_distance(corners, corners.roll(1, dims=0))
    torch.testing.assert_close(far, torch.full((3, 1), math.pi))


def test_distance_of_close_points_in_single_precision() -> None:
    """2 arccos of a sum near one has no digits left there."""
    p = torch.tensor([[0.3], [0.7]]).T
    q = p + torch.tensor([[1e-6, -1e-6]])
    truth = fisher_rao_distance(p.double(), q.double()).item()
    assert fisher_rao_distance(p, q).item() == pytest.approx(truth, rel=1e-5)
    assert fisher_rao_distance(p, p).item() == 0


def test_barycenter_has_the_largest_entropy() -> None:
    center = barycenter((2, 5, 3), dtype=torch.float64)
    torch.testing.assert_close(entropy(center), torch.full((2, 3), math.log(5), dtype=torch.float64))
    assert (entropy(_points()[0]) < math.log(4)).all()


_BOUNDARY = torch.tensor([[1.0, 0.0, 0.0], [1 - 1e-7, 1e-38, 1e-7], [0.5, 0.5, 0.0], [1e-37, 1e-37, 1.0]])


def _calls() -> dict[str, object]:
    q = torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.3, 0.5], [1e-38, 1.0, 0.0], [0.5, 0.5, 0.0]])
    z = torch.tensor([[0.0, 90.0, -90.0], [1e4, 0.0, -1e4], [3.0, -2.0, 1e30], [-1e30, 50.0, 1.0]])
    v = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.1, -0.2], [0.4, -0.4, 0.0], [-2.0, 1.0, 1.0]])
    return {
        "replicator": lambda p: replicator(p, z.clamp(-1e4, 1e4)),
        "lifting": lambda p: lifting_map(p, z),
        "exp": lambda p: exp_map(p, v),
        "inverse": lambda p: inverse_exp(p, q),
        "distance": lambda p: fisher_rao_distance(p, q),
        "distance to itself": lambda p: fisher_rao_distance(p, p.detach()),
        "entropy": entropy,
    }


@pytest.mark.parametrize("name", _calls())
def test_boundary_in_single_precision(name: str) -> None:
    """Values are those of double precision; derivatives are numbers."""
    p = _BOUNDARY.clone().requires_grad_()
    out = _calls()[name](p)
    assert torch.isfinite(out).all()
    if name != "inverse":  # where log 0 is read as the log of the smallest number of the type
        flushed = torch.where(torch.finfo(torch.float32).tiny > _BOUNDARY, 0, _BOUNDARY)
        truth = _calls()[name](flushed.double())
        # The replicator subtracts numbers as large as z, which is 1e4 here.
        atol = 1e-2 if name == "replicator" else 1e-6
        torch.testing.assert_close(out.double(), truth, rtol=1e-4, atol=atol)
    (slope,) = torch.autograd.grad(out.square().sum(), p)
    assert torch.isfinite(slope).all()


def test_lifting_on_a_face_stays_there_and_has_the_right_slope() -> None:
    p, z = torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64), _vector()[:1, :3, 0, 0]
    q = lifting_map(p, z)
    assert q[0, 2] == 0
    torch.testing.assert_close(q[:, :2], lifting_map(p[:, :2], z[:, :2]))
    # By hand: d q_0 / d p_2 = -q_0 e^{z_2} / <p, e^z>, not zero although p_2 is.
    slope = torch.autograd.functional.jacobian(lambda p: lifting_map(p, z)[0, 0], p)[0, 2]
    torch.testing.assert_close(slope, -q[0, 0] * z[0, 2].exp() / (p * z.exp()).sum())


def test_lifting_finds_a_label_of_no_weight_again() -> None:
    """p e^z with p = 1e-38 and e^z = 1e43 in single precision, where e^z overflows."""
    p, z = torch.tensor([[1.0, 1e-37]]), torch.tensor([[0.0, 100.0]])
    truth = lifting_map(p.double(), z.double())
    torch.testing.assert_close(lifting_map(p, z).double(), truth, rtol=1e-5, atol=0)
    assert truth[0, 1] > 0.99


def test_metric_at_a_corner() -> None:
    p, u = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.1, -0.1]])
    assert fisher_rao_metric(p, u, u).item() == math.inf
    assert fisher_rao_metric(p, u, 0 * u).item() == 0


def test_first_and_second_derivatives() -> None:
    p, q = (x[:1, :3, :1, 0].clone().requires_grad_() for x in _points(count=2))
    z = _vector()[:1, :3, :1, 0].clone().requires_grad_()
    for call in (replicator, lifting_map, inverse_exp, fisher_rao_distance, exp_map):
        inputs = (p, q if call in (inverse_exp, fisher_rao_distance) else z)
        assert gradcheck(call, inputs)
        assert gradgradcheck(call, inputs)
    assert gradcheck(lambda p, z: fisher_rao_metric(p, z, z), (p, z))
    assert gradcheck(entropy, p)
    assert gradgradcheck(entropy, p)
