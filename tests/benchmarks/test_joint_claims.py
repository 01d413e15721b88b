"""The samplers' benchmarks at tiny sizes: who has the exact law passes, who has not is not timed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from benchmarks.claims import joint_gibbs, joint_sampling
from benchmarks.harness import Contender, Effort
from benchmarks.joint_checkerboard import SETTINGS, Checkerboard, library
from benchmarks.joint_peers import FLOWCUT, PEERS, ByHand, Moved, Peer, installed
from benchmarks.joint_problem import (
    ALLOWED,
    Check,
    arrays,
    deviations,
    keeps_the_law,
    make_energy,
    small_model,
)
from benchmarks.options import Options
from benchmarks.results_io import load, save
from benchmarks.table import markdown
from scipy.stats import chi2

import flowcut as fc

CLAIMS = {"joint_gibbs": joint_gibbs, "joint_sampling": joint_sampling}
QUICK = Options(size=8, effort=Effort(repeats=(1, 1), seconds=0.0))
CASES = (
    joint_gibbs.Case("Table 1", 2, (3, 8), 1000, 4),
    joint_gibbs.Case("no field", 2, (64, 64), 64, 4),
    joint_gibbs.Case("fields", 4, (256, 256), 1, 4),
)
EVERYONE = [(peer, setting) for peer in (FLOWCUT, *installed()[0]) for setting in peer.settings]


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    with pytest.MonkeyPatch.context() as patch:
        # The others run in test_command.py.
        patch.setattr(joint_gibbs, "CASES", CASES)
        return {name: claim.run(QUICK) for name, claim in CLAIMS.items()}


def tiny(labels: int = 2) -> Check:
    """A model with costs and unequal ties, of odd sides, small enough to enumerate."""
    energy = make_energy("fields", (3, 5), labels)
    return Check(energy, fc.exact_law(energy))


def enumerated(energy: fc.PottsEnergy) -> tuple[np.ndarray, np.ndarray]:
    """All labelings (S, n) and their probabilities, by the plain formula."""
    count, labels = math.prod(energy.spatial), energy.num_labels
    states = np.indices((labels,) * count).reshape(count, -1).T
    given = arrays(energy)
    grid = states.reshape(-1, *energy.spatial)
    cost = sum((given.unary[j] * (grid == j)).sum(axis=(1, 2)) for j in range(labels))
    cost = cost + (given.down[:-1] * (grid[:, :-1] != grid[:, 1:])).sum(axis=(1, 2))
    cost = cost + (given.right[:, :-1] * (grid[:, :, :-1] != grid[:, :, 1:])).sum(axis=(1, 2))
    weights = np.exp(cost.min() - cost)
    return states, weights / weights.sum()


def test_arrays_are_the_energy():
    energy = make_energy("fields", (2, 3), 3)
    states, probability = enumerated(energy)
    labels = torch.from_numpy(states).reshape(-1, 2, 3)
    expected = (-energy.energy(labels).double()).softmax(dim=0).numpy()
    np.testing.assert_allclose(probability, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("peer", "setting"), EVERYONE, ids=[f"{peer.name}, {setting}".strip(", ") for peer, setting in EVERYONE]
)
def test_everyone_draws_the_exact_law(peer, setting):
    for labels in (2, 3):
        check = tiny(labels)
        if peer.refuses(check.energy) == "no fields":
            energy = fc.PottsEnergy(torch.zeros_like(check.energy.unary), check.energy.edges)
            check = Check(energy, fc.exact_law(energy))
        if not peer.refuses(check.energy):
            found = joint_gibbs.accuracy(peer.make(check.energy, 512, setting), check)
            assert keeps_the_law(found), found


@pytest.mark.parametrize("name", ["NumPy", "PyTorch"])
def test_a_sweep_keeps_the_law(name):
    """Chi-square over all states after one sweep from exact draws."""
    energy = make_energy("fields", (2, 3), 2)
    states, probability = enumerated(energy)
    count, generator = 20_000, np.random.default_rng(0)
    drawn = states[generator.choice(len(states), count, p=probability)]
    for setting in SETTINGS:
        board = Checkerboard(arrays(energy), count, setting, library(name))
        spins = (2 * drawn - 1).astype(np.float32).reshape(count, 2, 3)
        spins = np.moveaxis(spins, 0, -1) if board.last else spins
        board.states[board._index(slice(1, -1), slice(1, -1))] = board.using.array(spins)
        after = board.advance(1) @ (1 << np.arange(5, -1, -1))
        seen = np.bincount(after, minlength=len(states))
        square = ((seen - count * probability) ** 2 / (count * probability)).sum()
        assert square < chi2.ppf(0.9999, len(states) - 1), setting
        assert (board.advance(1) @ (1 << np.arange(5, -1, -1)) != after).mean() > 0.3


def test_wrong_law_is_seen():
    check = tiny()
    warm = fc.PottsEnergy(check.energy.unary, 0.8 * check.energy.edges)
    for energy, right in ((check.energy, True), (warm, False)):
        sampler = ByHand(energy, 1024, "chains first", "NumPy")
        assert keeps_the_law(joint_gibbs.accuracy(sampler, check)) is right
    assert not keeps_the_law({"marginals": math.nan})
    still = [np.zeros((100, 15), np.int8)]
    assert deviations(check, still)["marginals"] > ALLOWED


class Loaded:
    """Draws label 1 too often."""

    def __init__(self, energy: fc.PottsEnergy, chains: int, setting: str) -> None:
        self.shape, self.generator = (chains, math.prod(energy.spatial)), np.random.default_rng(0)

    def advance(self, sweeps: int) -> Moved:
        return Moved((self.generator.random(self.shape) < 0.9).astype(np.int8))


def test_who_has_another_law_is_not_timed(monkeypatch):
    monkeypatch.setattr(joint_gibbs, "CASES", CASES[1:2])
    loaded = Peer("loaded", "numpy", ("",), Loaded, lambda energy: "")
    monkeypatch.setattr("benchmarks.joint_peers.PEERS", (loaded,))
    (case,) = joint_gibbs.run(QUICK)["cases"]
    mine, peer = case["rows"]
    assert "seconds" in mine
    assert peer["refused"] == "not the exact law"
    assert case["duel"]["peer"] is None


def test_who_is_not_installed_is_named(monkeypatch):
    absent = PEERS[0]._replace(name="absent", package="no_such_package_at_all")
    monkeypatch.setattr("benchmarks.joint_peers.PEERS", (absent, *PEERS[2:]))
    found, missing = installed()
    assert [peer.name for peer in found] == [peer.name for peer in PEERS[2:]]
    assert list(missing) == ["absent"]
    assert installed(("NumPy checkerboard",))[1] == {}


@pytest.mark.parametrize("name", CLAIMS)
def test_results_become_tables(results, name, tmp_path):
    save({"claim": name, **results[name]}, tmp_path)
    for heading, header, rows in CLAIMS[name].tables(load(name, tmp_path)):
        assert heading
        assert rows
        assert all(len(row) == len(header) for row in rows)
        assert all(isinstance(cell, str) for row in rows for cell in row)
        assert "None" not in markdown(header, rows)


def test_gibbs_claim_counts_updates(results):
    cases = results["joint_gibbs"]["cases"]
    assert [case["updates"] for case in cases] == [8 * 24 * 4, 8 * 64 * 4, 64 * 4]
    for case in cases:
        rows = {row["contender"]: row for row in case["rows"]}
        assert set(rows) == {"flowcut", *(peer.name for peer in installed()[0])}
        assert not [row for row in rows.values() if row.get("refused") == "not the exact law"]
        assert "seconds" in rows["NumPy checkerboard"]
        assert case["duel"]["peer"] is not None
    header, rows = joint_gibbs.tables(results["joint_gibbs"])[1][1:]
    assert rows[0][0] == "Table 1, 2 labels, 3×8 × 8"
    if "peapods" in header:
        assert rows[0][header.index("peapods")] == "no fields"
        assert rows[2][header.index("peapods")] == "two labels only"


def test_sampling_claim_says_what_draws_are_worth(results):
    result = results["joint_sampling"]
    rows = {row["contender"]: row for row in result["rows"]}
    assert list(rows) == ["randomized flow, t = 1", "randomized flow, limit", "exact law", "Gibbs"]
    # The best naive mean field of this model, found elsewhere: KL 1.9683.
    assert result["mean_field_kl"] == pytest.approx(1.9683, abs=1e-4)
    for row in list(rows.values())[:2]:
        assert 0 <= row["kl"][0] <= row["kl"][1] < result["mean_field_kl"]
    assert rows["exact law"]["kl"] is rows["Gibbs"]["kl"] is None
    # Of a mean over n draws the standard error is at most 0.5 / sqrt(n), and pixels depend on each other.
    assert rows["exact law"]["marginal_difference"] < 4 * 0.5 / math.sqrt(joint_sampling.QUICK.judged)
    energy, interface = rows["Gibbs"]["sweeps"]
    assert 1 < energy < interface
    assert rows["Gibbs"]["labelings"] == pytest.approx(1000 * joint_sampling.QUICK.sweeps[1] / interface)
    for verdict, row in zip(result["verdicts"], result["rows"][:2], strict=True):
        rate = row["labelings"] / row["seconds"]["median"]
        assert verdict["rate"] == pytest.approx(rate)
        assert verdict["holds"] is (rate >= 100_000)
        assert verdict["times"]["Gibbs"]["median"] > 0


def test_flows_no_better_than_independent_pixels_are_not_timed(monkeypatch):
    unfitted = joint_sampling.QUICK._replace(steps=0, judged=2000, drawn=64, sweeps=(400, 10))
    monkeypatch.setattr(joint_sampling, "QUICK", unfitted)
    result = joint_sampling.run(QUICK)
    for row in result["rows"][:2]:
        assert row["refused"] == "no better than independent pixels"
        assert "seconds" not in row
    assert [one["holds"] for one in result["verdicts"]] == [None, None]
    assert joint_sampling.tables(result)[0][2][0][1] == "not accurate"


def test_position_is_the_column_of_the_interface():
    straight = (torch.arange(8) >= 3).long().expand(1, 3, 8)
    assert joint_sampling.position(straight).tolist() == [3.0]


def test_runs_never_draw_the_same_twice():
    seeds: list[int] = []
    run = joint_sampling._counting(seeds.append)
    assert Contender("", "", run, {}).run().assembly_seconds == 0
    run()
    assert seeds == [0, 1, 2]


def test_small_models_are_those_of_the_paper():
    law = small_model("Table 1", 2).law
    assert float(law.log_z) == pytest.approx(5.1362, abs=1e-4)
    assert small_model("fields", 4).energy.shape == (4, 8, 8)
    assert make_energy("no field", (4, 4)).unary.abs().max() == 0
