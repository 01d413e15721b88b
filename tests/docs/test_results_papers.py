"""The pages of the LAF and RAF papers have the numbers of the committed JSON files."""

import json

import pytest

from docs import results_papers


@pytest.mark.parametrize("prefix", results_papers.PREFIX)
def test_every_experiment_has_its_block_and_no_photograph_of_others_is_published(prefix):
    text = results_papers.PAGES[prefix].read_text(encoding="utf-8")
    names = results_papers.names(prefix)
    assert names
    for name in names:
        assert text.count(f"<!-- results:{name} -->") == 1
    published = {path.name for path in (results_papers.ROOT / "experiments" / "results").glob(f"{prefix}*")}
    assert published <= {f"{name}{end}" for name in names for end in (".json", ".png")}


def test_a_block_shows_rows_and_tells_what_is_missing(tmp_path):
    folder = tmp_path / "experiments" / "results"
    folder.mkdir(parents=True)
    (folder.parent / "laf_x.yaml").write_text("kind: x\n")
    assert results_papers.block("laf_x", tmp_path) == results_papers.NOT_MEASURED
    result = {
        "experiment": "laf_x",
        "scale": "small",
        "title": "t",
        "paper": "It works.",
        "rows": [{"what": "wrong", "paper": "< 1 %", "ours": "0.5 %", "timed": False}],
        "date": "2026-01-02T03:04:05",
        "device": "cpu",
        "threads": 1,
        "versions": {"torch": "2"},
    }
    (folder / "laf_x.json").write_text(json.dumps(result))
    text = results_papers.block("laf_x", tmp_path)
    assert "| wrong | < 1 % | 0.5 % |" in text
    assert "`flowcut reproduce laf_x --scale small`, 2026-01-02" in text
    assert ".png" not in text
    with pytest.raises(ValueError, match="results:laf_y: expected one of laf_x"):
        results_papers.block("laf_y", tmp_path)
