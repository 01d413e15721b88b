"""predict_folder and evaluate_dataset, by networks whose answer is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import flowcut
from flowcut.vision.data import PairedFolder, TextureMosaic
from flowcut.vision.losses import DiceLoss
from flowcut.vision.metrics import IoU
from flowcut.vision.pictures import read_image, read_mask
from flowcut.vision.predict import default_metrics, evaluate_dataset, predict_folder

RNG = np.random.default_rng(0)


class Bright(nn.Module):
    """Label 1 where red exceeds one half; exact, so that every mask is known."""

    def forward(self, images):
        assert not self.training
        assert not torch.is_grad_enabled()
        return images[:, :1] - 0.5


class Brightest(nn.Module):
    def forward(self, images):
        return images


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a.png", (10, 14)), ("b.png", (9, 7)), ("c.png", (16, 16))):
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_masks_and_overlays_of_a_folder(images, tmp_path, capsys):
    summary = predict_folder(Bright(), images, tmp_path / "out", progress=False)
    assert list(summary.masks) == list(summary.overlays) == ["a", "b", "c"]
    assert summary.skipped == {}
    for stem, path in summary.masks.items():
        picture = read_image(images / f"{stem}.png")
        assert path == tmp_path / "out" / "masks" / f"{stem}.png"
        assert torch.equal(read_mask(path), (picture[0] > 0.5).long())
        assert read_image(summary.overlays[stem]).shape == picture.shape
    written = sorted(p.name for p in (tmp_path / "out").rglob("*.png"))
    assert written == ["a.png", "a.png", "b.png", "b.png", "c.png", "c.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["masks", "overlays"]
    assert capsys.readouterr().err == ""


def test_progress_is_shown(images, tmp_path, capsys):
    predict_folder(Bright(), images, tmp_path / "out", overlay=False)
    assert "3/3" in capsys.readouterr().err
    assert not (tmp_path / "out" / "overlays").exists()


def test_several_labels(images, tmp_path):
    summary = predict_folder(Brightest(), images, tmp_path / "out", progress=False)
    expected = read_image(images / "a.png").argmax(0)
    assert torch.equal(read_mask(summary.masks["a"], classes=3), expected)


def test_another_working_size_still_gives_masks_of_the_picture_s_size(tmp_path):
    (tmp_path / "images").mkdir()
    halves = np.zeros((40, 60, 3), dtype=np.uint8)
    halves[:, 30:] = 255
    Image.fromarray(halves).save(tmp_path / "images" / "a.png")
    for size in (20, (10, 30), (80, 120)):
        summary = predict_folder(Bright(), tmp_path / "images", tmp_path / "out", size=size, progress=False)
        mask = read_mask(summary.masks["a"])
        assert torch.equal(mask, (torch.arange(60) >= 30).long().expand(40, -1))


def test_tiles_give_the_same_masks_and_bound_what_the_network_sees(images, tmp_path):
    class Small(Bright):
        def forward(self, images):
            assert max(images.shape[2:]) <= 8
            return super().forward(images)

    whole = predict_folder(Bright(), images, tmp_path / "whole", progress=False)
    for combine in ("discard", "weighted"):
        tiled = predict_folder(Small(), images, tmp_path / combine, tile=6, overlap=2, combine=combine,
                               progress=False)  # fmt: skip
        for stem, path in whole.masks.items():
            assert torch.equal(read_mask(tiled.masks[stem]), read_mask(path))


def test_bad_tiles_fail_first(images, tmp_path):
    for arguments, message in [
        ({"tile": 0}, "^tile: expected"),
        ({"tile": 8, "combine": "joint"}, "^combine: expected a network"),
        ({"tile": 8, "combine": "sum"}, "^combine: expected one of discard, weighted, joint"),
    ]:
        with pytest.raises(ValueError, match=message):
            predict_folder(Bright(), images, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_too_large_a_picture_is_skipped(images, tmp_path):
    with pytest.warns(flowcut.FlowcutWarning, match=r"c\.png: expected at most 200 pixels, got 16x16"):
        summary = predict_folder(Bright(), images, tmp_path / "out", max_pixels=200, progress=False)
    assert list(summary.masks) == ["a", "b"]


def test_one_picture(images, tmp_path):
    assert list(predict_folder(Bright(), images / "b.png", tmp_path / "out", progress=False).masks) == ["b"]


def test_an_unreadable_picture_is_skipped_with_a_warning(images, tmp_path):
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:70])
    with pytest.warns(flowcut.FlowcutWarning, match=r"^skipped .*b\.png: expected") as caught:
        summary = predict_folder(Bright(), images, tmp_path / "out", progress=False)
    assert len(caught) == 1
    assert list(summary.masks) == ["a", "c"]
    assert list(summary.skipped) == ["b.png"]
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "c.png"]
    assert sorted(p.name for p in (tmp_path / "out" / "overlays").iterdir()) == ["a.png", "c.png"]


def test_nothing_is_written_for_an_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"^images: expected pictures"):
        predict_folder(Bright(), tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_fails_first(images, tmp_path):
    (tmp_path / "file").touch()

    class Never(nn.Module):
        def forward(self, images):
            raise AssertionError("the network must not run")

    with pytest.raises(OSError, match=r"^output: expected a folder that can be written"):
        predict_folder(Never(), images, tmp_path / "file")


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_network_is_given_back(images, tmp_path, training):
    network = nn.Sequential(Bright(), nn.Dropout())
    network.train(training)
    network[1].eval()
    predict_folder(network, images, tmp_path / "out", progress=False)
    assert [m.training for m in network.modules()] == [training, training, False]


class Oracle(nn.Module):
    """Knows the target, except for the first row of pixels."""

    def __init__(self, dataset):
        super().__init__()
        self.known = {item["image"].numpy().tobytes(): item["target"] for item in dataset}

    def forward(self, images):
        logits = torch.stack([self.known[i.numpy().tobytes()] for i in images]).unsqueeze(1) - 0.5
        logits[:, :, 0] *= -1
        return logits


@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_of_a_dataset(batch_size):
    dataset = TextureMosaic(length=6, size=20)
    result = evaluate_dataset(Oracle(dataset), dataset, batch_size=batch_size, progress=False)
    assert set(result) == {"iou", "accuracy", "distinct_figures"}
    assert result["accuracy"].mean.item() == pytest.approx(0.95)
    assert result["accuracy"].standard_error.item() == pytest.approx(0, abs=1e-8)
    assert result["iou"].count.item() == 6
    ious = []
    for item in dataset:
        guess = item["target"].clone()
        guess[0] = 1 - guess[0]
        ious.append(float((guess & item["target"]).sum() / (guess | item["target"]).sum()))
    assert result["iou"].mean.item() == pytest.approx(np.mean(ious))
    assert result["iou"].standard_error.item() == pytest.approx(np.std(ious, ddof=1) / 6**0.5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_loss_of_each_picture(batch_size):
    dataset = TextureMosaic(length=5, size=20)
    network, loss = Oracle(dataset), DiceLoss("binary", per_image=False)
    result = evaluate_dataset(network, dataset, loss=loss, batch_size=batch_size, progress=False)
    assert set(result) == {"iou", "accuracy", "distinct_figures", "loss"}
    each = []
    for item in dataset:
        p = network(item["image"][None])[0, 0].double().sigmoid()
        target = item["target"].double()
        each.append(float(1 - 2 * (p * target).sum() / (p.square().sum() + target.square().sum())))
    assert result["loss"].mean.item() == pytest.approx(np.mean(each), rel=1e-6)
    assert result["loss"].standard_error.item() == pytest.approx(np.std(each, ddof=1) / 5**0.5, rel=1e-5)
    assert result["loss"].count.item() == 5


def test_the_loss_of_one_picture_has_no_error():
    dataset = TextureMosaic(length=1, size=16)
    result = evaluate_dataset(Oracle(dataset), dataset, {}, loss=DiceLoss("binary"), progress=False)
    assert list(result) == ["loss"]
    assert np.isnan(result["loss"].standard_error.item())
    with pytest.raises(ValueError, match=r"^metrics: expected other names than 'loss'"):
        evaluate_dataset(Oracle(dataset), dataset, {"loss": IoU()}, loss=DiceLoss("binary"))


def test_metrics_of_one_s_own():
    dataset = TextureMosaic(length=2, size=16)
    assert set(evaluate_dataset(Oracle(dataset), dataset, {"mine": IoU()}, progress=False)) == {"mine"}
    assert [m.num_classes for m in default_metrics(3).values()] == [3, 3, 3]


def test_written_masks_score_one_as_targets(images, tmp_path):
    predict_folder(Bright(), images, tmp_path / "out", progress=False)
    result = evaluate_dataset(Bright(), PairedFolder(images, tmp_path / "out" / "masks"), progress=False)
    assert result["iou"].mean.item() == 1


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match=r"^dataset: expected at least one item"):
        evaluate_dataset(Bright(), [])
    with pytest.raises(ValueError, match=r"^batch_size: expected 1 or more, got 0"):
        evaluate_dataset(Bright(), TextureMosaic(length=1), batch_size=0)
