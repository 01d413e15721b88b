"""The numbers of README.md and docs/results.md are those of the committed JSON files."""

import json
import re
import shutil

import pytest
from benchmarks.results_io import save

from docs import results

NUMBERS = {
    "test": {
        "iou": {"mean": 0.71234, "standard_error": 0.01, "count": 52},
        "accuracy": {"mean": 0.9, "standard_error": 0.02, "count": 52},
        "distinct_figures": {"mean": 12.34, "standard_error": 1.0, "count": 52},
    },
    "parameters": 12345,
    "seconds_per_epoch": 6.0,
    "seconds_total": 360.0,
    "best_epoch": 41,
    "epochs": 60,
    "device": "cpu (x86_64)",
    "threads": 2,
    "versions": {"torch": "2.0"},
}


@pytest.mark.parametrize("path", results.FILES, ids=lambda path: path.name)
def test_blocks_are_what_the_program_writes(path):
    text = path.read_text(encoding="utf-8")
    assert text == results.fill(text, results.FILES[path]), "run python -m docs.results"


PAGES = [path for path in results.FILES if path not in results.results_papers.PAGES.values()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_claim_has_its_block(path):
    names = re.findall(r"<!-- results:(\w+) -->", path.read_text(encoding="utf-8"))
    assert sorted(names) == sorted([*results.all_claims(), *results.TRAININGS])
    assert path.read_text(encoding="utf-8").count("<!-- end -->") == len(names)


def test_a_changed_number_changes_the_text(tmp_path):
    folder = tmp_path / "experiments" / "results"
    folder.mkdir(parents=True)
    for name in ("horses_base", "horses_softcut"):
        (folder / f"{name}.json").write_text(json.dumps(NUMBERS))
    text = "before\n<!-- results:horses -->\nby hand: 0.99\n<!-- end -->\nafter"
    filled = results.fill(text, full=False, root=tmp_path)
    assert "0.99" not in filled
    assert filled.startswith("before\n<!-- results:horses -->\n| recipe |")
    assert filled.endswith("<!-- end -->\nafter")
    row = "| horses_base | 0.712 ± 0.010 | 0.900 ± 0.020 | 12.3 ± 1.0 | 12,345 | 6.0 | 41 of 60 | 6.0 |"
    assert row in filled
    assert "52 test pictures" in filled
    assert results.fill(filled, full=False, root=tmp_path) == filled
    assert ".png" not in filled
    (folder / "horses.png").write_bytes(b"")
    assert "](experiments/results/horses.png)" in results.fill(text, full=False, root=tmp_path)
    assert "](../experiments/results/horses.png)" in results.fill(text, full=True, root=tmp_path)


def test_benchmarks_become_tables_short_and_full(tmp_path):
    duel = {"target": 2.0, "ours": "flowcut CG", "peer": "peer", "holds": True}
    duel |= {key: {"median": 3.21, "low": 3.0, "high": 3.4} for key in ("ratio", "ratio_without_assembly")}
    times = {"seconds": {"median": 0.125}, "seconds_without_assembly": {"median": 0.1}}
    machine = dict.fromkeys(
        ("processor", "usable_cores", "torch_threads", "memory_gib", "system", "python", "load_at_start"), "?"
    )
    result = {
        "claim": "soft_cut",
        "date": "2000-01-01T00:00:00",
        "machine": machine,
        "versions": {"torch": "2.0", "KLU": "not installed"},
        "missing_peers": ["KLU"],
        "size": [512, 512],
        "families": [{"family": "const10", "rows": [{"contender": "flowcut CG", **times}], "duel": duel}],
    }
    save(result, tmp_path / "benchmarks" / "results")
    short = results.block("soft_cut", full=False, root=tmp_path)
    full = results.block("soft_cut", full=True, root=tmp_path)
    assert "| const10 | flowcut CG | peer | 3.2 (3.0–3.4) | 3.2 (3.0–3.4) | 2 | yes |" in short
    assert "0.125" not in short
    assert "| const10 | 0.125 |" in full
    assert all(word in short for word in ("2000-01-01", "Not installed: KLU."))
    assert all(word in full for word in ("2000-01-01", "torch 2.0", "Not installed: KLU."))
    assert results.block("cholesky", full=True, root=tmp_path) == results.NOT_MEASURED


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="results:speed: expected one of"):
        results.fill("<!-- results:speed -->\n<!-- end -->\n<!-- end -->", full=False, root=tmp_path)


def test_the_command_writes_and_checks(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "README.md"
    shutil.copy(results.ROOT / "README.md", copy)
    text = copy.read_text()
    block = re.search(r"<!-- results:horses -->\n.*?\n<!-- end -->", text, re.DOTALL)
    copy.write_text(text.replace(block[0], "<!-- results:horses -->\n0.99\n<!-- end -->"))
    monkeypatch.setattr(results, "FILES", {copy: False})
    assert results.main(["--check"]) == 1
    assert "0.99\n<!-- end -->" in copy.read_text()
    assert results.main([]) == 0
    assert results.main(["--check"]) == 0
    assert copy.read_text() == text
    assert capsys.readouterr().out == "README.md: out of date\nREADME.md: written\nup to date\n"
