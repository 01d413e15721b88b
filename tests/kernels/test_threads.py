"""Work shared over threads: every item once, failures without a hang, right answers for 16 callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels import threads
from flowcut.kernels.cg import grid_cg
from flowcut.kernels.grid import grid_product
from tests.kernels.dense import positive, random

_PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _within_patience(function: Callable[[], Any]) -> Any:
    """Call in a thread of its own, so that a hang is a failure and not a hang."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    assert outcome, "it hangs"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_every_item_is_done_once(count: int, number: int) -> None:
    torch.set_num_threads(number)
    done: list[int] = []
    threads.run_items(done.append, count)
    assert sorted(done) == list(range(count))


def test_items_are_done_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=_PATIENCE)
    threads.run_items(lambda _: meeting.wait(), 2)


@pytest.mark.parametrize("caller", [True, False])
def test_the_first_exception_comes_after_everybody_has_stopped(caller: bool) -> None:
    me, active = threading.get_ident(), []
    meeting = threading.Barrier(2, timeout=_PATIENCE)

    def work(item: int) -> None:
        if item < 2:
            meeting.wait()
        active.append(item)
        if (threading.get_ident() == me) == caller:
            active.remove(item)
            raise LookupError(f"item {item}")
        time.sleep(0.05)
        active.remove(item)

    with pytest.raises(LookupError, match="item"):
        threads.run_items(work, 50)
    assert not active


def test_a_pool_that_queues_and_then_fails_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # What ThreadPoolExecutor does when no thread can be started: the work is queued, then it raises.
    original = ThreadPoolExecutor.submit

    def submit(self: ThreadPoolExecutor, *args: Any) -> Any:
        original(self, *args)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.02)
        done.append(item)

    for _ in range(5):
        done.clear()
        threads.run_items(work, 5)
        assert sorted(done) == list(range(5))


def test_calls_within_calls_do_not_wait_for_each_other() -> None:
    done: list[int] = []
    _within_patience(lambda: threads.run_items(lambda _: threads.run_items(done.append, 4), 8))
    assert sorted(done) == sorted(list(range(4)) * 8)


class _Kernel:
    """Stands for a compiled kernel: every strip meets the others as the compiled ones do."""

    def __init__(self, fails: set[tuple[int, int]]) -> None:
        self.fails, self.finished = fails, []

    def __call__(self, strip: int, strips: int, barrier: Any) -> str | None:
        if (strip, strips) in self.fails:
            raise MemoryError("no room")
        end = time.monotonic() + _PATIENCE
        if strips > 1:
            with _LOCK:
                barrier[0] += 1
            while barrier[0] < strips:
                if barrier[2]:
                    return None
                assert time.monotonic() < end, "it hangs"
                time.sleep(0.001)
        self.finished.append((strip, strips))
        return f"of {strips}"


_LOCK = threading.Lock()


def test_strips_meet() -> None:
    kernel = _Kernel(set())
    assert _within_patience(lambda: threads.run_strips(kernel, (), 3)) == "of 3"
    assert sorted(kernel.finished) == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_strip_that_fails_sends_the_work_to_one_thread() -> None:
    kernel = _Kernel({(2, 3)})
    assert _within_patience(lambda: threads.run_strips(kernel, (), 3)) == "of 1"
    assert kernel.finished == [(0, 1)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_the_work_itself_is_raised() -> None:
    with pytest.raises(MemoryError):
        _within_patience(lambda: threads.run_strips(_Kernel({(0, 3), (1, 3), (2, 3), (0, 1)}), (), 3))


@pytest.mark.parametrize(
    ("error", "ends"), [(RuntimeError("can't start new thread"), "of 1"), (KeyboardInterrupt(), None)]
)
def test_a_thread_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, ends: str | None
) -> None:
    original, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if "run" in self.name and len(started) == 1:
            raise error
        if "run" in self.name:
            started.append(self)
        original(self)

    kernel = _Kernel(set())
    monkeypatch.setattr(threading.Thread, "start", start)
    if ends is None:
        with pytest.raises(KeyboardInterrupt):
            _within_patience(lambda: threads.run_strips(kernel, (), 3))
    else:
        assert _within_patience(lambda: threads.run_strips(kernel, (), 3)) == ends
    assert len(started) == 1
    assert not started[0].is_alive()


def _grid(items: int, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    edges = positive(items, 1, 2, side, side, dtype=torch.float32)
    return edges, torch.ones(1, 1, side, side), random(items, 1, side, side, dtype=torch.float32)


# One large image is cut into strips, a batch goes to the pool. Four strips a caller are far more threads
# than cores: whoever waits at a barrier is then asleep for long, which brings missing barriers to light.
@pytest.mark.parametrize(("items", "side", "number"), [(1, 384, 4), (1, 260, 2), (8, 64, 2)])
@pytest.mark.parametrize("what", ["product", "cg", "soft_cut"])
def test_sixteen_callers_at_once_get_the_bits_of_one(what: str, items: int, side: int, number: int) -> None:
    torch.set_num_threads(number)
    edges, leak, x = _grid(items, side)
    flat = Neighborhood.edges(2).flat

    def call() -> list[torch.Tensor]:
        if what == "product":
            return [grid_product(edges, leak, x, flat)]
        if what == "cg":
            return list(grid_cg(edges, leak, x, flat, 1e-4, 1000, "scores", "raise"))
        scores = x.clone().requires_grad_()
        value = fc.soft_cut(scores, edges[:, 0], solver=fc.CG(1e-4))
        (grad,) = torch.autograd.grad(value.square().sum(), scores)
        return [value.detach(), grad]

    expected, wrong, finished = call(), [], []
    start = threading.Barrier(16, timeout=_PATIENCE)

    def caller() -> None:
        torch.set_num_threads(number)
        start.wait()
        for _ in range(6):
            answer = call()
            wrong.extend(
                n for n, (a, b) in enumerate(zip(answer, expected, strict=True)) if not torch.equal(a, b)
            )
        finished.append(True)

    callers = [threading.Thread(target=caller, daemon=True) for _ in range(16)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(_PATIENCE)
    assert len(finished) == 16
    assert not wrong
