"""The S-flow with rectified couplings: Numba = reference = dense matrices, SciPy, and a certified limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

import flowcut as fc
from flowcut.kernels.rectified import rectified_flow, rectified_flow_adjoint, rectified_limit
from flowcut.kernels.rectified_reference import (
    limit_reference,
    rectified_adjoint_reference,
    rectified_reference,
    settled_reference,
)
from tests.kernels.dense import scrambled

TYPES = [torch.float32, torch.float64]
EPSILON = 1e-2
STEPS = [0.1, 0.15, 0.3, 0.05]
SAMPLES = (0, 1, 63, 64, 65, 150)
FLOWS = pytest.mark.parametrize("flow", [rectified_flow, rectified_reference], ids=["numba", "reference"])
LIMITS = pytest.mark.parametrize("limit", [rectified_limit, limit_reference], ids=["numba", "reference"])


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Problem(NamedTuple):
    logits: Tensor
    ties: Tensor
    diagonal: Tensor
    pairs: Tensor

    def to(self, dtype: torch.dtype) -> Problem:
        return Problem(self.logits.to(dtype), self.ties.to(dtype), self.diagonal.to(dtype), self.pairs)


def _all_pairs(n: int) -> Tensor:
    return torch.tensor(list(itertools.combinations(range(n), 2)), dtype=torch.int64).reshape(-1, 2).T


# Pixel 4 has no ties, 0-1 stands twice and both ways.
_PAIRS = {
    "one pixel": (1, _all_pairs(1)),
    "no ties": (3, _all_pairs(1)),
    "all pairs": (5, _all_pairs(5)),
    "graph": (5, torch.tensor([[0, 3, 1, 0, 1], [1, 1, 2, 2, 0]])),
}


def _problem(name: str = "graph", channels: int = 3, samples: int = 3, seed: int = 0) -> Problem:
    n, pairs = _PAIRS[name]
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    logits = 2 * draw(channels, n, samples)
    if channels > 1:
        logits = logits - logits.mean(dim=0)
    return Problem(logits, draw(pairs.shape[1], samples), draw(n, samples), pairs.contiguous())


def _matrices(p: Problem) -> Tensor:
    """(M, n, n): Omega entry by entry."""
    n, samples = p.diagonal.shape
    omega = torch.zeros(samples, n, n, dtype=p.ties.dtype)
    for m in range(samples):
        for i in range(n):
            omega[m, i, i] = max(float(p.diagonal[i, m]), 0) + EPSILON
        for e, (i, j) in enumerate(p.pairs.T.tolist()):
            omega[m, i, j] += max(float(p.ties[e, m]), 0)
            omega[m, j, i] += max(float(p.ties[e, m]), 0)
    return omega


def _close(found, expected, dtype: torch.dtype = torch.float64) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b.to(dtype), rtol=tolerance, atol=tolerance)


# --- the flow and its adjoint


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_numba_is_the_reference(channels: int, samples: int, dtype: torch.dtype) -> None:
    for name in _PAIRS:
        exact = _problem(name, channels, samples)
        p = exact.to(dtype)
        found = rectified_flow(*p, EPSILON, STEPS)
        expected = rectified_reference(*exact, EPSILON, STEPS)
        assert found[0].shape == p.logits.shape
        assert found[1].shape == (len(STEPS), *p.logits.shape)
        _close(found, expected, dtype)
        grad = torch.randn(p.logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rest = (*exact[1:], grad, EPSILON, STEPS)
        there = rectified_adjoint_reference(expected[1], *rest)
        here = rectified_flow_adjoint(found[1], *p[1:], grad.to(dtype), EPSILON, STEPS)
        _close(here, there, dtype)


@FLOWS
def test_no_steps(flow) -> None:
    p = _problem()
    logits, tape = flow(*p, EPSILON, [])
    assert torch.equal(logits, p.logits)
    assert logits.data_ptr() != p.logits.data_ptr()
    assert tape.shape == (0, *p.logits.shape)
    by_start, by_ties, by_diagonal = rectified_flow_adjoint(tape, *p[1:], p.logits, EPSILON, [])
    assert torch.equal(by_start, p.logits)
    assert not by_ties.any()
    assert not by_diagonal.any()


@FLOWS
def test_the_input_stays_as_it_was(flow) -> None:
    p = _problem()
    before = [t.clone() for t in p]
    _, tape = flow(*p, EPSILON, STEPS)
    rectified_flow_adjoint(tape, *p[1:], p.logits, EPSILON, STEPS)
    rectified_limit(*p, EPSILON, 0.1, 1.1, 100)
    assert all(torch.equal(a, b) for a, b in zip(p, before, strict=True))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [30.0, 1e4, 1e15])
def test_shares_of_any_size(channels: int, size: float) -> None:
    """Neither overflow nor lost digits where shares are almost 0 or 1."""
    p = _problem("all pairs", channels, 65)
    p = p._replace(logits=p.logits * size)
    for dtype in TYPES:
        found = rectified_flow(*p.to(dtype), EPSILON, STEPS)[0] - p.logits.to(dtype)
        expected = rectified_reference(*p, EPSILON, STEPS)[0] - p.logits
        unit = torch.finfo(dtype).eps * (1 + p.logits.abs().max())
        assert (found - expected).abs().max() < 50 * unit


def test_one_channel_is_tanh_to_the_last_digits() -> None:
    """One pixel, one step: u + h (epsilon + x) tanh(u / 2), against NumPy's tanh."""
    u = np.concatenate([np.linspace(-60, 60, 4001), np.logspace(-300, 1, 400), [0.0, -0.0]])
    one = torch.ones(1, len(u), dtype=torch.float64)
    logits, pairs = torch.zeros(1, 1, len(u), dtype=torch.float64), _all_pairs(1)
    logits[0, 0] = torch.from_numpy(u)
    found = rectified_flow(logits, one[:0], one, pairs, 0.0, [1e9])[0][0, 0].numpy() / 1e9
    np.testing.assert_allclose(found, np.tanh(u / 2) + u / 1e9, rtol=1e-15, atol=1e-300)


@FLOWS
def test_is_the_s_flow_with_dense_couplings(flow) -> None:
    for channels, name in itertools.product((2, 3, 4), _PAIRS):
        p = _problem(name, channels, 4)
        found = flow(*p, EPSILON, [0.2] * 10)[0]
        start = p.logits.movedim(-1, 0)
        couplings = fc.DenseCouplings(_matrices(p))
        s = fc.s_flow(None, couplings, 2.0, fc.GeometricEuler(0.2), initial_logits=start)
        torch.testing.assert_close(found.softmax(dim=0).movedim(-1, 0), s, rtol=1e-10, atol=1e-12)


@FLOWS
@pytest.mark.parametrize("channels", [1, 3])
def test_goes_to_scipy_s_solution_with_the_order_of_euler(flow, channels: int) -> None:
    p = _problem("graph", channels, 2)
    matrices, time = _matrices(p).numpy(), 1.5
    truth = torch.empty_like(p.logits)
    for m in range(2):

        def slope(_: float, v, m: int = m):
            v = v.reshape(channels, -1)
            s = np.tanh(v / 2) if channels == 1 else np.exp(v) / np.exp(v).sum(axis=0)
            change = s @ matrices[m]
            return (change - (channels > 1) * change.mean(axis=0)).ravel()

        start = p.logits[..., m].numpy().ravel()
        solved = solve_ivp(slope, (0, time), start, rtol=1e-11, atol=1e-12)
        truth[..., m] = torch.from_numpy(solved.y[:, -1].reshape(channels, -1))
    errors = [
        float((flow(*p, EPSILON, [time / count] * count)[0] - truth).abs().max()) for count in (200, 400)
    ]
    assert errors[1] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.03)
    # Richardson: twice the finer minus the coarser is of second order.
    coarse, fine = (flow(*p, EPSILON, [time / count] * count)[0] for count in (200, 400))
    assert (2 * fine - coarse - truth).abs().max() < 1e-4


@FLOWS
@pytest.mark.parametrize("name", list(_PAIRS))
def test_one_channel_is_the_difference_of_two_labels(flow, name: str) -> None:
    two = _problem(name, 2, 65)
    one = two._replace(logits=two.logits[1:] - two.logits[:1])
    a, b = (flow(*p, EPSILON, STEPS)[0] for p in (one, two))
    torch.testing.assert_close(a, b[1:] - b[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adjoint", [rectified_flow_adjoint, rectified_adjoint_reference])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", list(_PAIRS))
def test_adjoint_is_autograd_s_and_that_of_finite_differences(adjoint, name: str, channels: int) -> None:
    p = _problem(name, channels, 2)
    u = torch.randn(p.logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in p[:3]]
    out, tape = rectified_reference(*inputs, p.pairs, EPSILON, STEPS)
    found = adjoint(tape.detach(), *p[1:], u, EPSILON, STEPS)
    expected = torch.autograd.grad((out * u).sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    h = 1e-6
    for position, gradient in enumerate(found):
        for index in itertools.product(*map(range, gradient.shape)):
            sides = []
            for sign in (1, -1):
                moved = [t.clone() for t in p[:3]]
                moved[position][index] += sign * h
                sides.append((rectified_flow(*moved, p.pairs, EPSILON, STEPS)[0] * u).sum())
            assert float(gradient[index]) == pytest.approx(float(sides[0] - sides[1]) / (2 * h), abs=1e-7)


@pytest.mark.parametrize("adjoint", [rectified_flow_adjoint, rectified_adjoint_reference])
def test_what_is_rectified_has_no_gradient(adjoint) -> None:
    p = _problem("graph", 3, 65)
    for value in (0.0, -0.0, -1e-300, -1.0):
        ties, diagonal = p.ties.clone(), p.diagonal.clone()
        ties[1], diagonal[2] = value, value
        _, tape = rectified_flow(p.logits, ties, diagonal, p.pairs, EPSILON, STEPS)
        _, by_ties, by_diagonal = adjoint(tape, ties, diagonal, p.pairs, p.logits, EPSILON, STEPS)
        assert not by_ties[1].any()
        assert not by_diagonal[2].any()
        assert torch.equal(by_ties != 0, ties > 0)
        assert torch.equal(by_diagonal != 0, diagonal > 0)


def test_inputs_may_lie_anywhere_in_memory() -> None:
    for channels in (1, 3):
        p = _problem("graph", channels, 65)
        far = Problem(*map(scrambled, p[:3]), p.pairs.T.contiguous().T)
        assert not any(t.is_contiguous() for t in far if t.shape[0] > 1)
        out, tape = rectified_flow(*p, EPSILON, STEPS)
        found = rectified_flow(*far, EPSILON, STEPS)
        assert all(t.is_contiguous() for t in found)
        assert all(map(torch.equal, found, (out, tape)))
        u = out.cos()
        found = rectified_flow_adjoint(scrambled(tape), *far[1:], scrambled(u), EPSILON, STEPS)
        assert all(t.is_contiguous() for t in found)
        assert all(map(torch.equal, found, rectified_flow_adjoint(tape, *p[1:], u, EPSILON, STEPS)))
        end = (EPSILON, 0.1, 1.2, 200)
        assert all(map(torch.equal, rectified_limit(*far, *end), rectified_limit(*p, *end)))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_bits_for_any_threads_and_any_company(channels: int, dtype: torch.dtype) -> None:
    p = _problem("all pairs", channels, 400).to(dtype)

    def everything(p: Problem) -> list[Tensor]:
        out, tape = rectified_flow(*p, EPSILON, STEPS)
        adjoint = rectified_flow_adjoint(tape, *p[1:], out.cos(), EPSILON, STEPS)
        return [out, tape, *adjoint, *rectified_limit(*p, EPSILON, 0.1, 1.2, 200)]

    torch.set_num_threads(1)
    expected = everything(p)
    for threads in (2, 3, 2):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, everything(p), expected))
    # A sample by itself, in another place of its block.
    some = [399, 7, 70]
    part = Problem(*(t[..., some].contiguous() for t in p[:3]), p.pairs)
    for a, b in zip(everything(part), expected, strict=True):
        assert torch.equal(a, b[..., some])


@pytest.mark.parametrize("channels", [1, 3])
def test_operations(channels: int) -> None:
    for name, samples in (("graph", 65), ("one pixel", 1), ("no ties", 0)):
        p = _problem(name, channels, samples)
        tape = rectified_flow(*p, EPSILON, STEPS)[1]
        torch.library.opcheck(rectified_flow, (*p, EPSILON, STEPS))
        torch.library.opcheck(rectified_flow, (*p, EPSILON, []))
        torch.library.opcheck(rectified_flow_adjoint, (tape, *p[1:], p.logits, EPSILON, STEPS))
        torch.library.opcheck(rectified_limit, (*p, EPSILON, 0.1, 1.2, 50))


def test_operations_of_scrambled_input() -> None:
    p = _problem("graph", 3, 4)
    far = Problem(*map(scrambled, p[:3]), p.pairs)
    tape = scrambled(rectified_flow(*p, EPSILON, STEPS)[1])
    torch.library.opcheck(rectified_flow, (*far, EPSILON, STEPS))
    torch.library.opcheck(rectified_flow_adjoint, (tape, *far[1:], far.logits, EPSILON, STEPS))
    torch.library.opcheck(rectified_limit, (*far, EPSILON, 0.1, 1.2, 50))


# --- the limit


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_numba_s_limit_is_the_reference_s(channels: int, samples: int) -> None:
    for name in _PAIRS:
        p = _problem(name, channels, samples)
        # Six steps: some samples have not ended, and the last look falls between two others.
        for max_steps in (300, 6, 0):
            found, expected = (
                of(*p, EPSILON, 0.1, 1.2, max_steps) for of in (rectified_limit, limit_reference)
            )
            assert found[0].dtype == torch.uint8
            assert found[1].dtype == torch.int64
            assert all(map(torch.equal, found, expected))


@LIMITS
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_labels_are_those_of_a_long_way_in_small_steps(limit, channels: int) -> None:
    """Steps of 0.01 that grow by a thousandth each, to time 30 000 and to shares of 1 within 1e-9."""
    p = _problem("all pairs", channels, 40)
    labels, taken = limit(*p, EPSILON, 0.01, 1.001, 20_000)
    assert (taken >= 0).all()
    steps = [0.01 * 1.001**k for k in range(8_000)]
    v = p.logits
    for first in range(0, len(steps), 1000):
        v = rectified_flow(*p._replace(logits=v), EPSILON, steps[first : first + 1000])[0]
    if channels == 1:
        v = torch.cat([-v / 2, v / 2])
    share, end = v.softmax(dim=0).max(dim=0)
    assert share.min() > 1 - 1e-9
    assert torch.equal(labels, end.to(torch.uint8))
    assert len(end.T.unique(dim=0)) > 3  # more than one labeling is met


def _further(p: Problem, steps: list[float]) -> Iterator[Tensor]:
    """Labels after every step, by the reference."""
    logits = p.logits
    for step in steps:
        logits = rectified_reference(logits, *p[1:], EPSILON, [step])[0]
        yield (logits[0] > 0).long() if len(logits) == 1 else logits.argmax(dim=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 4),
    n=st.integers(1, 6),
    shift=st.floats(-1, 1.5),
    spread=st.floats(0.1, 4),
    before=st.integers(0, 12),
    after=st.lists(st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3, 1e8]), min_size=1, max_size=12),
)
def test_what_is_settled_never_changes(seed, channels, n, shift, spread, before, after) -> None:
    g = torch.Generator().manual_seed(seed)
    pairs = _all_pairs(n)
    logits = spread * torch.randn(channels, n, 64, generator=g, dtype=torch.float64)
    ties = shift + torch.randn(pairs.shape[1], 64, generator=g, dtype=torch.float64)
    own = shift + torch.randn(n, 64, generator=g, dtype=torch.float64)
    logits = rectified_reference(logits, ties, own, pairs, EPSILON, [0.3] * before)[0]
    p = Problem(logits, ties, own, pairs)
    settled = settled_reference(*p, EPSILON)
    now = (logits[0] > 0).long() if channels == 1 else logits.argmax(dim=0)
    for labels in _further(p, after):
        assert torch.equal(labels[:, settled], now[:, settled])
    # Both doors give the same verdict and the same labels.
    labels, taken = rectified_limit(*p, EPSILON, 0.1, 1.2, 0)
    assert torch.equal(taken, torch.where(settled, 0, -1))
    assert torch.equal(labels.long(), now)


def test_neighbours_of_other_labels_may_help_a_rival() -> None:
    """Pixel 0 keeps label 0 against neighbours of labels 2 and 3 as such, but not against what the
    second has of label 2: the certificate has to wait, for the label changes in the first step."""
    shares = torch.tensor([[0.5099, 1e-4, 0.49, 0.0], [1e-9, 1e-9, 1.0, 1e-9], [1e-4, 1e-4, 0.4899, 0.5099]])
    logits = shares.double().clamp_min(1e-9).log().T[..., None]
    ties = torch.tensor([[1.2], [0.9], [-1.0]]).double()  # 0-1, 0-2, 1-2
    own = torch.tensor([[65.0], [100.0], [200.0]]).double()
    p = Problem((logits - logits.mean(dim=0)).contiguous(), ties, own, _all_pairs(3))
    assert next(_further(p, [0.2]))[0, 0] != p.logits[:, 0, 0].argmax()
    assert not settled_reference(*p, EPSILON).any()
    assert rectified_limit(*p, EPSILON, 0.1, 1.2, 0)[1].tolist() == [-1]
    # Without the second neighbour pixel 0 holds out if the first is weaker: here it is settled.
    alone = p._replace(ties=torch.tensor([[0.9], [-1.0], [-1.0]]).double())
    assert settled_reference(*alone, EPSILON).all()


def _settled_by_definition(p: Problem) -> Tensor:
    """The bound of the reference's derivation, term by term: shares at least those of now."""
    omega, (channels, n, samples) = _matrices(p), p.logits.shape
    s = p.logits.softmax(dim=0)
    out = torch.ones(samples, dtype=torch.bool)
    for m in range(samples):
        label, share = s[..., m].argmax(dim=0), s[..., m].amax(dim=0)
        for i, b in itertools.product(range(n), range(channels)):
            if b == label[i]:
                continue
            # The least that S_ja - S_jb can be while pixel j keeps its share.
            gain = 0.0
            for j in range(n):
                if label[j] == label[i]:
                    gain += float(omega[m, i, j] * (2 * share[j] - 1))
                elif label[j] == b:
                    gain -= float(omega[m, i, j])
                else:
                    gain -= float(omega[m, i, j] * (1 - share[j]))
            out[m] &= gain >= 0
        out[m] &= bool((share > 0.5).all())
    return out


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_the_certificate_is_not_given_later_than_derived(channels: int) -> None:
    p = _problem("all pairs", channels, 150)
    p = p._replace(logits=rectified_flow(*p, EPSILON, [0.5] * 4)[0])
    found = settled_reference(*p, EPSILON)
    assert torch.equal(found, _settled_by_definition(p))
    assert 10 < int(found.sum()) < 140
    if channels == 2:
        one = p._replace(logits=p.logits[1:] - p.logits[:1])
        assert torch.equal(settled_reference(*one, EPSILON), found)


@LIMITS
def test_nothing_but_epsilon(limit) -> None:
    """Every pixel by itself: labels stay, and two labels are settled at once."""
    for channels in (1, 2, 3):
        p = _problem("all pairs", channels, 65)
        p = p._replace(ties=-p.ties.abs(), diagonal=-p.diagonal.abs())
        labels, taken = limit(*p, EPSILON, 0.1, 1.2, 200)
        start = (p.logits[0] > 0).long() if channels == 1 else p.logits.argmax(dim=0)
        assert torch.equal(labels.long(), start)
        assert (taken >= 0).all()
        if channels < 3:
            assert not taken.any()


@LIMITS
def test_a_tie_of_labels_is_not_settled(limit) -> None:
    """It never ends by itself, but its neighbour can end it."""
    for channels in (1, 2, 3):
        logits = torch.zeros(channels, 2, 3, dtype=torch.float64)
        # Sample 0: both pixels tied; 1: the second decides and pulls; 2: it decides but does not pull.
        logits[-1, 1, 1:] = 2.0
        ties = torch.tensor([[1.0, 1.0, -1.0]]).double()
        p = Problem(logits, ties, torch.ones(2, 3).double(), _all_pairs(2))
        if channels != 2:
            assert not settled_reference(*p, EPSILON).any()
        labels, taken = limit(*p, EPSILON, 0.1, 1.2, 100)
        assert (taken >= 0).tolist() == [False, True, False]
        assert taken[[0, 2]].tolist() == [-1, -1]
        assert labels[:, 1].tolist() == [max(channels - 1, 1)] * 2
        assert labels[1, 2] == max(channels - 1, 1)


@LIMITS
def test_too_few_steps_say_so(limit) -> None:
    """Two strong neighbours of different labels need time; the labels are those of the last step."""
    logits = torch.tensor([[[0.5, 9.0], [-0.1, 9.0]]], dtype=torch.float64)
    p = Problem(logits, torch.full((1, 2), 4.0).double(), torch.zeros(2, 2).double(), _all_pairs(2))
    labels, taken = limit(*p, EPSILON, 0.01, 1.0, 3)
    assert taken.tolist() == [-1, 0]
    assert labels.tolist() == [[1, 1], [0, 1]]
    labels, taken = limit(*p, EPSILON, 0.01, 1.0, 5000)
    assert taken[0] > 3
    assert labels[:, 0].tolist() == [1, 1]
    # Looked for every fourth step.
    assert taken[0] % 4 == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_single_precision_ends_where_double_does(channels: int) -> None:
    p = _problem("all pairs", channels, 400)
    exact, _ = rectified_limit(*p, EPSILON, 0.1, 1.15, 400)
    found, taken = rectified_limit(*p.to(torch.float32), EPSILON, 0.1, 1.15, 400)
    assert (taken >= 0).all()
    assert (found != exact).any(dim=0).sum() <= 1  # a sample on the border between two limits
