"""Every snippet and every command of README.md is run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image

from flowcut.apps.main import main
from tests.train.helpers import write_pairs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if shlex.split(line, comments=True)
]

# What is added to a command so that it takes seconds; everything else runs as it is printed.
_TINY = ["--training.epochs=1", "--training.batch_size=4", "--network.width=2", "--dataset.size=[24,24]"]
SMALLER = {"train": _TINY, "predict": [], "evaluate": [], "demo": []}


def flowcut_commands() -> list[list[str]]:
    return [words[1:] for words in COMMANDS if words[0] == "flowcut"]


def test_every_block_is_of_a_kind_that_is_run():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert {words[0] for words in COMMANDS} == {"flowcut", "make", "pip"}
    assert README.count("```") == 2 * len(BLOCKS)


def test_snippets_run_one_after_another(capsys):
    torch.manual_seed(0)
    names: dict = {}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), names)
    truth, scores = names["image"] > 0, names["scores"]
    # What the first snippet promises: the cut is nearer to the square than the scores are.
    assert (names["mask"] == truth).float().mean() > 0.97 > ((scores > 0) == truth).float().mean()
    assert scores.grad.abs().sum() > 0
    assert names["labels"].tolist() == [[1] * 16 + [2] * 16] * 32
    assert names["drawn"].shape == (1000, 3, 8)
    assert abs(names["weighted"].log_z.value - names["law"].log_z) < 0.5
    assert names["solution"].error_bound.shape == (1, 1)
    assert all(p.grad is not None for p in names["network"].parameters())


def test_the_first_snippet_has_ten_lines_and_needs_torch_and_flowcut_alone():
    lines = [line for line in PYTHON[0].splitlines() if line]
    assert len(lines) <= 10
    assert [line for line in lines if "import" in line] == ["import torch", "import flowcut as fc"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """The folders that the commands name."""
    folder = tmp_path_factory.mktemp("readme")
    for images, masks, split in (
        ("pictures", "masks", "train"),
        ("new_pictures", None, "val"),
        ("test_pictures", "test_masks", "test"),
    ):
        made = write_pairs(folder / split, 10, size=24, split=split)
        made[0].rename(folder / images)
        if masks:
            made[1].rename(folder / masks)
    horses = folder / "data" / "horses"
    (horses / "images").mkdir(parents=True)
    shutil.copytree(folder / "masks", horses / "masks")
    names = sorted(path.stem for path in (folder / "pictures").iterdir())
    for name in names:
        Image.open(folder / "pictures" / f"{name}.png").save(horses / "images" / f"{name}.jpg")
    for split, part in (("train", names[:6]), ("val", names[6:8]), ("test", names[8:])):
        (horses / f"{split}.txt").write_text("\n".join(part))
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    return folder


def test_commands_run_in_the_order_they_are_printed(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    commands = flowcut_commands()
    assert {words[0] for words in commands} == {"train", "predict", "evaluate"}
    for words in commands:
        assert main([*words, *SMALLER[words[0]]]) == 0, capsys.readouterr().err
    runs = {words[words.index("--output") + 1] for words in commands if words[0] == "train"}
    assert all((workplace / run / "best.pt").exists() for run in runs)
    assert len(list((workplace / "predictions" / "masks").iterdir())) == 10


def test_every_command_has_its_help(capsys):
    for word in SMALLER:
        assert main([word, "--help"]) == 0
    assert "--resume" in _help("train", capsys)
    assert "--json" in _help("evaluate", capsys)


def _help(word: str, capsys) -> str:
    capsys.readouterr()
    main([word, "--help"])
    return capsys.readouterr().out


def mentioned_targets() -> list[str]:
    return sorted(set(re.findall(r"\bmake ([a-z][a-z-]*)(?=`| +#)", README)))


def test_make_targets_exist():
    targets = mentioned_targets()
    assert {"demo", "test", "docs", "bench"} <= set(targets)
    for target in targets:
        done = subprocess.run(
            ["make", "-n", "-C", str(ROOT), target], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_pip_installs_this_project_with_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [words[2:] for words in COMMANDS if words[0] == "pip"]
    assert asked[0] == ["."]
    assert {place.strip(".[]") for (place,) in asked[1:]} <= set(extras)


def test_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []
