"""Fits: schedules, small laws by enumeration, interruptions that leave no trace, refusals."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint import fitting
from flowcut.joint.divergence import mixture_log_prob
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law
from flowcut.joint.fitting import FitHistory, _Schedule
from flowcut.joint.objective import Objective, log_assignments, semi_implicit
from flowcut.joint.randomized import RandomizedAssignment
from tests.truths.brute_force import random_energy

_SMALL = {"steps": 12, "samples": 8, "time": 2.0, "seed": 3, "checkpoint_every": 5}


def _energy() -> PottsEnergy:
    return random_energy((2, 2), Neighborhood.edges(2), 3, "own")


def _model(**options: Any) -> RandomizedAssignment:
    return RandomizedAssignment((3, 2, 2), components=3, seed=1, **options)


def _same(a: RandomizedAssignment, b: RandomizedAssignment) -> bool:
    return a.time == b.time and all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# --- schedules


def test_schedules() -> None:
    schedule = _Schedule(100, 0.02, (1.0, 4.0), 0.1, 0.5, (0.2, 0.7))
    assert [schedule.rate(s) for s in (0, 20, 50)] == [0.02] * 3
    # Half way down the cosine, and a quarter before its end.
    assert schedule.rate(75) == pytest.approx(0.01)
    assert schedule.rate(87.5) == pytest.approx(0.01 * (1 - math.sqrt(0.5)))
    assert schedule.rate(100) == pytest.approx(0, abs=1e-12)
    assert schedule.inverse_temperature(0) == pytest.approx(0.1)
    assert schedule.inverse_temperature(25) == pytest.approx(math.sqrt(0.1))
    assert [schedule.inverse_temperature(s) for s in (50, 80, 99)] == [1.0] * 3
    assert [schedule.time(s) for s in (0, 10, 20)] == [1.0] * 3
    assert schedule.time(45) == pytest.approx(2.0)
    assert [schedule.time(s) for s in (70, 99)] == pytest.approx([4.0] * 2)


def test_schedules_without_phases() -> None:
    held = _Schedule(10, 0.02, (1.0, 4.0), 0.1, 1.0, (0.0, 0.0))
    assert [held.rate(s) for s in range(10)] == [0.02] * 10
    assert held.inverse_temperature(5) == pytest.approx(math.sqrt(0.1))
    assert [held.time(s) for s in range(1, 10)] == pytest.approx([4.0] * 9)
    sudden = _Schedule(10, 0.02, (1.0, 4.0), 0.1, 0.0, (1.0, 1.0))
    assert [sudden.inverse_temperature(s) for s in range(10)] == [1.0] * 10
    assert sudden.rate(5) == pytest.approx(0.01)
    assert [sudden.time(s) for s in range(10)] == [1.0] * 10


def test_a_step_is_one_of_adam() -> None:
    """The first moves every number with a gradient by the rate: Adam's g / |g|."""
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = model.fit(_energy(), steps=1, samples=64, lr=1e-3)
    assert history.step == len(history.free_energy) == 1
    moved = 0
    for name, value in model.state_dict().items():
        change = (value - before[name]).abs()
        assert (torch.isclose(change, torch.tensor(1e-3), rtol=1e-2, atol=0) | (change < 1e-3)).all(), name
        moved += int(torch.isclose(change, torch.tensor(1e-3), rtol=1e-2, atol=0).sum())
    assert moved > 50


def test_history_and_time() -> None:
    model, seen = _model(), []
    history = model.fit(_energy(), callback=lambda h: seen.append((h.step, h.seconds)), **_SMALL)
    assert [s for s, _ in seen] == list(range(1, 13))
    assert 0 < seen[0][1] < seen[-1][1] <= history.seconds
    assert len(history.free_energy) == history.step == 12
    assert model.time == 2.0
    assert model.fit(_energy(), steps=0, samples=8).free_energy == []
    early = _model()
    assert early.fit(_energy(), steps=50, samples=8, callback=lambda h: h.step == 3).step == 3


def test_progress_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    _model().fit(_energy(), steps=12, samples=8, progress=True)
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "step 10/12" in err
    assert "step 12/12: free energy " in err
    _model().fit(_energy(), steps=2, samples=8)
    assert capsys.readouterr() == ("", "")


# --- what is fitted


def _pair(labels: int = 2) -> PottsEnergy:
    g = torch.Generator().manual_seed(labels)
    unary = torch.randn(1, labels, 2, generator=g)
    return PottsEnergy(unary, torch.tensor([[[2.5, 0.0]]]))


_KITE = Graph(torch.tensor([[0, 1, 2, 3, 1], [1, 2, 3, 0, 4]]), 5)


def _kite() -> PottsEnergy:
    """One tie repels: a ring that cannot be satisfied, with a tail."""
    unary = 0.3 * torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0))
    return PottsEnergy(unary, torch.tensor([[1.5, 1.5, -1.5, 1.5, 2.0]]), None, _KITE)


_FITS = {
    "two pixels": (_pair(), None, 0.003),
    "three labels": (_pair(3), None, 0.004),
    "graph": (_kite(), _KITE, 0.01),
    "window": (
        random_energy((2, 3), Neighborhood.edges(2), 2, "none").to(torch.float32),
        Neighborhood.edges(2, 2),
        0.02,
    ),
}


def _law(model: RandomizedAssignment, count: int = 60_000, seed: int = 77) -> Any:
    """log P of labelings, by other flows than those of any fit or sample."""
    log_s = model.log_assignments(count, seed=seed).double()
    return lambda labels: mixture_log_prob(log_s, labels)


@pytest.mark.parametrize("name", list(_FITS))
def test_a_small_law_is_found(name: str) -> None:
    energy, couplings, kl = _FITS[name]
    law = exact_law(energy)
    # Independent pixels with the true marginals are far from it.
    product = law.kl(lambda labels: mixture_log_prob(law.marginals.log()[None], labels))
    model = RandomizedAssignment(energy.shape, couplings, components=4)
    before = float(law.kl(_law(model)))
    model.fit(energy, steps=300, samples=128, lr=0.02)
    after = float(law.kl(_law(model)))
    assert after < kl < 0.5 * float(product) < before
    assert (model.marginals(20_000).value - law.marginals).abs().max() < 0.03


@pytest.mark.parametrize("objective", ["semi-implicit", "paper"])
def test_objectives_go_down(objective: str) -> None:
    energy = _energy().to(torch.float32)
    model = _model()
    history = model.fit(energy, steps=100, samples=64, beta=1.0, objective=objective)
    first, last = (sum(history.free_energy[s]) / 10 for s in (slice(0, 10), slice(-10, None)))
    assert last < first - 0.5


def test_the_estimate_bounds_the_free_energy() -> None:
    """At beta = 1 it is -log Z + KL: never below -log Z by more than noise, and near it at the end."""
    law = exact_law(_pair())
    model = RandomizedAssignment((2, 2), components=4)
    history = model.fit(_pair(), steps=300, samples=128, lr=0.02)
    tail = torch.tensor(history.free_energy[-50:])
    error = float(tail.std()) / math.sqrt(50)
    assert float(tail.mean() + law.log_z) == pytest.approx(0.004, abs=0.01 + 4 * error)


def test_a_memory_of_earlier_draws_helps_where_they_are_few() -> None:
    energy, law = _energy().to(torch.float32), exact_law(_energy())
    found = []
    for memory in (0, 20):
        model = _model()
        model.fit(energy, steps=250, samples=8, lr=0.02, time=4.0, memory=memory)
        found.append(float(law.kl(_law(model, 20_000))))
    assert found[1] < found[0]


def test_the_memory_holds_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor | None]] = []

    def spy(logits: Tensor, *rest: Any) -> Objective:
        seen.append((log_assignments(logits.detach()), rest[-1]))
        return semi_implicit(logits, *rest)

    monkeypatch.setitem(fitting._OBJECTIVES, "semi-implicit", spy)
    _model().fit(_energy(), steps=5, samples=8, memory=2)
    for step, (_, earlier) in enumerate(seen):
        known = [log_s for log_s, _ in seen[max(step - 2, 0) : step]]
        if not known:
            assert earlier is None
        else:
            assert earlier is not None
            parts = {tuple(part.flatten().tolist()) for part in earlier.split(8, dim=2)}
            assert parts == {tuple(log_s.flatten().tolist()) for log_s in known}


# --- interruptions


@pytest.mark.parametrize("options", [{}, {"memory": 3}, {"objective": "paper"}], ids=str)
@pytest.mark.parametrize("step", [1, 5, 7, 11])
def test_an_interrupted_fit_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, step: int, options: dict[str, Any]
) -> None:
    path = tmp_path / "fit.pt"
    whole = _model()
    expected = whole.fit(_energy(), **_SMALL, **options)

    def interrupt(history: FitHistory) -> None:
        if history.step == step:
            raise KeyboardInterrupt

    model = _model()
    with pytest.raises(KeyboardInterrupt):
        model.fit(_energy(), checkpoint=path, callback=interrupt, **_SMALL, **options)
    assert path.exists() == (step >= 5)
    again, steps = _model(), []
    torch.manual_seed(step)  # plays no part
    history = again.fit(
        _energy(), checkpoint=path, callback=lambda h: steps.append(h.step), **_SMALL, **options
    )
    assert steps == list(range(1 + 5 * (step // 5), 13))
    assert _same(again, whole)
    assert history.free_energy == expected.free_energy
    assert history.step == 12
    assert [p.name for p in tmp_path.iterdir()] == ["fit.pt"]


_KILLED = """
import os, signal
from tests.joint.test_fitting import _SMALL, _energy, _model

replace, written = os.replace, 0

def killed_the_third_time(*names):
    global written
    written += 1
    os.kill(os.getpid(), signal.SIGKILL) if written == 3 else replace(*names)

os.replace = killed_the_third_time
_model().fit(_energy(), checkpoint={path!r}, **{options!r})
"""


def test_a_fit_killed_while_it_writes_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    options = {**_SMALL, "checkpoint_every": 3}
    program = _KILLED.format(path=str(path), options=options)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    whole, again = _model(), _model()
    expected = whole.fit(_energy(), **options)
    steps: list[int] = []
    history = again.fit(_energy(), checkpoint=path, callback=lambda h: steps.append(h.step), **options)
    assert steps[0] == 7
    assert _same(again, whole)
    assert history.free_energy == expected.free_energy


def test_seconds_add_up_over_interruptions(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    options = {**_SMALL, "checkpoint_every": 1}
    first = _model().fit(_energy(), checkpoint=path, callback=lambda h: h.step == 11, **options)
    second = _model().fit(_energy(), checkpoint=path, **options)
    assert second.step == 12
    assert second.seconds >= first.seconds
    # A finished fit is not repeated.
    third, model = _model(), _model()
    history = third.fit(_energy(), checkpoint=path, callback=lambda _: pytest.fail("a step"), **options)
    model.fit(_energy(), **options)
    assert history.seconds == second.seconds
    assert _same(third, model)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    _model().fit(_energy(), checkpoint=path, **_SMALL)
    others: dict[str, dict[str, Any]] = {
        "steps": {"steps": 13},
        "samples": {"samples": 9},
        "lr": {"lr": 0.02},
        "betas": {"betas": (0.9, 0.999)},
        "time": {"time": 3.0},
        "beta": {"beta": 0.2},
        "anneal": {"anneal": 0.6},
        "deepen": {"deepen": (0.2, 0.8)},
        "memory": {"memory": 2},
        "objective": {"objective": "paper"},
        "seed": {"seed": 4},
    }
    for name, other in others.items():
        model, untouched = _model(), _model()
        with pytest.raises(ValueError, match=f"^checkpoint: expected a fit with {name} .*fit.pt$"):
            model.fit(_energy(), checkpoint=path, **{**_SMALL, **other})
        assert _same(model, untouched)
    with pytest.raises(ValueError, match=r"^checkpoint: expected a fit with energy .*fit\.pt$"):
        _model().fit(_energy().at_temperature(0.9), checkpoint=path, **_SMALL)
    with pytest.raises(ValueError, match=r"^checkpoint: expected a fit with start_time "):
        _model(time=1.5).fit(_energy(), checkpoint=path, **_SMALL)
    for shape in ((3, 2, 3), (2, 2, 2)):
        model = RandomizedAssignment(shape, rank=2, components=3)
        energy = random_energy(shape[1:], Neighborhood.edges(2), shape[0], "none")
        with pytest.raises(ValueError, match=r"^checkpoint: expected a model of this shape"):
            model.fit(energy, checkpoint=path, **_SMALL)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    _model().fit(_energy(), checkpoint=path, **_SMALL)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"fit\.pt: expected a file of flowcut"):
        _model().fit(_energy(), checkpoint=path, **_SMALL)
    _model().save(path)
    with pytest.raises(ValueError, match="expected a randomized_fit of version 1"):
        _model().fit(_energy(), checkpoint=path, **_SMALL)
    with pytest.raises(OSError, match="nowhere"):
        _model().fit(_energy(), checkpoint=tmp_path / "nowhere" / "fit.pt", **_SMALL)


def test_the_same_fit_whatever_the_threads_and_the_global_seed() -> None:
    before, options = torch.get_num_threads(), {"steps": 4, "samples": 130, "memory": 2}
    models = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            models.append(_model())
            models[-1].fit(_energy(), **options)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    again = _model()
    again.fit(_energy(), seed=1, **options)
    assert not torch.allclose(next(again.parameters()), next(models[0].parameters()), atol=1e-4)


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps: expected an integer >= 0, got -1"),
        ({"samples": 1}, "samples: expected m >= 2, got 1"),
        ({"samples": 0}, "samples: expected m >= 2, got 0"),
        ({"lr": 0.0}, "lr: expected a finite number > 0, got 0.0"),
        ({"lr": math.inf}, "lr: expected a finite number > 0, got inf"),
        ({"lr": math.nan}, "lr: expected a finite number > 0, got nan"),
        ({"time": 0}, "time: expected a finite number > 0, got 0.0"),
        ({"time": -2.0}, "time: expected a finite number > 0, got -2.0"),
        ({"beta": 0.0}, "beta: expected a number in (0, 1], got 0.0"),
        ({"beta": 1.5}, "beta: expected a number in (0, 1], got 1.5"),
        ({"beta": math.nan}, "beta: expected a number in (0, 1], got nan"),
        ({"anneal": 1.1}, "anneal, deepen: expected shares in [0, 1] in order, got 1.1, (0.2, 0.7)"),
        ({"deepen": (0.7, 0.2)}, "anneal, deepen: expected shares in [0, 1] in order, got 0.5, (0.7, 0.2)"),
        ({"deepen": (0.2, 1.2)}, "anneal, deepen: expected shares in [0, 1] in order, got 0.5, (0.2, 1.2)"),
        ({"objective": "elbo"}, "objective: expected one of semi-implicit, paper, got 'elbo'"),
        ({"memory": -1}, "memory: expected an integer >= 0, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every: expected an integer >= 1, got 0"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_out_of_range(options: dict[str, Any], message: str) -> None:
    model, untouched = _model(), _model()
    with pytest.raises(ValueError, match="expected") as caught:
        model.fit(_energy(), **{**_SMALL, **options})
    assert str(caught.value) == message
    assert _same(model, untouched)


def test_energies_of_other_models_and_batches() -> None:
    batch = PottsEnergy(torch.zeros(2, 3, 2, 2), torch.ones(1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"^energy: expected one energy, got 2; pick one by energy\[i\]$"):
        _model().fit(batch, **_SMALL)
    for spatial, labels in (((2, 3), 3), ((2, 2), 2)):
        other = random_energy(spatial, Neighborhood.edges(2), labels, "none")
        with pytest.raises(ValueError, match=r"^energy: expected the model's shape \(3, 2, 2\), got \("):
            _model().fit(other, **_SMALL)


def test_a_loss_that_is_not_finite_is_not_followed() -> None:
    """Energies that overflow single precision."""
    energy = PottsEnergy(torch.full((1, 3, 2, 2), 2e38), torch.ones(1, 2, 2, 2))
    model, untouched = _model(), _model()
    with pytest.raises(ValueError, match=r"^energy: expected a finite estimate, got inf at step 0"):
        model.fit(energy, steps=3, samples=8, beta=1.0)
    assert _same(model, untouched)


def test_a_fit_in_double_precision() -> None:
    model = _model().double()
    history = model.fit(_energy(), **_SMALL)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert all(map(math.isfinite, history.free_energy))
    single = _model()
    other: list[Tensor] = [torch.tensor(h.free_energy) for h in (history, single.fit(_energy(), **_SMALL))]
    assert not torch.equal(*other)
