"""The demo: its page loads nothing, shows the numbers of demo.json, and its pictures are pictures."""

import base64
import io
import json
from html.parser import HTMLParser

import pytest
from PIL import Image

from flowcut.apps.main import main
from flowcut.apps.output import mean_and_error


class Page(HTMLParser):
    """Sources that would be loaded, pictures, and text."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.pictures, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img", "line"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                (self.pictures if tag == "img" else self.loaded).append(value)
        assert tag not in ("script", "iframe", "object", "embed")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--output", str(folder), "--epochs=2", "--pictures=8", "--size=32"]) == 0
    text = (folder / "index.html").read_text(encoding="utf-8")
    return folder, json.loads((folder / "demo.json").read_text()), text, Page(text)


def test_page_is_self_contained(demo):
    _, _, text, page = demo
    assert page.open == []
    assert all(source.startswith("data:") for source in page.loaded)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_page_shows_the_numbers_of_the_json(demo):
    _, result, _, page = demo
    for numbers in result["networks"].values():
        for name in ("iou", "accuracy"):
            assert mean_and_error(numbers["test"][name]) in page.words
        assert f"{numbers['parameters']:,}" in page.words


def test_networks_differ_by_the_head_alone(demo):
    folder, result, _, _ = demo
    recipes = [(folder / name / "recipe.yaml").read_text() for name in ("base", "soft_cut")]
    assert recipes[0] == recipes[1].replace("head: soft_cut", "head: none")
    assert recipes[0] != recipes[1]
    assert result["networks"]["base"]["parameters"] < result["networks"]["soft_cut"]["parameters"]
    assert all(len(numbers["history"]) == 2 for numbers in result["networks"].values())


def test_pictures_decode(demo):
    _, result, _, page = demo
    assert len(page.pictures) == 6 * 6 + 5
    side = result["from_noise"]["size"]
    for number, source in enumerate(page.pictures):
        head, data = source.split(",")
        assert head == "data:image/png;base64"
        expected = (32, 32) if number < 6 * 6 else (side, side)
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == expected


def test_weights_are_learned_from_noise(demo):
    _, result, text, _ = demo
    numbers = result["from_noise"]
    assert numbers["wrong_uniform"] > 0.7
    assert numbers["wrong_learned"] < 0.02
    assert f"{numbers['wrong_learned']:.2%}" in text


def test_the_last_line_names_the_page_and_both_numbers(demo, tmp_path, capsys):
    capsys.readouterr()
    arguments = ["demo", "--output", str(tmp_path), "--epochs=1", "--pictures=8", "--size=32"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "demo.json").read_text())
    ious = [mean_and_error(result["networks"][name]["test"]["iou"]) for name in ("base", "soft_cut")]
    first = (
        f"{tmp_path / 'index.html'}: IoU {ious[0]} without head, {ious[1]} with a SoftCut head; from noise "
    )
    noise = result["from_noise"]
    shares = f"{noise['wrong_uniform']:.1%} wrong with uniform weights, {noise['wrong_learned']:.2%} learned"
    assert out == f"{first}{shares}\n"


def test_an_unwritable_folder_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file" / "demo")]) == 2
    assert capsys.readouterr().err.startswith(
        "flowcut: error: --output: expected a folder that can be written"
    )
