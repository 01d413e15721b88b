"""The comparison of ways to clean up a network's output, on pictures made up here."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from flowcut.train.reproduce import refine_methods
from flowcut.train.reproduce.kinds.refine import Settings
from flowcut.train.reproduce.recipe import read_experiment
from flowcut.train.reproduce.refine_methods import WAYS, Item, Plan, System, measured, systems
from flowcut.train.reproduce.refine_networks import Trained
from flowcut.train.reproduce.refine_peers import DENSE, FILTER, DenseCrf, FilterCrf, installed
from flowcut.train.reproduce.run import reproduce
from flowcut.vision.labels import predict_labels

FILE = Path(__file__).parents[2] / "experiments" / "refine.yaml"
TINY = {
    "horses": {"size": [32, 40], "epochs": 1, "batch_size": 3},
    "camvid": {"size": [32, 40], "epochs": 1, "batch_size": 3},
    "seeds": [1],
    "pictures": 2,
    "steps": 2,
    "decoder_channels": [4, 4, 4, 4, 4],
}
# Three pictures to learn from, two to fit to, two to be scored.
SPLITS = (("train", "012"), ("val", "34"), ("test", "56"))


def write_data(root: Path) -> None:
    """Bands of eleven dark colours, as horses (every other one is 1) and as CamVid."""
    generator = np.random.default_rng(0)
    colours = generator.uniform(20, 100, (11, 3))
    bands = np.arange(40) * 11 // 40
    for name, labels, end in (("horses", "masks", "jpg"), ("camvid", "labels", "png")):
        for folder in ("images", labels):
            (root / name / folder).mkdir(parents=True)
        for i in range(7):
            target = np.roll(np.tile(bands, (32, 1)), 3 * i, axis=1)
            pixels = colours[target] + generator.normal(0, 10, (32, 40, 3))
            path = root / name / "images" / f"{i}.{end}"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            mask = (target % 2 * 255 if name == "horses" else target).astype(np.uint8)
            Image.fromarray(mask).save(root / name / labels / f"{i}.png")
        for split, ids in SPLITS:
            (root / name / f"{split}.txt").write_text("\n".join(ids) + "\n")


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_the_committed_experiment_loads(scale):
    found = read_experiment(FILE, scale)
    assert isinstance(found.settings, Settings)


def test_an_experiment_runs_and_an_interrupted_one_goes_on(tmp_path):
    write_data(tmp_path)
    file = yaml.safe_load(FILE.read_text())
    path = tmp_path / "refine.yaml"
    path.write_text(yaml.safe_dump(file | {"settings": TINY}))
    experiment, told = read_experiment(path), []
    threads = torch.get_num_threads()
    try:
        first = reproduce(experiment, tmp_path / "a", data=tmp_path, say=lambda line: None)
        (tmp_path / "a" / "work" / "horses_1_1_fitted.json").unlink()
        again = reproduce(experiment, tmp_path / "a", data=tmp_path, resume=True, say=told.append)
    finally:
        torch.set_num_threads(threads)
    assert told == ["horses_1: SoftCut, fitted"]
    assert again["values"] == first["values"]
    assert list(first["values"]) == ["horses", "CamVid"]
    for by_system in first["values"].values():
        assert len(by_system["the network alone, as it is"]) == 1
        fitted = by_system["SoftCut, fitted"]
        assert [len(one["iou"]) for one in fitted] == [2]
        assert set(fitted[0]["numbers"]) == {"strength", "beta", "floor", "temperature"}
        assert fitted[0]["numbers"] != by_system["SoftCut, as it is"][0]["numbers"]
        assert "seconds" not in fitted[0]
    horses = first["values"]["horses"]
    for way in WAYS:
        # The minimum cut is where total variation is positive.
        assert [one["iou"] for one in horses[f"minimum cut, {way}"]] == [
            one["iou"] for one in horses[f"total variation, {way}"]
        ]
    for table in json.loads((tmp_path / "a" / "result.json").read_text())["tables"]:
        assert {len(row) for row in table["cells"]} == {len(table["header"])}
    check_pictures(tmp_path / "a")


def check_pictures(folder: Path) -> None:
    """Photographs, all dark here, are in the private picture alone; below the titles the other is bright."""
    shown, private = (
        np.asarray(Image.open(folder / f"{name}.png")).max(axis=-1)[20:]
        for name in ("picture", "private_photographs")
    )
    assert (shown < 130).mean() == 0
    assert (private < 130).mean() > 0.02


def items(channels, number=3):
    """Logits that are wrong here and there, of two halves."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(number):
        target = torch.zeros(16, 20, dtype=torch.int64)
        target[:, 10:] = 1
        image = target[None] * 0.4 + 0.3 + 0.02 * torch.randn(3, 16, 20, generator=generator)
        sure = (
            2.0 * target - 1
            if channels == 1
            else torch.nn.functional.one_hot(target, channels).movedim(-1, 0)
        )
        logits = sure + 0.8 * torch.randn(channels, 16, 20, generator=generator)
        found.append(Item(logits, image.clamp(0, 1), target))
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_every_system_that_is_installed_cleans_up(channels, tmp_path):
    data = items(channels)
    plan = Plan(5, 0.25, "cross_entropy")
    kept = {}
    for i, system in enumerate(systems(max(channels, 2))):
        for way in system.ways:
            given = (kept[system.like, way] if system.like else data) if way == WAYS[1] else None
            kept[system.name, way] = measured(system, tmp_path / f"{i}{way}.json", data, plan, given)
    alone = kept["the network alone", WAYS[0]]
    for (name, _), found in kept.items():
        if found is not None and name != "the network alone":
            assert sum(found.iou) > sum(alone.iou)
            assert sum(found.figures) < sum(alone.figures)


def test_what_is_missing_is_said_and_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(refine_methods, "installed", lambda name: False)
    missing = [system for system in systems(2) if system.make is None]
    assert [system.name for system in missing] == ["crfseg", "dense CRF"]
    path = tmp_path / "a.json"
    assert measured(missing[0], path, items(1), Plan(1, 0.1, "dice"), None) is None
    assert not path.exists()


def test_scores_are_read_again(tmp_path):
    system = System("x", lambda: torch.nn.Identity(), None)
    alone = systems(2)[0]
    data, plan = items(1), Plan(1, 0.1, "dice")
    first = measured(alone, tmp_path / "a.json", data, plan, None)
    assert measured(system, tmp_path / "a.json", [], plan, None) == first


@pytest.mark.skipif(not installed(FILTER), reason="crfseg is not installed")
def test_the_filter_is_that_of_crfseg():
    logits, image, _ = items(1)[0]
    crf = FilterCrf(weight=0.7, height=2.0, width=1.5)
    assert crf.scalars() == pytest.approx({"weight": 0.7, "height": 2.0, "width": 1.5})
    one = crf(logits[None], image[None])
    two = crf(torch.cat([logits, 0 * logits])[None], image[None])
    torch.testing.assert_close(one, two[:, :1] - two[:, 1:])


@pytest.mark.skipif(not installed(DENSE), reason="pydensecrf2 is not installed")
def test_a_dense_crf_without_kernels_changes_nothing():
    for channels in (1, 3):
        logits, image, _ = items(channels)[0]
        refined = DenseCrf(smooth=0.0, appearance=0.0)(logits[None], image[None])
        assert torch.equal(predict_labels(refined), predict_labels(logits[None]))


def test_refused():
    with pytest.raises(ValueError, match="size: expected an integer >= 32"):
        Trained(size=(16, 40))
    with pytest.raises(ValueError, match="pictures: expected an integer >= 1"):
        Settings(pictures=0)
    with pytest.raises(ValueError, match="fit_lr: expected a finite number > 0"):
        Settings(fit_lr=0.0)
    with pytest.raises(ValueError, match="loss: expected one of"):
        Settings(loss="hinge")
