"""Experiments of the LAF paper: files that load, scenes that are what they say, runs that continue."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.ndimage import label as connected

from flowcut.flow.descent import RiemannianDescent
from flowcut.train.reproduce.chart import Chart, Line, draw_charts
from flowcut.train.reproduce.experiment import percent
from flowcut.train.reproduce.kinds.noise import COLOURS, noise_problem
from flowcut.train.reproduce.kinds.photographs import _measure
from flowcut.train.reproduce.kinds.superpixels import superpixel_graph
from flowcut.train.reproduce.recipe import all_kinds, available, read_experiment
from flowcut.train.reproduce.run import publish, reproduce
from flowcut.train.reproduce.scenes import blobs, multi_scale, vessels

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "experiments").glob("laf_*.yaml"))
TINY = {
    "laf_fig_5_1": {"size": [40, 36], "learning": {"steps": 3}},
    "laf_fig_5_2": {
        "size": 32,
        "window": 3,
        "krylov_dims": [2, 3],
        "step_sizes": [1.0],
        "windows": [3],
        "learning": {"steps": 2, "rho": 0.5},
    },
    "laf_fig_5_3": {
        "size": 32,
        "window": 3,
        "larger": 5,
        "more_steps": 2,
        "learning": {"steps": 3, "rho": 0.5, "time": 6.0},
    },
    "laf_3d": {"size": 16, "learning": {"steps": 2}},
    "laf_superpixels": {"superpixels": 60, "labels": 3, "learning": {"steps": 2}},
    "laf_photographs": {"pictures": ["chelsea"], "labels": 2, "times": [1.0], "windows": [3], "bsds": 1},
}


def experiment(kind, folder, **settings):
    """An experiment in a file of its own, by default the tiny one of its kind."""
    path = folder / f"{kind}.yaml"
    text = {"kind": kind, "title": "a title", "paper": "a paper", "settings": settings or TINY[kind]}
    path.write_text(yaml.safe_dump(text))
    return read_experiment(path)


def run(kind, folder, name="run", **options):
    return reproduce(experiment(kind, folder), folder / name, say=lambda line: None, **options)


def steady(result):
    """What must not change from run to run: all but times and dates."""
    rows = [row for row in result["rows"] if not row["timed"]]
    return {"rows": rows, "values": result["values"], "settings": result["settings"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_a_committed_experiment_loads(path, scale):
    found = read_experiment(path, scale)
    assert isinstance(found.settings, found.kind.settings)
    assert found.name == path.stem == found.kind.name
    assert found.title
    assert found.paper


def test_every_kind_has_a_file_and_is_tried_here():
    assert {path.stem for path in FILES} <= set(available())
    kinds = {name for name in all_kinds() if name.startswith("laf_")}
    assert kinds == {path.stem for path in FILES} == set(TINY)


def test_small_is_laid_over_the_settings():
    path = ROOT / "experiments" / "laf_fig_5_2.yaml"
    paper, small = (read_experiment(path, scale).settings for scale in ("paper", "small"))
    assert (small.size, small.learning.steps) == (64, 15)
    assert replace(small, size=paper.size, learning=replace(small.learning, steps=30)) == paper


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "laf_fig_5_9"}, 'unknown kind "laf_fig_5_9"; did you mean "laf_fig_5_'),
        ({"titel": "x"}, 'unknown key "titel"; did you mean "title"?'),
        ({"title": None}, "expected text under title, got None"),
        ({"settings": {"nois": 1}}, 'settings: unknown key "nois"; did you mean "noise"?'),
        (
            {"settings": {"learning": {"step_": 1}}},
            'unknown key "learning.step_"; did you mean "learning.step',
        ),
        ({"settings": [1]}, "settings: expected keys and values, got [1]"),
        ({"settings": {"noise": -1.0}}, "noise: expected a finite number > 0, got -1.0"),
        ({"settings": {"noise": "loud"}}, "noise: expected float, got 'loud'"),
        ({"settings": {"learning": {"rho": 0}}}, "learning.rho: expected a finite number > 0, got 0"),
        ({"settings": {"learning": {"stop_below": 2}}}, "learning.stop_below: expected a share in [0, 1]"),
        ({"settings": {"size": [4, 4]}}, "size: expected an integer >= 32, got 4"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(change, message, tmp_path):
    path = tmp_path / "x.yaml"
    base = {"kind": "laf_fig_5_1", "title": "t", "paper": "p", "settings": {"noise": 0.5}}
    path.write_text(yaml.safe_dump({**base, **change}))
    with pytest.raises(ValueError) as error:
        read_experiment(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "just words", "dataset: {kind: paired_folder}"])
def test_what_is_no_experiment_is_refused(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match="expected"):
        read_experiment(tmp_path / "x.yaml")
    with pytest.raises(ValueError, match="No such file"):
        read_experiment(tmp_path / "y.yaml")


@pytest.mark.parametrize("kind", sorted(TINY))
def test_a_tiny_run_leaves_result_and_picture(kind, tmp_path):
    result = run(kind, tmp_path)
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    width, height = Image.open(tmp_path / "run" / "picture.png").size
    assert min(width, height) > 100
    assert all(isinstance(row["ours"], str) and row["ours"] for row in result["rows"])
    copies = publish("fig", tmp_path / "run", tmp_path / "results")
    assert [copy.name for copy in copies] == ["fig.json", "fig.png"]


def test_learning_does_what_the_paper_says(tmp_path):
    values = run("laf_fig_5_1", tmp_path)["values"]
    assert values["wrong"][-1] < values["wrong"][0] < values["alone"]
    assert values["entropy_near_borders"] < values["entropy_elsewhere"] <= values["entropy_uniform"] + 1e-6


@pytest.mark.parametrize(
    ("kind", "at"),
    [("laf_fig_5_1", 1), ("laf_fig_5_1", 4), ("laf_fig_5_2", 6), ("laf_fig_5_3", 3), ("laf_fig_5_3", 6)],
)
def test_a_killed_run_continues_to_the_same_bits(kind, at, tmp_path, monkeypatch):
    monkeypatch.setattr("flowcut.train.reproduce.learn._EVERY", 1)
    whole = run(kind, tmp_path, "whole")
    update, calls = RiemannianDescent.update, []

    def dying(*args, **more):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return update(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(RiemannianDescent, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            run(kind, tmp_path, "killed")
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = run(kind, tmp_path, "killed", resume=True)
    assert steady(resumed) == steady(whole)
    if kind != "laf_fig_5_2":  # its picture has times in it
        pictures = [(tmp_path / name / "picture.png").read_bytes() for name in ("whole", "killed")]
        assert pictures[0] == pictures[1]


def test_a_folder_with_a_run_is_not_touched_unasked(tmp_path):
    first = run("laf_fig_5_1", tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        run("laf_fig_5_1", tmp_path)
    with pytest.raises(ValueError, match="expected a run in"):
        run("laf_fig_5_1", tmp_path, "none", resume=True)
    with pytest.raises(ValueError, match="without --overwrite"):
        run("laf_fig_5_1", tmp_path, resume=True, overwrite=True)
    other = experiment("laf_fig_5_1", tmp_path, **TINY["laf_fig_5_1"], noise=0.9)
    with pytest.raises(ValueError, match="expected the settings of the run"):
        reproduce(other, tmp_path / "run", resume=True, say=lambda line: None)
    assert steady(run("laf_fig_5_1", tmp_path, overwrite=True)) == steady(first)


def test_photographs_that_may_not_be_published_stay_out_of_the_picture(tmp_path):
    folder = tmp_path / "data" / "bsds"
    (folder / "images").mkdir(parents=True)
    (folder / "test.txt").write_text("7\n")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "7.jpg")
    without = run("laf_photographs", tmp_path, "without")
    result = run("laf_photographs", tmp_path, "with", data=tmp_path / "data")
    assert set(result["values"]) == {"scikit-image", "bsds"}
    assert set(without["values"]) == {"scikit-image"}
    pictures = [(tmp_path / name / "picture.png").read_bytes() for name in ("with", "without")]
    assert pictures[0] == pictures[1]
    assert (tmp_path / "with" / "private_bsds.png").exists()
    assert not (tmp_path / "without" / "private_bsds.png").exists()


def test_regions_of_a_photograph_are_counted_as_scipy_counts_them():
    labels = blobs((30, 20), 3, seed=2, smooth=1.5)
    found = _measure(labels, torch.zeros_like(labels), torch.full((30, 20), 0.25))
    assert found.regions == sum(connected(labels.numpy() == j)[1] for j in range(3))
    assert found.changed == pytest.approx(2 / 3, abs=0.01)
    assert found.entropy == 0.25


def test_scenes_are_the_same_for_the_same_seed_and_have_their_labels():
    for make in (
        lambda seed: vessels((48, 64), seed),
        lambda seed: multi_scale((48, 64), 4, seed),
        lambda seed: blobs((10, 12, 14), 4, seed),
    ):
        assert torch.equal(make(3), make(3))
        assert not torch.equal(make(3), make(4))
    assert vessels((48, 64), 0).unique().tolist() == [0, 1]
    counts = torch.bincount(blobs((10, 12, 14), 4, 0).flatten())
    assert counts.tolist() == [420] * 4
    shares = torch.bincount(multi_scale((256, 256), 6, 1).flatten()) / 256**2
    assert shares.max() - shares.min() < 0.02


def test_orange_is_rare_and_nearest_to_averaged_noise():
    noise, distances, target = noise_problem(128, 0, 0.03)
    assert 0 < float((target == 3).float().mean()) <= 0.03
    assert int(distances.mean(dim=(0, 2, 3)).argmin()) == 3
    assert int((COLOURS - 0.5).square().sum(dim=1).argmin()) == 3
    assert noise.shape == (3, 128, 128)


def test_superpixels_touch_where_their_pixels_do():
    regions = torch.tensor([[0, 0, 1], [2, 2, 1], [2, 3, 3]])
    found = {tuple(pair) for pair in superpixel_graph(regions).edge_index.T.tolist()}
    expected = set()
    for y in range(3):
        for x in range(3):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 3 and u < 3 and regions[y, x] != regions[v, u]:
                    expected.add(tuple(sorted((int(regions[y, x]), int(regions[v, u])))))
    assert found == expected


def test_a_chart_draws_its_lines_where_the_points_are():
    flat = Line("a", [0.0, 10.0], [0.1, 0.1], (255, 0, 0), width=3)
    steep = Line("b", [0.0, 10.0], [1.0, 0.01], (0, 0, 255), width=3)
    picture = draw_charts([Chart("", "", [flat, steep])])
    # Below the legend: the flat line lies in the middle of the logarithmic axis, the other falls through it.
    red = ((picture[0] > 0.9) & (picture[1] < 0.3))[70:].nonzero()
    blue = ((picture[2] > 0.9) & (picture[1] < 0.3))[70:].nonzero()
    assert red[:, 0].max() - red[:, 0].min() <= 3
    assert blue[:, 0].max() - blue[:, 0].min() > 100
    # Its upper end lies to the left, its lower end to the right.
    assert blue[blue[:, 0].argmin(), 1] < 200 < blue[blue[:, 0].argmax(), 1]
    crossing = blue[(blue[:, 0] - red[:, 0].float().mean()).abs() < 4, 1].float().mean()
    assert abs(crossing - red[:, 1].float().mean()) < 6


def test_shares_are_written_with_two_digits():
    assert [percent(x) for x in (1.0, 0.123, 0.0099, 0.000282)] == ["100 %", "12 %", "0.99 %", "0.028 %"]
