"""The whole command at 32²: every claim runs, is saved, and becomes tables. Nothing is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.claims import all_claims
from benchmarks.peers import all_peers
from benchmarks.problem import ACCURACY

ROOT = Path(__file__).parents[2]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: some peers' thread runtimes do not survive a fork of the test process.
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    quick = ["--size", "32", "--families", "soft3", "--repeats", "1", "2", "--seconds", "0"]
    done = command("benchmarks", *quick, "--output", str(folder))
    assert done.returncode == 0, done.stderr
    for title in (claim.TITLE for claim in all_claims().values()):
        assert title in done.stdout
    return folder


def read(results: Path, claim: str) -> dict:
    return json.loads((results / f"{claim}.json").read_text())


@pytest.mark.parametrize("claim", list(all_claims()))
def test_results_say_where_they_come_from(results, claim):
    result = read(results, claim)
    assert result["claim"] == claim
    assert result["date"].startswith("20")
    assert result["machine"]["usable_cores"] >= 1
    assert result["versions"]["torch"] != "not installed"
    assert result["others_share_of_processor"] is None or 0 <= result["others_share_of_processor"] <= 1
    assert not any(str(ROOT) in line for line in json.dumps(result).splitlines())


def test_every_peer_is_accurate_or_says_why_not(results):
    installed = {peer.name for peer in all_peers()[0]}
    seen = set()
    for claim in ("soft_cut", "cholesky"):
        for family in read(results, claim)["families"]:
            assert family["truth_error_bound"] < 1e-10
            for row in family["rows"]:
                seen.add(row["contender"])
                # These weights are easy: everyone is expected to manage.
                assert max(row["errors"].values()) <= ACCURACY, row
                assert len(row["seconds"]["raw"]) >= 1
                assert row["seconds"]["median"] >= row["seconds_without_assembly"]["median"] > 0
    assert installed <= seen
    assert {"flowcut (default)", "flowcut CG", "flowcut Cholesky"} <= seen


def test_batch_compares_at_one_tolerance(results):
    result = read(results, "batch")
    rows = result["families"][0]["rows"]
    assert {row["setting"] for row in rows} == {f"rtol={result['rtol']:.0e}"}
    assert all(max(row["errors"].values()) <= ACCURACY for row in rows)


def test_growth_has_a_row_a_size(results):
    result = read(results, "growth")
    for axes in result["axes"]:
        for row in axes["rows"]:
            assert row["shape"] == row["memory"]["shape"]
            assert row["steps"] == result["steps"]


def test_tables_from_saved_results(results):
    done = command("benchmarks.table", "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert "| soft3 |" in done.stdout
    assert "PARDISO" in done.stdout or "PARDISO one-shot" not in {p.name for p in all_peers()[0]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["benchmarks", "nothing"], "names: expected some of"),
        (["benchmarks", "--families", "nothing"], "families: expected some of"),
        (["benchmarks.table", "nothing"], "names: expected some of"),
    ],
)
def test_unknown_names_are_refused(words, message):
    done = command(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
