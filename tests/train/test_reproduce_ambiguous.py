"""RAF Fig. 1: what the picture and its law are, and that a run continues and says what it found."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law
from flowcut.train.reproduce.ambiguity import ambiguity, shares
from flowcut.train.reproduce.ambiguous_flow import SubjectFlow, randomized_flow
from flowcut.train.reproduce.kinds.ambiguous import cat_alone
from flowcut.train.reproduce.recipe import read_experiment
from flowcut.train.reproduce.run import reproduce
from flowcut.train.reproduce.thermodynamic import thermodynamic_log_z

ROOT = Path(__file__).parents[2]
TINY = {
    "height": 16,
    "flows": {
        "convolution": {"steps": 4, "samples": 4, "time": 1.0},
        "two starts": {"steps": 4, "samples": 4, "split": 2.0, "couplings": "neighbors"},
    },
    "draws": 16,
    "components": 8,
    "chains": 4,
    "sweeps": 20,
    "restarts": 2,
    "temperatures": 4,
}


@pytest.fixture(scope="module")
def scene():
    return ambiguity(16, 0.6, 1.0, 0.8)


def experiment(folder, **settings):
    path = folder / "raf_fig_1.yaml"
    text = {"kind": "raf_fig_1", "title": "t", "paper": "p", "settings": {**TINY, **settings}}
    path.write_text(yaml.safe_dump(text))
    return read_experiment(path)


def run(folder, name, **options):
    return reproduce(experiment(folder), folder / name, say=lambda line: None, **options)


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_the_committed_experiment_loads(scale):
    found = read_experiment(ROOT / "experiments" / "raf_fig_1.yaml", scale)
    assert found.name == found.kind.name == "raf_fig_1"
    assert next(iter(found.settings.flows.values())).couplings == "convolution"


def test_a_pixel_of_the_blend_is_as_far_from_either_photograph(scene):
    near, far = ((scene.image - photograph).square().sum(dim=0) for photograph in scene.photographs)
    torch.testing.assert_close(near, far)


def test_exchanging_the_subjects_leaves_every_energy_as_it_is(scene):
    labels = torch.randint(3, (20, 16, 19), generator=torch.Generator().manual_seed(0))
    exchanged = torch.tensor([0, 2, 1])[labels]
    assert torch.equal(scene.energy.energy(labels), scene.energy.energy(exchanged))


def test_seeds_are_in_the_middle_and_around_it_and_the_region_between(scene):
    assert set(scene.seeds.unique().tolist()) == {0, 1, 2}
    assert scene.seeds[8, 9] == 2
    assert scene.seeds[0, 0] == scene.seeds[-1, -1] == 1
    assert bool((scene.region >= (scene.seeds == 2)).all())
    assert not bool((scene.region & (scene.seeds == 1)).any())


def test_ties_are_as_strong_as_they_should_be(scene):
    edges = scene.energy.edges[0]
    down = scene.image[:, 1:] - scene.image[:, :-1]
    right = scene.image[:, :, 1:] - scene.image[:, :, :-1]
    squares = [(d * d).sum(dim=0).double() for d in (down, right)]
    mean = sum(s.sum() for s in squares) / sum(s.numel() for s in squares)
    torch.testing.assert_close(edges[0, :-1], 1.0 + 0.8 * torch.exp(-squares[0] / (2 * mean)))
    torch.testing.assert_close(edges[1, :, :-1], 1.0 + 0.8 * torch.exp(-squares[1] / (2 * mean)))


def test_agreement_is_counted_among_the_subjects_pixels():
    region = torch.zeros(3, 4, dtype=torch.bool)
    region[:2] = True
    labels = torch.zeros(3, 3, 4, dtype=torch.int64)
    labels[0, :2] = 1
    labels[0, 2] = 2  # beyond the region
    labels[1, 0], labels[1, 1, :2] = 2, 1
    labels[2, 0, 0] = 2  # too little to be a subject
    torch.testing.assert_close(
        shares(labels, region), torch.tensor([[1.0, 0.0], [1 / 3, 2 / 3], [0.0, 0.25]], dtype=torch.float64)
    )


def test_log_z_by_thermodynamic_integration_is_the_exact_one():
    generator = torch.Generator().manual_seed(1)
    unary = torch.randn(1, 3, 3, 4, generator=generator, dtype=torch.float64)
    energy = PottsEnergy(unary, torch.rand(1, 2, 3, 4, generator=generator, dtype=torch.float64))
    found = thermodynamic_log_z(energy, nodes=12, draws=400)
    assert found.standard_error < 0.05
    # Five standard errors; 12 nodes integrate an analytic function of this size to far less.
    assert abs(found.value - exact_law(energy).log_z) < 5 * found.standard_error


def test_flows_begin_at_the_evidence(scene):
    flow = SubjectFlow(gain=3.0, spread=0.5)
    model = randomized_flow(flow, scene.energy, window=5, rank=8, seed=0)
    alone = (-scene.energy.unary[0].float()).softmax(dim=0)
    torch.testing.assert_close(model.log_assignments(2, time=0.0)[1].exp(), alone)
    kernel = model.couplings.mean.reshape(3, 3, 5, 5).sum(dim=(2, 3))
    torch.testing.assert_close(kernel, 3.0 * torch.eye(3))
    # A sum of 25 entries with independent factors of deviation 0.1; nine of them are averaged.
    sums = model.couplings.factors.reshape(3, 3, 25, -1).sum(dim=2).square().sum(dim=-1)
    assert 0.25 * (1 - 4 * math.sqrt(2 / (8 * 9))) < sums.mean() < 0.25 * (1 + 4 * math.sqrt(2 / (8 * 9)))


def test_two_starts_are_each_others_mirror_image(scene):
    flow = SubjectFlow(split=2.0, couplings="neighbors")
    model = randomized_flow(flow, scene.energy, window=5, rank=2, seed=0)
    first, second = model.start.mean.reshape(3, 16, 19, 2).unbind(dim=-1)
    torch.testing.assert_close(first[[0, 2, 1]], second)
    alone = -scene.energy.unary[0].float()
    torch.testing.assert_close(first[1] - first[0], alone[1] - alone[0])
    torch.testing.assert_close(first[2] - first[0], alone[2] - alone[0] - 2.0)


def test_mean_field_at_the_cat_is_a_fixed_point_there(scene):
    found = cat_alone(scene.energy)
    torch.testing.assert_close(found, (-scene.energy.local_costs(found)).softmax(dim=1), rtol=0, atol=1e-4)
    assert bool((found[0, 1] > found[0, 2])[scene.region].all())


def test_a_run_leaves_numbers_and_a_picture_and_continues_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("flowcut.train.reproduce.kinds.ambiguous._EVERY", 1)
    whole = run(tmp_path, "whole")
    names = {*TINY["flows"], "independent pixels", "mean field", "Gibbs, annealed", "Swendsen-Wang"}
    names.add("mean field at the cat")
    assert names < set(whole["values"])
    for name in names:
        found = whole["values"][name]
        assert found["cat"] + found["astronaut"] + found["neither"] == pytest.approx(1)
    for name in (*TINY["flows"], "mean field"):
        low, high = whole["values"][name]["free_energy"]
        assert low <= high
    assert whole == json.loads((tmp_path / "whole" / "result.json").read_text())
    assert min(Image.open(tmp_path / "whole" / "picture.png").size) > 100

    backward, calls = torch.autograd.backward, []

    def dying(*args, **more):
        calls.append(1)
        if len(calls) == 6:  # in the second fit
            raise KeyboardInterrupt
        return backward(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr("torch.autograd.backward", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "killed")
    resumed = run(tmp_path, "killed", resume=True)
    assert resumed["values"] == whole["values"]
    pictures = [(tmp_path / name / "picture.png").read_bytes() for name in ("whole", "killed")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 4}, "height: expected an integer >= 8, got 4"),
        ({"tie": 0.0}, "tie: expected a finite number > 0, got 0.0"),
        ({"contrast": -1.0}, "contrast: expected a finite number >= 0, got -1.0"),
        ({"window": 4}, "window: expected an odd integer >= 1, got 4"),
        ({"flows": {}}, "flows: expected one or more, got none"),
        ({"flows": {"a": {"samples": 1}}}, "samples: expected an integer >= 2, got 1"),
        ({"flows": {"a": {"split": -1.0}}}, "split: expected a finite number >= 0, got -1.0"),
        ({"flows": {"a": {"beta": 2.0}}}, "beta: expected a number in (0, 1], got 2.0"),
        ({"flows": {"a": {"couplings": "all"}}}, "couplings"),
        ({"flows": {"mean field": {}}}, "flows: expected other names than those of the laws beside"),
        ({"heigth": 16}, 'unknown key "heigth"; did you mean "height"?'),
    ],
)
def test_bad_settings_are_one_line(settings, message, tmp_path):
    with pytest.raises(ValueError) as error:
        experiment(tmp_path, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
