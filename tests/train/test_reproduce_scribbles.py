"""The comparison of scribble methods on pictures made up here."""

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.train.reproduce.experiment import Workspace
from flowcut.train.reproduce.kinds.scribbles import KIND, Settings
from flowcut.train.reproduce.scribbles_methods import System, measured, score, tune
from flowcut.train.reproduce.scribbles_training import hide_strokes


@pytest.fixture
def data(tmp_path):
    """Two bright squares on dark ground a split."""
    root = tmp_path / "grabcut"
    for folder in ("images", "gt", "scribbles1", "scribbles2"):
        (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        names = [f"{split}{i}" for i in range(2)]
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            truth = np.zeros((32, 40), np.uint8)
            truth[8:24, 10:30] = 255
            strokes = np.zeros_like(truth)
            strokes[14:18, 14:26], strokes[2:4, 4:36] = 1, 2
            noise = generator.normal(0, 10, (32, 40, 3))
            picture = (60 + 120 * (truth > 0)[..., None] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(root / "images" / f"{name}.png")
            Image.fromarray(truth).save(root / "gt" / f"{name}.png")
            for k in (1, 2):
                Image.fromarray(strokes).save(root / f"scribbles{k}" / f"{name}.png")
    return tmp_path


SETTINGS = Settings(
    longest=None,
    betas=(130.0,),
    contrasts=(2.0,),
    confidences=(0.01,),
    strengths=(3.0,),
    grabcut=False,
    size=(32, 32),
    epochs=1,
    batch_size=2,
    seeds=(0,),
    decoder_channels=(8, 8, 8, 8, 8),
)


def test_squares_are_found_and_an_interrupted_run_goes_on(data, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    said = []
    first = KIND.run(SETTINGS, Workspace(work, data, said.append))
    for name in ("random walker", "SoftCut", "max_flow", "scikit-image walker, bf"):
        for part in ("train and val", "test"):
            assert min(first.values["scores"][name][part][1]["iou"]) > 0.95
    walkers = [
        first.values["scores"][name]["test"]
        for name in ("random walker, beta 130", "scikit-image walker, bf")
    ]
    assert walkers[0] == walkers[1]
    assert {head: len(each) for head, each in first.values["learned"].items()} == {
        "no head": 1,
        "SoftCut": 1,
        "random walker": 1,
    }
    walker = first.values["learned"]["random walker"][0]
    assert walker["alone"] == {}
    assert len(walker["pinned"]["iou"]) == 2
    assert list(first.private) == ["scribbles"]
    assert len(first.tables) == 3
    (work / "trained_1_0.json").unlink()
    said.clear()
    second = KIND.run(SETTINGS, Workspace(work, data, said.append))
    assert said == ["training from scribbles: SoftCut, seed 0"]
    assert second.values == first.values


def test_the_public_picture_is_black_white_and_grey(data, tmp_path):
    from_masks = KIND.run(
        Settings(
            longest=None,
            betas=(130.0,),
            contrasts=(2.0,),
            confidences=(0.01,),
            strengths=(3.0,),
            grabcut=False,
            seeds=(),
        ),
        Workspace(tmp_path, data, lambda _: None),
    ).picture
    assert torch.equal(from_masks[0], from_masks[1])
    assert torch.equal(from_masks[0], from_masks[2])


def test_the_best_on_average_is_chosen(tmp_path):
    target = torch.tensor([[0, 1, 1, 0]])
    item = {"image": torch.rand(3, 1, 4), "target": target, "seeds": torch.full((1, 4), 255)}
    system = System(
        "x",
        {
            "nothing": lambda image, seeds: torch.zeros(1, 4, dtype=torch.int64),
            "half": lambda image, seeds: torch.tensor([[0, 1, 0, 0]]),
            "all": lambda image, seeds: torch.ones(1, 4, dtype=torch.int64) * torch.tensor([0, 1, 1, 1]),
        },
    )
    workspace = Workspace(tmp_path, None, lambda _: None)
    best, scores = tune(system, {1: [item], 2: [item]}, workspace)
    assert best == "all"
    assert scores[1].iou == [pytest.approx(2 / 3)]
    assert scores[2].error == [0.25]
    assert measured(system, "half", "test1", [item], workspace).iou == [0.5]


def test_marked_and_void_pixels_do_not_count():
    labels, target = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 255, 0, 1])
    assert score(labels, target, torch.tensor([1, 255, 255, 255])) == (1.0, 0.0)
    assert score(labels, target, torch.tensor([255, 255, 255, 255])) == (0.5, pytest.approx(1 / 3))


@pytest.mark.parametrize("number", range(5))
def test_strokes_are_split_and_every_label_stays_pinned(number):
    seeds = torch.full((20, 20), 255)
    seeds[5, 2:18], seeds[12:14, 3:16] = 0, 1
    pinned, asked = hide_strokes(seeds, np.random.default_rng(number))
    assert set(pinned.unique().tolist()) == {0, 1, 255}
    assert not ((pinned != 255) & (asked != 255)).any()
    assert (asked != 255).any()
    assert torch.equal(torch.where(pinned != 255, pinned, asked), seeds)


def test_refused(tmp_path):
    with pytest.raises(ValueError, match="--data: expected the folder"):
        KIND.run(SETTINGS, Workspace(tmp_path, None, print))
    with pytest.raises(ValueError, match="scribbles: expected 1 or 2, got 3"):
        Settings(scribbles=3)
    with pytest.raises(ValueError, match="betas: expected a finite number > 0"):
        Settings(betas=(0.0,))
    with pytest.raises(ValueError, match="pictures: expected an integer >= 2"):
        Settings(pictures=1)
