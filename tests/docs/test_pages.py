"""The snippets of the documentation run; the API page leaves no public name out; the pages build."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowcut as fc

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "first_steps",
        "segmentation",
        "train",
        "scribbles",
        "refine",
        "flows",
        "choose",
        "thesis",
        "laf",
        "joint",
        "embedding",
        "min_cut",
        "total_variation",
        "perturbed",
        "receptive_field",
    ],
)
def test_snippets_run_one_after_another(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict = {"__name__": page}
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)


def listed() -> list[str]:
    """Full names on the API page."""
    names = []
    for block in re.findall(r"```{eval-rst}\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL):
        module = re.search(r"currentmodule:: (\S+)", block)[1]
        names += [f"{module}.{name}" for name in re.findall(r"^   ([\w.]+)$", block, re.MULTILINE)]
    return names


def test_the_api_page_has_every_public_name():
    names = listed()
    assert len(names) == len(set(names))
    assert {f"flowcut.{name}" for name in fc.__all__} <= set(names)


@pytest.mark.parametrize("module", ["losses", "metrics", "networks", "data"])
def test_the_api_page_has_the_classes_of_vision(module):
    known = importlib.import_module(f"flowcut.vision.{module}")
    public = getattr(known, "__all__", None) or [
        name
        for name, value in vars(known).items()
        if isinstance(value, type) and value.__module__ == known.__name__
    ]
    # Bases, shapes of dictionaries and constants are no entry points.
    inner = {"SegmentationLoss", "PerImageMetric", "Item"}
    named = {name for name in public if name not in inner and not name.isupper()}
    missing = {f"flowcut.vision.{module}.{name}" for name in named} - set(listed())
    assert missing == set()


def test_links_between_pages_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_pages_build_without_warnings(tmp_path):
    # From a copy: generated pages must not land in the tree.
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "generated"))
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    shutil.copy(ROOT / "CONTRIBUTING.md", tmp_path)
    build = [
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(tmp_path / "docs"),
        str(tmp_path / "html"),
    ]
    # A proxy that is not there: whoever fetches something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", *build],
        capture_output=True,
        text=True,
        env={**os.environ, "no_proxy": "", **nowhere},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").exists()
