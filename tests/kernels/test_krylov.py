"""Krylov operations: Numba = reference = dense algebra, on every layout, by any number of threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import crew, krylov_cpu
from flowcut.kernels.flat import pack_reference, unpack_reference
from flowcut.kernels.krylov import (
    _arnoldi_reference,
    _combine_reference,
    _contract_reference,
    flow_arnoldi,
    flow_combine,
    flow_contract,
)
from flowcut.kernels.krylov_reference import Krylov
from tests.kernels.dense import (
    WINDOW_CASES,
    Case,
    close,
    positive,
    random,
    scrambled,
    window_matrix,
    with_junk,
)
from tests.kernels.workers import loader
from tests.truths.flows import dense_omega

_PATIENCE = 60.0
_CASES = pytest.mark.parametrize("case", WINDOW_CASES, ids=str)
_ARNOLDI = pytest.mark.parametrize("arnoldi", [flow_arnoldi, _arnoldi_reference], ids=["numba", "reference"])
_FLAT = Neighborhood.window(2, 3).flat
_LARGE = (131, 129)


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(crew, "_no_crew_until", 0.0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _inputs(case: Case, labels: int = 3, items: int = 2, dtype: torch.dtype = torch.float64):
    weights = positive(items, len(case.neighborhood), *case.spatial)
    weights = weights / torch.where(case.neighborhood.inside(case.spatial), weights, 0).sum(1, keepdim=True)
    similarity = random(items, labels, *case.spatial, seed=1).softmax(dim=1)
    start = random(items, labels, *case.spatial, seed=2)
    # Where a pixel of a window without centre has no neighbour at all, it averages nothing.
    weights = torch.where(torch.isfinite(weights), weights, 0)
    return with_junk(weights, case).to(dtype), similarity.to(dtype), start.to(dtype)


def _dense(weights: Tensor, similarity: Tensor, case: Case) -> Tensor:
    """A = R_S Omega of one item, (J n, J n) label by label."""
    omega, s = window_matrix(weights, case), similarity.double().flatten(1)
    r = torch.diag_embed(s.T) - s.T[:, :, None] * s.T[:, None, :]
    return torch.einsum("ik,ijl->jilk", omega, r).reshape(s.numel(), s.numel())


def _vectors(found: Krylov, case: Case) -> Tensor:
    """(N, m + 1, J n): the vectors of length one; zeros where the space was exhausted."""
    images = unpack_reference(found.basis, case.spatial, case.neighborhood.offsets).double().flatten(2)
    return images / torch.where(found.norms > 0, found.norms, 1)[:, :, None]


@_ARNOLDI
@_CASES
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_relation_of_arnoldi(arnoldi, case: Case, transpose: bool, dtype: torch.dtype) -> None:
    weights, similarity, start = _inputs(case, dtype=dtype)
    found = Krylov(*arnoldi(weights, similarity, start, case.flat, 4, transpose, 1.0, 0.0))
    assert found.basis.dtype == dtype
    q = _vectors(found, case)
    small = 1e-12 if dtype == torch.float64 else 2e-5
    for n in range(2):
        a = _dense(weights[n], similarity[n], case)
        a = a.T if transpose else a
        relation = a @ q[n, :4].T - q[n].T @ found.hessenberg[n]
        steps = int(found.steps[n])
        assert relation[:, :steps].abs().max() < small
        gram = q[n] @ q[n].T
        assert (gram - torch.diag((found.norms[n] > 0).double())).abs().max() < 50 * small
        close(found.start[n] * q[n, 0], start[n].flatten(), dtype)
        assert not found.hessenberg[n, :, steps:].any()
        assert not found.hessenberg[n].tril(-2).any()


@_CASES
@pytest.mark.parametrize("transpose", [False, True])
def test_numba_builds_the_space_of_the_reference(case: Case, transpose: bool) -> None:
    args = (*_inputs(case), case.flat, 3, transpose, 2.0, 0.0)
    ours, reference = Krylov(*flow_arnoldi(*args)), Krylov(*_arnoldi_reference(*args))
    for a, b in zip(ours[2:], reference[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(_vectors(ours, case), _vectors(reference, case), rtol=0, atol=1e-10)


@_ARNOLDI
@pytest.mark.parametrize("transpose", [False, True])
def test_an_exhausted_space_ends_the_process(arnoldi, transpose: bool) -> None:
    case = Case((2, 2), Neighborhood.window(2, 3))
    found = Krylov(*arnoldi(*_inputs(case), case.flat, 40, transpose, 1.0, 0.0))
    # The whole space has 12 dimensions; R_S maps constants of a pixel to nothing, so A maps into 8.
    assert (found.steps <= 12).all()
    assert (found.steps >= 8).all()
    for n, steps in enumerate(found.steps.tolist()):
        assert not found.basis[n, steps:].any()
        assert not found.norms[n, steps:].any()
        assert not found.hessenberg[n, steps:].any()
    assert (found.error < 1e-10).all()


@_ARNOLDI
def test_one_label_and_a_zero_start_have_nowhere_to_go(arnoldi) -> None:
    case = Case((3, 4), Neighborhood.window(2, 3))
    one = Krylov(*arnoldi(*_inputs(case, labels=1), case.flat, 3, False, 1.0, 0.0))
    assert one.steps.tolist() == [1, 1]
    assert not one.hessenberg.any()
    weights, similarity, start = _inputs(case)
    start[0] = 0
    found = Krylov(*arnoldi(weights, similarity, start, case.flat, 3, False, 1.0, 0.0))
    assert found.steps.tolist() == [0, 3]
    for value in found:
        assert not value[0].any()
    alone = arnoldi(weights[1:], similarity[1:], start[1:], case.flat, 3, False, 1.0, 0.0)
    for a, b in zip(found, alone, strict=True):
        torch.testing.assert_close(a[1:], b)


def _true_solution(a: Tensor, b: Tensor, time: float) -> Tensor:
    """time phi(time A) b as the last column of an exponential."""
    whole = torch.nn.functional.pad(torch.cat([a, b[:, None]], dim=1), (0, 0, 0, 1))
    return torch.linalg.matrix_exp(time * whole)[:-1, -1]


@_ARNOLDI
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_a_tolerance_stops_in_time_and_the_estimate_is_the_error(arnoldi, transpose, tolerance) -> None:
    case, time = Case((4, 5), Neighborhood.window(2, 3)), 4.0
    weights, similarity, start = _inputs(case)
    found = Krylov(*arnoldi(weights, similarity, start, case.flat, 30, transpose, time, tolerance))
    q = _vectors(found, case)
    for n in range(2):
        a = _dense(weights[n], similarity[n], case)
        truth = _true_solution(a.T if transpose else a, start[n].flatten(), time)
        m = int(found.steps[n])
        unit = torch.eye(m, dtype=torch.float64)[0]
        h = found.hessenberg[n, :m, :m]
        value = found.start[n] * (_true_solution(h, unit, time) @ q[n, :m])
        error = float((value - truth).norm())
        assert 1 < m < 30
        assert error < 2 * tolerance * float(truth.norm())
        assert error / 10 < float(found.error[n]) < 10 * error
        assert not found.hessenberg[n, :, m:].any()


@_CASES
@pytest.mark.parametrize("transpose", [False, True])
def test_memory_that_nobody_wrote_is_not_read(case: Case, transpose: bool, monkeypatch) -> None:
    """Every new array is full of NaN."""
    empty = np.empty

    def poisoned(shape: Any, dtype: Any = float, **rest: Any) -> Any:
        array = empty(shape, dtype, **rest)
        # Bytes too: 255 in every byte of a floating-point number is NaN.
        if array.dtype.kind == "f":
            array[...] = np.nan
        elif array.dtype == np.uint8:
            array[...] = 255
        return array

    weights, similarity, start = _inputs(case)
    monkeypatch.setattr(np, "empty", poisoned)
    found = Krylov(*flow_arnoldi(weights, similarity, start, case.flat, 4, transpose, 1.0, 0.0))
    coefficients = random(2, 5, 2)
    gradient = flow_contract(
        similarity, start, found.basis, random(2, 5, 3), found.basis, coefficients, coefficients, case.flat
    )
    combined = flow_combine(found.basis, coefficients, list(case.spatial), case.flat)
    for value in (*found, combined, *gradient):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (3, 2, 4), _LARGE], ids=str)
def test_many_columns_are_made_in_several_calls(spatial: tuple[int, ...], monkeypatch) -> None:
    """A crew has phases for so many passes."""
    assert 2 + 3 * krylov_cpu._COLUMNS <= crew.MAX_PHASES
    torch.set_num_threads(2)
    case = Case(spatial, Neighborhood.window(len(spatial), 3))
    args = (*_inputs(case, items=1), case.flat, 7, True, 1.0, 0.0)
    at_once = flow_arnoldi(*args)
    monkeypatch.setattr(krylov_cpu, "_COLUMNS", 3)
    for a, b in zip(at_once, flow_arnoldi(*args), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("combine", [flow_combine, _combine_reference], ids=["numba", "reference"])
@_CASES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_combinations(combine, case: Case, dtype: torch.dtype) -> None:
    images, coefficients = random(2, 4, 3, *case.spatial, dtype=dtype), random(2, 4, 5)
    coefficients[0, 1] = 0
    basis = pack_reference(images, case.neighborhood.offsets)
    out = combine(basis, coefficients, list(case.spatial), case.flat)
    expected = sum(
        coefficients[:, j].reshape(2, 5, *(1,) * (images.ndim - 2)) * images[:, j : j + 1].double()
        for j in range(4)
    )
    assert out.dtype == dtype
    close(out, expected, dtype)


def _contract_inputs(case: Case, factors: int = 2, labels: int = 3):
    """Left vectors (alpha and m), right vectors (beta and A beta), and the coefficients that pick them."""
    weights, _, evidence = _inputs(case, labels)
    omega = torch.stack([window_matrix(w, case) for w in weights])
    s = (evidence.flatten(2) @ omega.mT).softmax(dim=1).reshape(evidence.shape)
    left = random(2, factors + 1, labels, *case.spatial, seed=5)
    beta = random(2, factors, labels, *case.spatial, seed=6)
    moved = torch.stack([
        (_dense(weights[n], s[n], case) @ beta[n].flatten(1).T).T.reshape(beta.shape[1:]) for n in range(2)
    ])  # fmt: skip
    right = torch.cat([beta, moved], dim=1)
    bases = [pack_reference(x, case.neighborhood.offsets) for x in (left, right)]
    eye, pick = torch.eye(factors + 1, dtype=torch.float64), torch.eye(2 * factors, dtype=torch.float64)
    columns = eye, pick[:, :factors], pick[:, factors:]
    a, b, u = (c.expand(2, -1, -1).contiguous() for c in columns)
    return weights, left, beta, (s, evidence, bases[0], a, bases[1], b, u, case.flat)


def _contract_truth(weights: Tensor, evidence: Tensor, left: Tensor, beta: Tensor, case: Case):
    """Autograd through sum_g <alpha_g, R_S Omega beta_g> + <m, S>, S = softmax(Omega evidence)."""
    weights = torch.where(case.neighborhood.inside(case.spatial), weights, 0).requires_grad_()
    total, logits = torch.zeros((), dtype=torch.float64), []
    for n in range(2):
        omega = dense_omega(weights[n], case.neighborhood.offsets)
        logits.append(omega @ evidence[n].flatten(1).T)  # (n, J)
        s = logits[-1].softmax(dim=1)
        for alpha, b in zip(left[n, :-1].flatten(2), beta[n].flatten(2), strict=True):
            u = omega @ b.T
            total = total + (alpha.T * s * (u - (s * u).sum(dim=1, keepdim=True))).sum()
        total = total + (left[n, -1].flatten(1).T * s).sum()
    to_weights, *gamma = torch.autograd.grad(total, (weights, *logits), materialize_grads=True)
    return to_weights, torch.stack([g.T for g in gamma]).reshape(evidence.shape)


@pytest.mark.parametrize("contract", [flow_contract, _contract_reference], ids=["numba", "reference"])
@_CASES
@pytest.mark.parametrize("labels", [1, 3])
def test_contractions_are_autograd_through_the_dense_operator(contract, case: Case, labels: int) -> None:
    weights, left, beta, args = _contract_inputs(case, labels=labels)
    truth = _contract_truth(weights, args[1], left, beta, case)
    for ours, expected in zip(contract(*args), truth, strict=True):
        close(ours, expected, torch.float64)
    singles = (t if n in (3, 5, 6) else t.float() for n, t in enumerate(args[:-1]))
    for ours, expected in zip(contract(*singles, case.flat), truth, strict=True):
        assert ours.dtype == torch.float32
        close(ours, expected, torch.float32)


def test_half_types_are_worked_on_in_single_precision() -> None:
    case = WINDOW_CASES[3]
    halves = tuple(t.bfloat16() for t in _inputs(case))
    found = flow_arnoldi(*halves, case.flat, 3, False, 1.0, 0.0)
    singles = flow_arnoldi(*(t.float() for t in halves), case.flat, 3, False, 1.0, 0.0)
    for a, b in zip(found, singles, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def _calls(items: int = 2) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]]:
    """Operation, arguments, and how many of them are tensors."""
    case = Case((4, 5), Neighborhood.window(2, 3))
    weights, similarity, start = _inputs(case)
    args = _contract_inputs(case)[3]
    cut = tuple(t[:items] for t in args[:-1])
    space = (weights.nan_to_num()[:items], similarity[:items], start[:items])
    return {
        "arnoldi": (flow_arnoldi, (*space, _FLAT, 3, False, 1.0, 0.0), 3),
        "transposed": (flow_arnoldi, (*space, _FLAT, 3, True, 1.0, 1e-3), 3),
        "combine": (flow_combine, (cut[2], cut[3], [4, 5], _FLAT), 2),
        "contract": (flow_contract, (*cut, _FLAT), 7),
    }


@pytest.mark.parametrize("arrange", [Tensor.contiguous, scrambled], ids=["contiguous", "scrambled"])
@pytest.mark.parametrize("name", list(_calls()))
def test_opcheck(name: str, arrange: Callable[[Tensor], Tensor]) -> None:
    operation, args, count = _calls()[name]
    torch.library.opcheck(operation, (*map(arrange, args[:count]), *args[count:]))


@pytest.mark.parametrize("name", list(_calls()))
def test_empty_batches_have_the_fake_shapes(name: str) -> None:
    operation, args, _ = _calls(items=0)[name]
    torch.library.opcheck(operation, args, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("name", list(_calls()))
def test_vmap_is_a_loop(name: str) -> None:
    operation, args, count = _calls()[name]
    stacked = [torch.stack([t, t.flip(0)]) for t in args[:count]]
    mapped = torch.vmap(lambda *t: operation(*t, *args[count:]))(*stacked)
    for sample in range(2):
        alone = operation(*(t[sample] for t in stacked), *args[count:])
        pairs = [(mapped, alone)] if isinstance(alone, Tensor) else list(zip(mapped, alone, strict=True))
        for m, a in pairs:
            torch.testing.assert_close(m[sample], a, rtol=1e-12, atol=1e-12)


def _everything(items: int, spatial: tuple[int, ...], seed: int = 0, kind: Any = np.float32) -> list[Tensor]:
    """All three operations, forward and transposed, on inputs that NumPy makes: usable after a fork."""
    rng = np.random.default_rng(seed)
    offsets = Neighborhood.window(len(spatial), 3).flat
    count = len(offsets) // len(spatial)
    weights = rng.random((items, count, *spatial)) / count
    scores = np.exp(rng.standard_normal((items, 3, *spatial)))
    start = rng.standard_normal((items, 3, *spatial))
    w, s, v = (
        torch.from_numpy(x.astype(kind)) for x in (weights, scores / scores.sum(axis=1, keepdims=True), start)
    )
    forward = flow_arnoldi(w, s, v, offsets, 4, False, 1.0, 0.0)
    adjoint = flow_arnoldi(w, s, v, offsets, 4, True, 1.0, 1e-6)
    c = torch.from_numpy(rng.standard_normal((items, 5, 2)))
    left = torch.from_numpy(rng.standard_normal((items, 5, 3)))
    combined = flow_combine(forward[0], c, list(spatial), offsets)
    gradient = flow_contract(s, v, adjoint[0], left, forward[0], c, c.flip(1), offsets)
    return [*forward, *adjoint, combined, *gradient]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("items", "spatial"),
    [(5, (9, 17)), (1, (1, 1)), (1, _LARGE), (3, _LARGE), (1, (33, 17, 31)), (1, (16411,))],
)
def test_the_same_bits_for_any_number_of_threads(items: int, spatial: tuple[int, ...], kind: Any) -> None:
    torch.set_num_threads(1)
    expected = _everything(items, spatial, kind=kind)
    for number in (2, 3, 2):
        torch.set_num_threads(number)
        for a, b in zip(expected, _everything(items, spatial, kind=kind), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("transpose", [False, True])
def test_a_large_picture_is_the_reference(transpose: bool) -> None:
    torch.set_num_threads(2)
    case = Case(_LARGE, Neighborhood.window(2, 5))
    args = (*_inputs(case, items=1), case.flat, 4, transpose, 1.0, 0.0)
    ours, reference = Krylov(*flow_arnoldi(*args)), Krylov(*_arnoldi_reference(*args))
    torch.testing.assert_close(ours.hessenberg, reference.hessenberg, rtol=0, atol=1e-12)
    torch.testing.assert_close(_vectors(ours, case), _vectors(reference, case), rtol=0, atol=1e-12)
    c, left = random(1, 5, 2), random(1, 5, 3)
    similarity, evidence = args[1:3]
    # The reference's vectors have length one already: the same coefficients serve both.
    unit = pack_reference(_vectors(reference, case).reshape(1, 5, 3, *_LARGE), case.neighborhood.offsets)
    both = [
        f(similarity, evidence, unit, left, unit, c, c, case.flat)
        for f in (flow_contract, _contract_reference)
    ]
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_many_callers_at_once_get_the_bits_of_one() -> None:
    torch.set_num_threads(2)
    sizes = ((1, _LARGE), (4, (20, 20)))
    expected = [_everything(*size) for size in sizes]
    wrong: list[int] = []
    finished: list[bool] = []

    def caller() -> None:
        torch.set_num_threads(2)
        for _ in range(2):
            for size, truth in zip(sizes, expected, strict=True):
                wrong.extend(
                    n
                    for n, (a, b) in enumerate(zip(truth, _everything(*size), strict=True))
                    if not torch.equal(a, b)
                )
        finished.append(True)

    callers = [threading.Thread(target=caller, daemon=True) for _ in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(_PATIENCE)
    assert len(finished) == 8
    assert not wrong


def _in_worker(seed: int) -> list[Tensor]:
    return _everything(1, _LARGE, seed) + _everything(4, (20, 20), seed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_in_other_processes() -> None:
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.kernels.test_krylov"]
    with subprocess.Popen(
        program, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            errors = process.communicate(timeout=2 * _PATIENCE)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("it hangs")
    assert process.returncode == 0, errors


if __name__ == "__main__":
    signal.alarm(int(2 * _PATIENCE) - 10)
    # Not after a raw fork: pictures this large hang there in PyTorch's own threads.
    loader(_in_worker, "fork", after=True)
