"""What the benchmarks rest on: the truth, the accuracy check, the tuning, the peer in slices."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.compare import Duel
from benchmarks.families import make_family
from benchmarks.harness import Contender, Effort, admit, ratio, take_turns, tune
from benchmarks.peers.base import Outcome, Setting
from benchmarks.peers.klu import _torch_matrix
from benchmarks.peers.scipy_cg import ScipyCG
from benchmarks.peers.superlu import SuperLU
from benchmarks.problem import (
    ACCURACY,
    Problem,
    assemble,
    errors,
    make_problem,
    residual,
    solve_truth,
)

from benchmarks import memory_probe, torch_slices

SHAPES = [(9, 7), (4, 5, 6)]


def cosines(shape: tuple[int, ...], waves: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """An eigenvector of the grid Laplacian with weights 1, and its eigenvalue."""
    vector, eigenvalue = np.ones(shape), 0.0
    for axis, (n, k) in enumerate(zip(shape, waves, strict=True)):
        profile = np.cos(math.pi * k * (np.arange(n) + 0.5) / n)
        vector = vector * profile.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        eigenvalue += 2 - 2 * math.cos(math.pi * k / n)
    return vector, eigenvalue


@pytest.mark.parametrize("shape", SHAPES)
def test_truth_is_the_closed_form(shape):
    vector, eigenvalue = cosines(shape, tuple(range(1, len(shape) + 1)))
    _, edges = make_family("const10", shape, dtype=torch.float64)
    scores = torch.from_numpy(vector)[None, None]
    truth = solve_truth(Problem("cosines", shape, scores, edges, 2 * scores))
    expected = vector / (1 + 10 * eigenvalue)
    assert np.allclose(truth.outcome.value, expected, atol=1e-13)
    assert np.allclose(truth.outcome.grad_scores, 2 * expected, atol=1e-13)
    assert truth.error_bound < 1e-13


def test_edge_gradient_is_a_finite_difference():
    problem = make_problem("soft3", (5, 4))
    problem = replace(problem, edges=problem.edges.double(), scores=problem.scores.double())
    gradient = solve_truth(problem).outcome.grad_edges
    cotangent = problem.cotangent[0, 0].double().numpy()

    def loss(k: int, i: tuple[int, int], step: float) -> float:
        edges = problem.edges.clone()
        edges[(0, k, *i)] += step
        return float((solve_truth(replace(problem, edges=edges)).outcome.value * cotangent).sum())

    for k, i in ((0, (0, 0)), (0, (3, 2)), (1, (2, 2)), (1, (4, 0))):
        difference = (loss(k, i, 1e-5) - loss(k, i, -1e-5)) / 2e-5
        assert np.isclose(gradient[(k, *i)], difference, rtol=1e-6, atol=1e-9)
    assert (gradient[0, -1] == 0).all()
    assert (gradient[1, :, -1] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_and_residual_agree(shape):
    _, edges = make_family("soft3", shape, dtype=torch.float64)
    weights = edges[0].numpy()
    full, upper, lower = (assemble(weights, triangle) for triangle in ("full", "upper", "lower"))
    x = np.random.default_rng(2).standard_normal(shape)
    assert np.allclose((full @ x.ravel()).reshape(shape), -residual(weights, x, np.zeros(shape)))
    assert abs(upper + lower - full).sum() == pytest.approx(full.diagonal().sum())
    assert abs(upper - lower.T).max() == 0
    assert np.allclose(full.sum(1), 1)
    assert np.allclose(_torch_matrix(edges[0])[0].to_dense().numpy(), full.toarray())


def test_iterative_peers_get_the_loosest_tolerance_that_is_accurate():
    problem = make_problem("soft3", (32, 32))
    truth = solve_truth(problem)
    contender = tune(ScipyCG(), problem, truth, Effort())
    assert isinstance(contender, Contender)
    assert max(contender.errors.values()) <= ACCURACY
    exponent = int(contender.setting.rsplit("-", 1)[1])
    dtype, jacobi = contender.setting.split(",")[0], "True" in contender.setting
    looser = Setting(dtype, 10.0 ** (1 - exponent), {"jacobi": jacobi})
    assert max(errors(ScipyCG().forward_backward(problem, looser), truth).values()) > ACCURACY


def test_an_iterative_peer_past_its_deadline_is_refused():
    problem = make_problem("cam1e5", (64, 64)) if _has_skimage() else make_problem("logn4", (64, 64))
    refused = tune(ScipyCG(), problem, solve_truth(problem), Effort(deadline=1e-4))
    assert isinstance(refused, dict)
    assert "not accurate within" in refused["refused"]


def test_who_is_not_accurate_is_not_timed():
    problem = make_problem("soft3", (16, 16))
    truth = solve_truth(problem)
    exact = truth.outcome

    def off(by: float) -> Contender | dict:
        return admit("off", "", lambda: Outcome(exact.value + by, exact.grad_scores, exact.grad_edges), truth)

    assert isinstance(off(0.9 * ACCURACY), Contender)
    assert off(1.1 * ACCURACY)["refused"] == "not accurate"
    assert off(np.nan)["refused"] == "not accurate"


def test_turns_and_assembly_are_counted():
    order = []

    def contender(name: str, pause: float) -> Contender:
        def run() -> Outcome:
            order.append(name)
            time.sleep(pause)
            return Outcome(np.zeros(1), np.zeros(1), np.zeros(1), pause / 2)

        return Contender(name, "", run, {})

    pair = [contender("quick", 0.001), contender("slow", 0.02)]
    take_turns(pair, Effort(repeats=(2, 6), seconds=0.03))
    assert order[:4] == ["quick", "slow", "slow", "quick"]
    assert len(pair[1].seconds) == 2
    assert len(pair[0].seconds) == 6
    row = pair[1].row()
    assert row["seconds"]["median"] > row["seconds_without_assembly"]["median"] >= 0.01


def test_ratio_and_verdict():
    assert ratio([10.0], [2.0]) == {"median": 5.0, "low": 5.0, "high": 5.0}

    def row(name: str, seconds: float) -> dict:
        timing = {"median": seconds, "raw": [seconds]}
        return {"contender": name, "seconds": timing, "seconds_without_assembly": timing}

    rows = [row("a", 1.0), row("b", 4.0), row("c", 3.0), {"contender": "d", "refused": "not accurate"}]
    duel = Duel(lambda name: name == "a", lambda name: name != "a", 3.5).judge(rows)
    assert duel["peer"] == "c"
    assert duel["ratio"]["median"] == 3.0
    assert duel["holds"] is False
    assert Duel("d".__eq__, "a".__eq__, 1.0).judge(rows)["holds"] is False


@pytest.mark.parametrize("jacobi", [False, True])
def test_slices_solve_each_item_to_its_own_tolerance(jacobi):
    scores, edges = make_family("soft3", (12, 10), dtype=torch.float64, batch=3)
    scores[1] *= 1e6
    scores[2] = 0
    cotangent = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value, adjoint, gradient, _ = torch_slices.forward_backward(scores, edges, cotangent, 1e-9, jacobi)
    for n in range(2):
        item = (tensor[n : n + 1] for tensor in (scores, edges, cotangent))
        truth = solve_truth(Problem("item", (12, 10), *item))
        size = float(scores[n].abs().max())
        assert np.allclose(value[n, 0], truth.outcome.value, atol=1e-7 * size)
        assert np.allclose(adjoint[n, 0], truth.outcome.grad_scores, atol=1e-7)
        assert np.allclose(gradient[n], truth.outcome.grad_edges, atol=1e-6 * size)
    assert (value[2] == 0).all()


@pytest.mark.skipif(not memory_probe.STATUS.exists(), reason="the kernel tells peaks on Linux only")
def test_the_probe_sees_a_peak_that_is_gone():
    # In a process of its own: one that has freed much may have the memory already.
    program = """
import torch
from benchmarks import memory_probe
if memory_probe.reset_peak():
    before = memory_probe.status("VmRSS")
    passing = torch.ones(16_000_000)
    del passing
    print(memory_probe.status("VmHWM") - before)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, cwd=root
    )
    if not done.stdout:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 0.9 * 64e6 < int(done.stdout) < 1.5 * 64e6


def test_superlu_returns_what_it_assembled():
    outcome = SuperLU().forward_backward(make_problem("soft3", (16, 16)), Setting())
    assert outcome.assembly_seconds > 0
    assert outcome.grad_edges.shape == (2, 16, 16)


def _has_skimage() -> bool:
    try:
        import skimage  # noqa: F401
    except ImportError:
        return False
    return True
