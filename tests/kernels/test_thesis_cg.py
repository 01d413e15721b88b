"""Algorithm 2 of the SoftCut thesis, against the same lines in NumPy on the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.core.results import NotConvergedError, Result
from flowcut.kernels.thesis_cg import thesis_cg
from tests.kernels.dense import Case, laplacians, positive, random, scrambled

_CASE = Case((6, 5), Neighborhood.edges(2))


def _as_printed(a: np.ndarray, b: np.ndarray, atol: float, max_steps: int) -> tuple[np.ndarray, int]:
    """All items (N, C, n) at once, from x0 = b, until sum |r| < atol * number of pixels in the batch."""
    x = b.copy()
    r = b - np.einsum("ncij,ncj->nci", a, x)
    p, steps = r.copy(), 0
    while np.abs(r).sum() >= atol * b.shape[0] * b.shape[2] and steps < max_steps:
        q = np.einsum("ncij,ncj->nci", a, p)
        alpha = (r * r).sum(-1, keepdims=True) / (p * q).sum(-1, keepdims=True)
        x, before = x + alpha * p, (r * r).sum(-1, keepdims=True)
        r = r - alpha * q
        p = r + (r * r).sum(-1, keepdims=True) / before * p
        steps += 1
    return x, steps


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-9])
@pytest.mark.parametrize("groups", [1, 2])
def test_same_steps_and_iterates_as_printed(scale: float, groups: int) -> None:
    edges, leak = positive(3, groups, 2, *_CASE.spatial), torch.ones(1, 1, *_CASE.spatial).double()
    rhs = scale * random(3, 2, *_CASE.spatial)
    x, bound, residual, steps, result = thesis_cg(edges, leak, rhs, _CASE.flat, 1e-6, 500, "scores", "raise")
    a = laplacians(edges, leak, _CASE, 2)
    # Both lose orthogonality in their own way: what they agree to is the rule's own accuracy.
    expected, count = _as_printed(a.numpy(), rhs.flatten(2).numpy(), 1e-6, 500)
    assert bool((steps == count).all())
    torch.testing.assert_close(x.flatten(2), torch.from_numpy(expected), rtol=0, atol=1e-6 * scale)
    truth = torch.linalg.solve(a, rhs.flatten(2)[..., None])[..., 0]
    assert bool(((x.flatten(2) - truth).abs().amax(dim=2) <= bound).all())
    # Its own verdict is about its own rule; the residual is the truth.
    assert not result.any()
    relative = torch.einsum("ncij,ncj->nci", a, x.flatten(2)) - rhs.flatten(2)
    torch.testing.assert_close(
        residual, relative.norm(dim=2) / rhs.flatten(2).norm(dim=2), rtol=1e-5, atol=1e-15
    )
    assert (count == 0) == (scale == 1e-9)


def test_it_gives_up_and_says_so() -> None:
    edges, leak = 100 * positive(1, 1, 2, *_CASE.spatial), torch.ones(1, 1, *_CASE.spatial).double()
    rhs = random(1, 1, *_CASE.spatial)
    *_, steps, result = thesis_cg(edges, leak, rhs, _CASE.flat, 1e-6, 2, "scores", "ignore")
    assert int(steps) == 2
    assert int(result) == Result.NOT_CONVERGED
    with pytest.raises(NotConvergedError):
        thesis_cg(edges, leak, rhs, _CASE.flat, 1e-6, 2, "scores", "raise")


def test_empty_zero_nan_and_scattered_input() -> None:
    ones = torch.ones(1, 1, *_CASE.spatial)
    edges = torch.ones(1, 1, 2, *_CASE.spatial)
    x = thesis_cg(edges[:0], ones, ones[:0], _CASE.flat, 1e-6, 50, "scores", "raise")[0]
    assert x.shape == (0, 1, *_CASE.spatial)
    x, *_, result = thesis_cg(edges, ones, 0 * ones, _CASE.flat, 1e-6, 50, "scores", "raise")
    assert not x.any()
    assert not result.any()
    *_, result = thesis_cg(edges, ones, torch.nan * ones, _CASE.flat, 1e-6, 50, "", "raise")
    assert int(result) == Result.NOT_FINITE
    rhs = random(1, 3, *_CASE.spatial, dtype=torch.float32)
    x = thesis_cg(scrambled(edges), scrambled(ones), scrambled(rhs), _CASE.flat, 1e-6, 50, "scores", "raise")[
        0
    ]
    assert x.is_contiguous()
    torch.testing.assert_close(x, thesis_cg(edges, ones, rhs, _CASE.flat, 1e-6, 50, "scores", "raise")[0])
