"""The flow's benchmarks at tiny sizes: peers and ours agree, and what is said is what was measured."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from benchmarks.claims import flow_accuracy, flow_fig_5_3, flow_gradient, flow_growth
from benchmarks.flow_memory import measure, probe
from benchmarks.flow_peers import BEYOND, EAGER, Task, arnoldi, euler
from benchmarks.flow_problem import contenders, in_double, make_task, ours, relative_error, taylor
from benchmarks.harness import Effort
from benchmarks.options import Options
from benchmarks.results_io import load, save
from benchmarks.table import markdown

from flowcut.core.neighborhood import Neighborhood

EAGER_AND_HAND = {**EAGER, "derivatives by hand": BEYOND["derivatives by hand"]}
CLAIMS = {
    claim.__name__.rsplit(".", 1)[-1]: claim
    for claim in (flow_gradient, flow_growth, flow_fig_5_3, flow_accuracy)
}
QUICK = Options(size=12, effort=Effort(repeats=(1, 1), seconds=0.0))


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    with pytest.MonkeyPatch.context() as patch:
        # The other windows and times run in test_command.py.
        patch.setattr(flow_gradient, "TARGETS", {5: 6.0})
        patch.setattr(flow_accuracy, "TIMES", (5, 20))
        return {name: claim.run(QUICK) for name, claim in CLAIMS.items()}


def tiny(window: int = 3, time: float = 5.0, steps: int = 5) -> Task:
    return in_double(make_task((7, 6), 3, window, time=time, steps=steps))


def dense(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Omega and A as matrices, by a loop over pixels and neighbours, differentiable in the weights."""
    height, width = task.weights.shape[2:]
    pixels, labels = height * width, task.evidence.shape[1]
    side = round(task.weights.shape[1] ** 0.5)
    omega = torch.zeros(pixels, pixels, dtype=torch.float64)
    for k, (di, dj) in enumerate(Neighborhood.window(2, side).offsets):
        for i in range(height):
            for j in range(width):
                if 0 <= i + di < height and 0 <= j + dj < width:
                    place = torch.zeros_like(omega)
                    place[i * width + j, (i + di) * width + j + dj] = 1
                    omega = omega + task.weights[0, k, i, j] * place
    s = (omega @ task.evidence[0].reshape(labels, pixels).T).softmax(dim=1)
    blocks = [
        [(torch.diag(s[:, a] * (float(a == b) - s[:, b]))) @ omega for b in range(labels)]
        for a in range(labels)
    ]
    return s.T.reshape(-1), torch.cat([torch.cat(row, dim=1) for row in blocks])


def dense_gradient(task: Task, euler_steps: int | None) -> torch.Tensor:
    """By autograd through the dense exponential, or through dense Euler steps."""
    task = task._replace(weights=task.weights.detach().requires_grad_())
    s, a = dense(task)
    b = s - 1 / task.evidence.shape[1]
    if euler_steps is None:
        generator = torch.cat([torch.cat([a, b[:, None]], dim=1), torch.zeros(1, len(b) + 1)], dim=0)
        y = torch.linalg.matrix_exp(task.time * generator)[:-1, -1]
    else:
        y = torch.zeros_like(b)
        for _ in range(euler_steps):
            y = y + task.time / euler_steps * (b + a @ y)
    (y * task.cotangent.flatten()).sum().backward()
    assert task.weights.grad is not None
    return task.weights.grad


def inside(task: Task) -> torch.Tensor:
    side = round(task.weights.shape[1] ** 0.5)
    return Neighborhood.window(2, side).inside(tuple(task.weights.shape[2:]))


@pytest.mark.parametrize("window", [3, 5])
def test_every_formulation_is_euler(window):
    task = tiny(window)
    exact = dense_gradient(task, euler_steps=5)
    for name, formulation in EAGER_AND_HAND.items():
        gradient = euler(formulation, task)[1]
        assert relative_error(gradient, exact) < 1e-12, name
        assert (gradient[0][~inside(task)] == 0).all(), name


def test_truth_is_the_dense_exponential():
    task = tiny()
    exact = dense_gradient(task, euler_steps=None)
    assert relative_error(taylor(task)[1], exact) < 1e-12
    assert relative_error(ours(task, "exact", None)[1], exact) < 1e-12
    # What flow_gradient takes for the truth.
    assert (
        relative_error(ours(task._replace(steps=max(flow_gradient.EXACT_DIMENSIONS)), rank=None)[1], exact)
        < 1e-12
    )


def test_truth_holds_for_long_times():
    task = tiny(time=40.0)
    assert relative_error(taylor(task)[1], dense_gradient(task, euler_steps=None)) < 1e-11


def test_peers_through_arnoldi_converge_to_the_same():
    task = tiny(steps=20)
    exact = dense_gradient(task, euler_steps=None)
    for name, formulation in EAGER_AND_HAND.items():
        assert relative_error(arnoldi(formulation, task)[1], exact) < 1e-10, name
    assert relative_error(ours(task, "autograd-arnoldi")[1], exact) < 1e-10


def test_all_contenders_return_value_and_gradient():
    task = tiny(time=1.0, steps=8)
    exact = taylor(task)
    for name, gradient in contenders(compiler=False).items():
        value, to_weights = gradient(task)
        assert value.shape == task.evidence.shape
        assert to_weights.shape == task.weights.shape
        # Eight Euler steps of T = 1 come within a few per cent.
        allowed = 0.1 if "Euler" in name else 1e-4
        assert relative_error(value, exact[0]) < allowed, name
        assert relative_error(to_weights, exact[1]) < allowed, name


def test_floor_counts_the_bytes():
    task = make_task((4, 4), labels=2, window=3)
    # 10 products of 9 + 6 numbers; contraction: 24 of the bases, 4 of S and evidence, 9 + 2 written.
    assert flow_gradient.floor_bytes(task) == 4 * 16 * (10 * 15 + 24 + 4 + 11)


def test_memory_is_judged_against_the_most_frugal_peer():
    used = {"flowcut, convolution": 30, "Euler, unfold": 300, "Euler, padded": 60}
    rows = [{"contender": name, "memory": {"extra_bytes": value}} for name, value in used.items()]
    judged = flow_gradient._memory_verdict(rows, "Euler, unfold", window=5)
    assert judged == {"share": 0.1, "frugal": "Euler, padded", "share_of_frugal": 0.5, "holds": False}


def test_inaccurate_gradients_are_not_timed(monkeypatch):
    monkeypatch.setattr(flow_gradient, "TARGETS", {3: 2.5})
    broken = {"Euler, padded": partial(euler, lambda w: EAGER["padded"](1.001 * w))}
    monkeypatch.setattr(
        flow_gradient, "contenders", lambda compiler: {"flowcut, convolution": ours, **broken}
    )
    (window,) = flow_gradient.run(QUICK)["windows"]
    mine, peer = window["rows"]
    assert "seconds" in mine
    assert peer["refused"] == "not accurate"
    assert window["duels"]["eager"]["peer"] is None


@pytest.mark.parametrize("name", CLAIMS)
def test_results_become_tables(results, name, tmp_path, monkeypatch):
    monkeypatch.setattr(flow_accuracy, "TIMES", (5, 20))
    save({"claim": name, **results[name]}, tmp_path)
    for heading, header, rows in CLAIMS[name].tables(load(name, tmp_path)):
        assert heading
        assert rows
        assert all(len(row) == len(header) for row in rows)
        assert all(isinstance(cell, str) for row in rows for cell in row)
        assert "None" not in markdown(header, rows)


def test_gradient_claim_is_accurate_and_complete(results):
    (window,) = results["flow_gradient"]["windows"]
    assert {row["contender"] for row in window["rows"]} == set(contenders(compiler=False))
    assert not any("refused" in row for row in window["rows"])
    assert window["truth_error"] < 1e-10
    assert window["duels"]["eager"]["peer"] in flow_gradient.PEERS


def test_accuracy_grows_with_the_dimension(results):
    rows = results["flow_accuracy"]["rows"]
    double = [row for row in rows if row["dtype"] == "float64" and row["form"] == "convolution"]
    for time in (5, 20):
        errors = [row["errors"][-1] for row in double if row["time"] == time]
        assert len(errors) == len(flow_accuracy.DIMENSIONS)
        assert errors == sorted(errors, reverse=True)
    assert all(len(row["errors"]) == row["dim"] for row in rows)


def test_exponent_is_that_of_the_fit():
    rows = [
        {"shape": [n, n], "labels": 2, "seconds": {"median": 1e-6 * (2 * n * n) ** 1.25}, "memory": None}
        for n in (64, 128, 256)
    ]
    judged = flow_growth._judge(rows)
    assert judged["exponents"]["time"] == pytest.approx(1.25)
    assert judged["exponents"]["memory"] is None
    assert judged["holds"] is False


def test_noise_is_learned():
    (small, large) = flow_fig_5_3.run(Options(size=48, effort=Effort(repeats=(1, 1))))["rows"]
    for row in (small, large):
        assert row["reached"]
        assert row["runs"][0]["wrong"][0] > 0.5
        assert row["runs"][0]["wrong"][-1] < flow_fig_5_3.WRONG


def test_memory_of_an_array_is_seen():
    # One gradient of 256² x 6 keeps at least its two Krylov spaces of 6 vectors.
    found = probe("flowcut, convolution", (256, 256), 6, 3)
    json.dumps(found)
    array = 4 * 256 * 256
    assert 2 * 6 * 6 * array < found["extra_bytes"] < 400 * array
    assert found["outputs_bytes"] == (6 + 9) * array


def test_memory_refuses_unknown_contenders():
    with pytest.raises(KeyError, match="nobody"):
        measure("nobody", (8, 8), 2, 3)
