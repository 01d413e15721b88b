"""`flowcut reproduce` from names to files."""

import json

import pytest
import yaml

from flowcut.apps.main import main

TINY = {"size": [40, 36], "learning": {"steps": 2}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two tiny experiments and a training recipe in it, and nothing else."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("tiny_a", "tiny_b"):
        text = {"kind": "laf_fig_5_1", "title": f"the title of {name}", "paper": "p", "settings": TINY}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(text))
    (folder / "horses.yaml").write_text("dataset: {kind: weizmann_horses}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWCUT_DATA", raising=False)
    return tmp_path


def json_of(arguments, capsys):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("flowcut: error: ").rstrip("\n")


def test_a_name_is_run_and_tells_the_paper_beside_ours(place, capsys):
    assert main(["reproduce", "tiny_a"]) == 0
    out = capsys.readouterr().out
    assert "the title of tiny_a" in out
    assert "< 0.1 %" in out
    names = {path.name for path in (place / "runs" / "tiny_a").iterdir()}
    assert names == {"picture.png", "result.json", "settings.yaml", "work"}


def test_a_pattern_a_path_and_publishing(place, capsys):
    result = json_of(["reproduce", "tiny_*", "--output", "out", "--publish"], capsys)
    assert set(result) == {"tiny_a", "tiny_b"}
    published = {path.name for path in (place / "experiments" / "results").iterdir()}
    assert published == {"tiny_a.json", "tiny_a.png", "tiny_b.json", "tiny_b.png"}
    assert (place / "out" / "tiny_b" / "result.json").exists()
    one = json_of(["reproduce", "experiments/tiny_a.yaml", "--output", "there", "--scale=small"], capsys)
    assert one["tiny_a"]["scale"] == "small"
    assert one["tiny_a"]["values"] == result["tiny_a"]["values"]
    assert (place / "there" / "result.json").exists()


def test_resume_and_overwrite(place, capsys):
    first = json_of(["reproduce", "tiny_a"], capsys)["tiny_a"]
    assert "already holds a run" in error_of(["reproduce", "tiny_a"], capsys)
    for option in ("--resume", "--overwrite"):
        assert json_of(["reproduce", "tiny_a", option], capsys)["tiny_a"]["values"] == first["values"]


def test_the_list_has_experiments_and_no_training_recipes(place, capsys):
    titles = json_of(["reproduce", "--list"], capsys)
    assert titles["tiny_b"] == "the title of tiny_b"
    assert "horses" not in titles
    assert main(["reproduce", "--list"]) == 0
    assert "the title of tiny_a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "experiments: expected names, patterns or YAML files, got none; --list shows them"),
        (["tiny_c"], 'unknown experiment "tiny_c"; did you mean "tiny_'),
        (["no.yaml"], "no.yaml: expected a readable experiment, got: No such file or directory"),
        (["experiments/horses.yaml"], "expected an experiment (a key kind)"),
        (["tiny_a", "--scale=huge"], "scale"),
        (["tiny_a", "--data=no"], "--data: expected a folder, got no"),
        (["tiny_a", "--resume"], "--resume: expected a run in runs/tiny_a"),
        (["tiny_a", "--publish", "--scale=small"], "expected with --scale paper for tiny_a, got small"),
        (["tiny_a", "--sclae=small"], 'unknown option --sclae; did you mean "--scale"?'),
    ],
)
def test_errors_are_one_line(arguments, message, place, capsys):
    assert message in error_of(["reproduce", *arguments], capsys)
