"""The demo: its page loads nothing, shows the numbers of demo.json, and its pictures are pictures."""

import base64
import io
import itertools
import json
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from flowcut.apps.main import main
from flowcut.apps.output import mean_and_error
from flowcut.apps.work import demo as demo_work
from flowcut.apps.work.demo_ising import sample_ising, small_ising


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_work, "_ISING_STEPS", 40)
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
    assert len(page.pictures) == 6 * 6 + 5 + 4 * 5
    side = result["from_noise"]["size"]
    sizes = [(32, 32)] * 36 + [(side, side)] * 5 + [(8, 3)] * 20
    for number, source in enumerate(page.pictures):
        head, data = source.split(",")
        assert head == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == sizes[number]


def test_weights_are_learned_from_noise(demo):
    _, result, text, _ = demo
    numbers = result["from_noise"]
    assert numbers["wrong_uniform"] > 0.7
    assert numbers["wrong_learned"] < 0.02
    assert f"{numbers['wrong_learned']:.2%}" in text


def test_the_small_ising_model_is_the_one_of_the_paper(demo):
    _, result, _, page = demo
    ising = result["ising"]
    assert small_ising().shape == (2, 3, 8)
    # Transfer matrix over columns of three pixels, by hand.
    columns = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    inside = 2.1 * (columns[:, 1:] != columns[:, :-1]).sum(dim=1).double()
    across = 2.1 * (columns[:, None] != columns[None]).sum(dim=2).double()
    first, last = inside - 3 * (columns == 0).sum(dim=1), inside + 3 * (columns == 0).sum(dim=1)
    step = -(across + inside)
    logs = -first
    for _ in range(6):
        logs = (logs[:, None] + step).logsumexp(dim=0)
    log_z = (logs[:, None] - across - last).flatten().logsumexp(dim=0)
    assert ising["exact_log_z"] == pytest.approx(float(log_z), abs=1e-6)
    assert f"{ising['exact_log_z']:.3f}" in "".join(page.words)


def test_methods_are_as_far_from_the_exact_law_as_they_say(demo):
    _, result, _, page = demo
    methods, log_z = result["ising"]["methods"], result["ising"]["exact_log_z"]
    for name, found in methods.items():
        if name != "flow":  # whose bounds are of one sample together
            assert found["kl"] == pytest.approx(found["energy"] - found["entropy"] + log_z, abs=1e-9)
        assert f"{found['energy']:.3f}" in page.words
        assert f"{found['marginal_difference']:.4f}" in page.words
    # RAF Table 1 and facts R1: two optima tie in KL.
    assert methods["mean_field"]["kl"] == pytest.approx(1.9683, abs=1e-3)
    assert min(abs(methods["mean_field"]["marginal_difference"] - d) for d in (0.1979, 0.2161)) < 1e-3
    assert abs(methods["gibbs"]["kl"]) < 0.03
    assert methods["gibbs"]["marginal_difference"] < 0.02
    assert methods["flow"]["kl_lower"] <= methods["flow"]["kl"]


def test_a_short_fit_beats_mean_field():
    numbers, _ = sample_ising(150, seed=0)
    flow = numbers["methods"]["flow"]
    assert flow["kl"] < 0.5
    assert flow["marginal_difference"] < 0.1
    assert abs(numbers["log_z"] - numbers["exact_log_z"]) < max(4 * numbers["log_z_error"], 0.1)


def test_the_last_line_names_the_page_and_its_numbers(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo_work, "_ISING_STEPS", 2)
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
    ising = result["ising"]["methods"]
    flow, mean_field = (f"{ising[name]['kl']:.3f}" for name in ("flow", "mean_field"))
    last = f"Ising model: KL {flow} by a randomized flow, {mean_field} by mean field"
    assert out == f"{first}{shares}; {last}\n"


def test_an_unwritable_folder_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file" / "demo")]) == 2
    assert capsys.readouterr().err.startswith(
        "flowcut: error: --output: expected a folder that can be written"
    )
