"""Right answers in other processes. Run as ``python -m tests.kernels.workers NAME``: exits with 0 or dies.

A program of its own, with an alarm, because what is tested for is a hang.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import flowcut as fc
from flowcut.core.neighborhood import Neighborhood
from flowcut.kernels.cg import grid_cg
from flowcut.kernels.grid import grid_product
from flowcut.kernels.solve_cpu import Plan, solve_image
from flowcut.linear import pardiso

_SECONDS = 120
_FLAT = Neighborhood.edges(2).flat


def _inputs(items: int, side: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    # Not by torch: its own (OpenMP) threads hang in a child forked after their use, ours must not.
    rng = np.random.default_rng(seed)
    edges = np.exp(rng.standard_normal((items, 1, 2, side, side), dtype=np.float32))
    rhs = rng.standard_normal((items, 1, side, side), dtype=np.float32)
    ones = np.ones((1, 1, side, side), np.float32)
    return torch.from_numpy(edges), torch.from_numpy(ones), torch.from_numpy(rhs)


def by_cg(seed: int) -> list[Tensor]:
    """A large image, a batch, and a product of each."""
    out: list[Tensor] = []
    for items, side in ((1, 260), (4, 40)):
        edges, leak, rhs = _inputs(items, side, seed)
        out += grid_cg(edges, leak, rhs, _FLAT, 1e-5, 1000, "scores", "raise")
        out.append(grid_product(edges, leak, rhs, _FLAT))
    return out


def by_threads(seed: int) -> list[Tensor]:
    """A batch over the pool, and a large image in two strips, past torch's operations on large tensors."""
    edges, leak, rhs = _inputs(4, 40, seed)
    out = [*grid_cg(edges, leak, rhs, _FLAT, 1e-5, 1000, "scores", "raise")]
    edges, leak, rhs = (t.numpy() for t in _inputs(1, 260, seed))
    x, report = np.empty_like(rhs), np.zeros((1, 4))
    plan = Plan((260, 260), ((1, 0), (0, 1)))
    solve_image(edges[0, 0], leak[0, 0], rhs[0], x[0], report, plan, 1e-5, 1000, strips=2)
    return [*out, torch.from_numpy(x), torch.from_numpy(report)]


def by_cholesky(seed: int) -> list[Tensor]:
    """The default backend, forward and backward, in double precision."""
    edges, _, rhs = (t.double().requires_grad_() for t in _inputs(2, 24, seed))
    x = fc.soft_cut(rhs, edges, solver=fc.Cholesky())
    return [x.detach(), *torch.autograd.grad(x.square().sum(), (rhs, edges))]


def by_both(seed: int) -> list[Tensor]:
    """Both solvers."""
    return by_cg(seed) + by_cholesky(seed)


def _same(a: list[Tensor], b: list[Tensor], exact: bool) -> None:
    for u, v in zip(a, b, strict=True):
        if exact:
            assert torch.equal(u, v)
        else:  # another library may have factored
            torch.testing.assert_close(u, v, rtol=1e-10, atol=1e-10)


class Answers(Dataset[list[Tensor]]):
    """Item i is ``function(i)``, worked out in the worker."""

    def __init__(self, function: Callable[[int], list[Tensor]]) -> None:
        self.function = function

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.function(index)


def _first(batch: list[list[Tensor]]) -> list[Tensor]:
    return batch[0]


def loader(function: Callable[[int], list[Tensor]], context: str, after: bool) -> None:
    """Two workers of a DataLoader, before or after use in the parent."""
    torch.set_num_threads(2)
    expected = [function(i) for i in range(4)] if after else None
    loaded = list(
        DataLoader(Answers(function), num_workers=2, multiprocessing_context=context, collate_fn=_first)
    )
    expected = expected or [function(i) for i in range(4)]
    for own, other in zip(expected, loaded, strict=True):
        _same(own, other, exact=function is by_threads)


def fork(function: Callable[[int], list[Tensor]]) -> None:
    """A child forked after use in the parent, itself using several threads; then a grandchild."""
    torch.set_num_threads(2)
    expected = function(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # What pools and solvers remember belongs to the parent.
            _same(expected, function(0), exact=function is by_threads)
            inner = multiprocessing.get_context("fork").Process(target=function, args=(0,))
            inner.start()
            inner.join()
            code = inner.exitcode or 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    _same(expected, function(0), exact=True)


def kept_factors() -> None:
    """A factorisation made before the fork is used on both sides of it."""
    operator = fc.GridOperator(*(t.double() for t in _inputs(2, 24)[:2]))
    rhs, solver = _inputs(2, 24)[2].double(), fc.Cholesky()
    state = solver.init(operator.system(), "b")
    expected = solver.compute(state, rhs, "b", "raise")[0]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not pardiso.available() or pardiso._used_by is None
            torch.testing.assert_close(solver.compute(state, rhs, "b", "raise")[0], expected)
            torch.testing.assert_close(
                solver.compute(solver.init(operator.system(), "b"), rhs, "b", "raise")[0], expected
            )
            del state
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(solver.compute(state, rhs, "b", "raise")[0], expected)


CHECKS: dict[str, Callable[[], None]] = {
    "fork-cg": lambda: fork(by_threads),
    "fork-cholesky": lambda: fork(by_cholesky),
    "fork-kept-factors": kept_factors,
    "loader-fork": lambda: loader(by_both, "fork", after=False),
    "loader-fork-after-use": lambda: loader(by_both, "fork", after=True),
    "loader-spawn-after-use": lambda: loader(by_both, "spawn", after=True),
}

if __name__ == "__main__":
    signal.alarm(_SECONDS)
    CHECKS[sys.argv[1]]()
