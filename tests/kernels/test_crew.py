"""Crews: a lead and helpers share out pieces; nobody hangs, whoever fails or comes late."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from flowcut.kernels import crew as crews
from flowcut.kernels.crew import (
    MAX_PHASES,
    await_phase,
    await_pieces,
    next_piece,
    open_phase,
    piece_done,
    run_crew,
)
from flowcut.kernels.jit import jit

_PATIENCE = 60.0
_PIECES = 32


@pytest.fixture(autouse=True)
def _company(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether other programs have sent helpers away before does not count here."""
    monkeypatch.setattr(crews, "_no_crew_until", 0.0)


@jit
def _work(values, partial, phase, crew):
    piece = next_piece(crew, phase, 32)
    while piece >= 0:
        total = 0.0
        for i in range(piece, len(values), 32):
            total += values[i]
        partial[piece] = total * (phase + 1)
        piece_done(crew, phase)
        piece = next_piece(crew, phase, 32)


@jit
def _sums(values, partial, out, lead, crew):
    """out[p] = (p + 1) times the sum of the values, each in a phase of its own."""
    seen = 0
    while not lead:
        seen = await_phase(crew, seen)
        if seen < 0:
            return 0
        _work(values, partial, seen - 1, crew)
    for p in range(len(out)):
        phase = open_phase(crew)
        _work(values, partial, phase, crew)
        await_pieces(crew, phase, 32)
        total = 0.0
        for piece in range(32):
            total += partial[piece]
        out[p] = total
    return len(out)


@jit
def _take(crew):
    return next_piece(crew, 0, 2)


@jit
def _finish(crew):
    piece_done(crew, 0)


@jit
def _open(crew):
    return open_phase(crew)


@jit
def _wait(crew):
    await_pieces(crew, 0, 2)


def _check_sums(helpers: int, phases: int = 50) -> None:
    values = np.arange(1000.0)
    partial, out = np.zeros(_PIECES), np.zeros(phases)
    assert run_crew(_sums, (values, partial, out), helpers) == phases
    assert np.array_equal(out, 499500.0 * np.arange(1, phases + 1))


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_every_piece_of_every_phase_is_done_once(helpers: int) -> None:
    for _ in range(10):
        _check_sums(helpers)
    _check_sums(helpers, MAX_PHASES)


def test_without_helpers_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", start)
    _check_sums(0)


def test_a_thread_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    _check_sums(3)


def test_an_exception_of_the_lead_ends_its_helpers() -> None:
    helper_ended = threading.Event()

    def kernel(lead: bool, crew: Any) -> None:
        if lead:
            raise LookupError("the lead")
        end = time.monotonic() + _PATIENCE
        while crew[-1] == 0 and time.monotonic() < end:
            time.sleep(0.001)
        helper_ended.set()

    with pytest.raises(LookupError, match="the lead"):
        run_crew(kernel, (), 1)
    assert helper_ended.is_set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_helper_that_fails_before_it_takes_a_piece_is_done_without() -> None:
    values, partial, out = np.arange(1000.0), np.zeros(_PIECES), np.zeros(3)

    def kernel(lead: bool, crew: Any) -> Any:
        if not lead:
            raise MemoryError("no room")
        return _sums(values, partial, out, lead, crew)

    assert run_crew(kernel, (), 2) == 3
    assert np.array_equal(out, 499500.0 * np.arange(1, 4))


def test_a_late_helper_is_waited_for_and_then_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "_pause", _PATIENCE)
    for function in (_open, _take, _finish, _wait):  # compiled before somebody measures time
        function(np.array([0, 0, 2, 0]))
    taken, roles, done = threading.Event(), [], []

    def kernel(lead: bool, crew: Any) -> bool:
        roles.append(lead)
        if lead:
            _open(crew)
            if len(roles) > 2:  # the second time there is nobody to wait for
                return bool(crew[-1])
            assert taken.wait(_PATIENCE)
            assert _take(crew) >= 0
            _finish(crew)
            _wait(crew)
            return bool(done) and bool(crew[-1])
        assert _take(crew) >= 0
        taken.set()
        time.sleep(0.1)
        done.append(True)
        _finish(crew)
        return False

    assert run_crew(kernel, (), 1), "the lead went on without the piece, or kept its helper"
    assert sorted(roles) == [False, True]
    assert not run_crew(kernel, (), 1)
    assert roles.count(False) == 1
    monkeypatch.setattr(crews, "_no_crew_until", 0.0)  # some time later
    helped: list[bool] = []
    run_crew(lambda lead, crew: helped.append(lead), (), 1)
    assert sorted(helped) == [False, True]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this platform has no affinity")
def test_the_caller_keeps_its_cores_and_helpers_need_none_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = os.sched_getaffinity(0)
    _check_sums(1)
    assert os.sched_getaffinity(0) == before

    def refuse(pid: int, cores: set[int]) -> None:
        raise OSError("not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    _check_sums(1)
    monkeypatch.setattr(crews, "_sched_getcpu", None)
    _check_sums(1)
