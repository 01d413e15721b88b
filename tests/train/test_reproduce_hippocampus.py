"""Volumes with and without a SoftCut: crops, scores, and a run that continues after a kill."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from flowcut.train.reproduce.recipe import read_experiment
from flowcut.train.reproduce.run import reproduce
from flowcut.train.reproduce.volume_training import VolumeTrainer, random_crop, score_volume
from flowcut.vision.volumes import write_volume

ROOT = Path(__file__).parents[2]
TINY = {
    "seeds": [0, 1],
    "features": [4, 4, 4, 4, 8, 4],
    "training": {"steps": 3, "crop": [16, 16, 16]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two bright blocks in the dark, of two labels."""
    root = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for folder in ("images", "labels"):
        (root / "hippocampus" / folder).mkdir(parents=True)
    for name in ("a", "b", "c"):
        labels = torch.zeros(17, 18, 12, dtype=torch.int64)
        labels[4:9, 3:12, 2:9], labels[9:14, 3:12, 2:9] = 1, 2
        image = 100 * labels + 20 * torch.randn(labels.shape, generator=generator)
        for folder, values in (("images", image), ("labels", labels)):
            write_volume(root / "hippocampus" / folder / f"{name}.nii.gz", values, torch.eye(4))
    for split, ids in (("train", "a b"), ("val", "c"), ("test", "b c")):
        (root / "hippocampus" / f"{split}.txt").write_text("\n".join(ids.split()))
    return root


def experiment(folder, **settings):
    path = folder / "hippocampus.yaml"
    text = {"kind": "hippocampus", "title": "t", "paper": "p", "settings": {**TINY, **settings}}
    path.write_text(yaml.safe_dump(text))
    return read_experiment(path)


def run(folder, name, data, **options):
    said = []
    result = reproduce(experiment(folder), folder / name, data=data, say=said.append, **options)
    return result, said


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_the_committed_experiment_loads(scale):
    found = read_experiment(ROOT / "experiments" / "hippocampus.yaml", scale)
    assert found.name == found.kind.name == "hippocampus"
    assert len(found.settings.seeds) == (3 if scale == "paper" else 1)


def test_a_run_leaves_numbers_and_a_picture_and_continues_after_a_kill(tmp_path, data, monkeypatch):
    whole, said = run(tmp_path, "whole", data)
    assert set(whole["values"]) == {"no head", "SoftCut"}
    for found in whole["values"].values():
        assert [len(losses) for losses in found["losses"]] == [3, 3]
        for scores in found["scores"]:
            assert all(len(values) == 2 for values in scores.values())
            assert scores["dice"] == pytest.approx(
                [(a + b) / 2 for a, b in zip(scores["dice_1"], scores["dice_2"], strict=True)]
            )
            assert scores["figures_of_target"] == [2.0, 2.0]
    # One layer more channels, three edges: 3 * (4 + 1).
    more = whole["values"]["SoftCut"]["parameters"] - whole["values"]["no head"]["parameters"]
    assert more == 15
    assert [row["what"] for row in whole["rows"]][:1] == ["SoftCut less no head: Dice, anterior"]
    assert min(Image.open(tmp_path / "whole" / "picture.png").size) > 100
    assert len(said) == 8

    step, calls = torch.optim.Adam.step, []

    def dying(*args, **more):
        calls.append(1)
        if len(calls) == 5:  # in the second training
            raise KeyboardInterrupt
        return step(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "killed", data)
    kept = tmp_path / "killed" / "work" / "0_0" / "scores.json"
    before = json.loads(kept.read_text())
    resumed, _ = run(tmp_path, "killed", data, resume=True)
    assert json.loads(kept.read_text()) == before  # seconds included: it was not trained again
    assert resumed["values"] == whole["values"]
    pictures = [(tmp_path / name / "picture.png").read_bytes() for name in ("whole", "killed")]
    assert pictures[0] == pictures[1]


def test_crops_are_parts_of_the_volume():
    image = torch.arange(6 * 7 * 3.0).reshape(1, 6, 7, 3)
    target = image[0].long() % 5
    generator = torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(40):
        part, labels = random_crop(image, target, (4, 5, 5), generator)
        assert part.shape == (1, 1, 4, 5, 5)
        start = int(part[0, 0, 0, 0, 1])
        d, h, w = start // 21, start // 3 % 7, start % 3
        assert w == 0  # one voxel of void before and one after the short axis
        assert torch.equal(part[0, 0, :, :, 1:4], image[0, d : d + 4, h : h + 5])
        assert torch.equal(labels[0, :, :, 1:4], target[d : d + 4, h : h + 5])
        assert (labels[0, :, :, [0, 4]] == 255).all()
        starts.add((d, h))
    assert starts == {(d, h) for d in range(3) for h in range(3)}


class Says(nn.Module):
    """A network that gives these labels."""

    def __init__(self, labels) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, images):
        return nn.functional.one_hot(self.labels, 3).movedim(-1, 0)[None].float()


def test_scores_by_hand():
    target = torch.tensor([1, 1, 0, 2, 2, 255, 0, 0]).reshape(1, 1, 8)
    labels = torch.tensor([1, 0, 1, 2, 2, 1, 0, 1]).reshape(1, 1, 8)
    found = score_volume(Says(labels), {"image": torch.zeros(1, 1, 1, 8), "target": target})
    # Class 1: one voxel right, three given (void left out), two wanted.
    assert found["dice_1"] == pytest.approx(2 * 1 / (3 + 2))
    assert found["dice_2"] == 1.0
    assert found["dice"] == pytest.approx((0.4 + 1) / 2)
    # Pieces 1 | 1 | 22 | 1: the void voxel beside the 2s is no figure of its own.
    assert found["figures"] == 4.0
    assert found["figures_of_target"] == 2.0


def test_a_seed_says_it_all(tmp_path, data):
    tiny = VolumeTrainer(steps=2, crop=(16, 16, 16), precision="32")
    config = {"network": "Unet3d", "arguments": {"num_classes": 3, "features": [4, 4, 4, 4, 8, 4]}}
    item = {"image": torch.rand(1, 16, 16, 16), "target": torch.randint(3, (16, 16, 16))}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = (
        tiny.run(config, seed, [item], [item], tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.losses == second.losses != other.losses
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": []}, "seeds: expected an integer >= 1, got 0"),
        ({"rtol": 0.0}, "rtol: expected a finite number > 0, got 0.0"),
        ({"volumes": 0}, "volumes: expected an integer >= 1, got 0"),
        ({"training": {"steps": 0}}, "training.steps: expected an integer >= 1, got 0"),
        ({"training": {"precision": "fp8"}}, "training.precision: expected 32 or bf16, got fp8"),
        ({"trainig": {}}, 'unknown key "trainig"; did you mean "training"?'),
    ],
)
def test_bad_settings_are_one_line(settings, message, tmp_path):
    with pytest.raises(ValueError) as error:
        experiment(tmp_path, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_without_data_it_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"^--data: expected the folder that holds hippocampus/, got none"):
        reproduce(experiment(tmp_path), tmp_path / "run", say=lambda line: None)
