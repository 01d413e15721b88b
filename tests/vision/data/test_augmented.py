"""Augmented: picture and target move together, labels stay, draws are numbers."""

import colorsys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from flowcut.vision.data import Augmented, BalancedTiles, RandomCrops, TextureMosaic


class Numbered(Dataset):
    """The picture's red says where a pixel was, and so does the target."""

    def __init__(self, size=(6, 6), void=False):
        self.size, self.void = size, void

    def __len__(self):
        return 4

    def __getitem__(self, index):
        target = torch.arange(self.size[0] * self.size[1]).view(self.size)
        image = target.float().expand(3, -1, -1) / 255
        return {"image": image, "target": torch.full_like(target, 255) if self.void else target, "id": "a"}


def draws(data, count=200):
    return [data[draw, draw % len(data)] for draw in range(count)]


def test_flips_and_turns_are_the_eight_of_the_square():
    data = Augmented(Numbered(), flip=0.5, flip_vertical=0.5, quarter_turns=True)
    whole, seen = Numbered()[0]["target"], set()
    for item in draws(data):
        assert torch.equal(item["image"] * 255, item["target"].float().expand(3, -1, -1))
        seen.add(tuple(item["target"].flatten().tolist()))
    turned = [whole.rot90(k) for k in range(4)]
    assert seen == {tuple(t.flatten().tolist()) for a in turned for t in (a, a.flip(1))}


@pytest.mark.parametrize("setting", ["flip", "flip_vertical"])
def test_mirrors_come_as_often_as_asked(setting):
    data = Augmented(Numbered(), **{"flip": 0.0, setting: 0.3})
    mirrored = sum(int(item["target"][0, 0] != 0) for item in draws(data, 600))
    assert abs(mirrored - 180) < 5 * (600 * 0.3 * 0.7) ** 0.5


def test_off_is_off():
    item = Augmented(Numbered((5, 7)), flip=0.0)[9, 2]
    assert torch.equal(item["target"], Numbered((5, 7))[2]["target"])
    assert torch.equal(item["image"], Numbered((5, 7))[2]["image"])


def test_scaled_targets_stay_with_their_pixels():
    class Halves(Numbered):
        def __getitem__(self, index):
            target = torch.zeros(40, 40, dtype=torch.int64)
            target[:, 20:] = 7
            return {"image": (target / 7).expand(3, -1, -1), "target": target, "id": "a"}

    sizes = set()
    for item in draws(Augmented(Halves(), scale=(0.5, 2.0), size=32)):
        assert item["image"].shape == (3, 32, 32)
        labels = item["target"].unique().tolist()
        assert set(labels) <= {0, 7, 255}
        sizes.add(255 in labels)
        inside = item["target"] != 255
        wrong = (item["image"][0] > 0.5) != (item["target"] == 7)
        # The border lies in one column, where rounding may decide either way.
        assert (wrong & inside).any(dim=0).sum() <= 1
    assert sizes == {True, False}


def test_a_crop_cuts_and_scale_enlarges():
    for item in draws(Augmented(Numbered((9, 12)), size=(4, 5)), 30):
        steps = item["target"]
        assert steps.shape == (4, 5)
        assert abs(int(steps[0, 1] - steps[0, 0])) == 1
        assert int(steps[1, 0] - steps[0, 0]) == 12
    double = Augmented(Numbered((8, 8)), flip=0.0, scale=(2.0, 2.0))[3, 1]["target"]
    assert torch.equal(double[::2, ::2], double[1::2, 1::2])


def test_all_void_stays_void():
    for item in draws(Augmented(Numbered(void=True), scale=(0.5, 2.0), noise=0.1, quarter_turns=True), 20):
        assert item["target"].unique().tolist() == [255]


def test_colours_change_pictures_only():
    data = Augmented(TextureMosaic(3, 16), flip=0.0, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1,
                     noise=0.05)  # fmt: skip
    for item, plain in zip(data, TextureMosaic(3, 16), strict=True):
        assert torch.equal(item["target"], plain["target"])
        assert not torch.equal(item["image"], plain["image"])
        assert 0 <= item["image"].min() <= item["image"].max() <= 1


def test_hue_turns_the_circle():
    class Red(Numbered):
        def __getitem__(self, index):
            image = torch.tensor([0.8, 0.2, 0.2]).view(3, 1, 1).expand(3, 4, 4)
            return {"image": image, "target": torch.zeros(4, 4).long(), "id": "a"}

    hues = []
    for item in draws(Augmented(Red(), hue=0.25), 100):
        hue, saturation, value = colorsys.rgb_to_hsv(*item["image"][:, 0, 0].tolist())
        assert (saturation, value) == pytest.approx((0.75, 0.8), abs=1e-3)
        hues.append((hue + 0.5) % 1 - 0.5)
    assert -0.251 < min(hues) < -0.2
    assert 0.2 < max(hues) < 0.251


def test_noise_and_brightness_have_their_size():
    class Grey(Numbered):
        def __getitem__(self, index):
            return {"image": torch.full((3, 99, 99), 0.5), "target": torch.zeros(99, 99).long(), "id": "a"}

    noise = Augmented(Grey(), noise=0.05)[4, 0]["image"] - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.03)
    levels = [float(item["image"].mean()) for item in draws(Augmented(Grey(), brightness=0.4), 100)]
    assert 0.3 <= min(levels) < 0.33
    assert 0.67 < max(levels) <= 0.7
    # Contrast pulls towards the mean, which a flat picture is; torchvision's weights of grey sum to 0.9999.
    assert torch.allclose(Augmented(Grey(), contrast=1.0)[3, 0]["image"], torch.tensor(0.5), atol=1e-4)


def test_draws_are_numbers_and_pass_inside():
    settings = {"quarter_turns": True, "scale": (0.7, 1.4), "hue": 0.2, "contrast": 0.3, "noise": 0.1}
    data = Augmented(RandomCrops(TextureMosaic(4, 24), 12, count=2), **settings)
    keys = [(9, k) for k in (3, 0, 7, 5)]
    torch.rand(3)
    alone = torch.stack([data[key]["image"] for key in keys])
    for workers in (0, 2):
        loader = DataLoader(data, batch_size=2, sampler=keys, num_workers=workers)
        assert torch.equal(torch.cat([batch["image"] for batch in loader]), alone)
    plain = Augmented(RandomCrops(TextureMosaic(4, 24), 12, count=2), flip=0.0)
    assert torch.equal(plain[9, 3]["image"], plain.dataset[9, 3]["image"])
    assert not torch.equal(plain[9, 3]["image"], plain[8, 3]["image"])


def test_threads_change_no_bit():
    data, before = Augmented(TextureMosaic(1, 300), contrast=0.5, saturation=0.5), torch.get_num_threads()
    try:
        pictures = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pictures.append(data[5, 0]["image"])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"flip": 1.1}, "flip"), ({"hue": 0.6}, "hue"), ({"noise": -1.0}, "noise"),
     ({"contrast": 2.0}, "contrast"), ({"scale": (0.0, 1.0)}, "scale"), ({"scale": (2.0, 1.0)}, "scale"),
     ({"size": 0}, "size")],
)  # fmt: skip
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Augmented(Numbered(), **arguments)


class Rare(Dataset):
    """Eight pictures; label 1 is one pixel of picture 3, label 2 a corner of pictures 1 and 5."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        target = torch.zeros(40, 50, dtype=torch.int64)
        target[:, 45:] = 255
        if index == 3:
            target[17, 23] = 1
        if index in (1, 5):
            target[:3, :4] = 2
        return {"image": torch.full((3, 40, 50), index / 8), "target": target, "id": str(index)}


def test_tiles_hold_the_rare_classes_as_often_as_asked():
    tiles = BalancedTiles(Rare(), (9, 11), count=50, classes=[1, 2], share=0.8)
    assert len(tiles) == 400
    items = [tiles[1, k] for k in range(400)]
    assert all(item["target"].shape == (9, 11) and item["image"].shape == (3, 9, 11) for item in items)
    ones = [item for item in items if (item["target"] == 1).any()]
    twos = [item for item in items if (item["target"] == 2).any()]
    # Binomial(400, 0.4) each, and a few by chance.
    for found in (ones, twos):
        assert abs(len(found) - 160) < 5 * (400 * 0.4 * 0.6) ** 0.5
    assert {item["id"] for item in ones} == {"3"}
    assert {item["id"] for item in twos} == {"1", "5"}
    places = {tuple(torch.nonzero(item["target"] == 1)[0].tolist()) for item in ones}
    assert len(places) > 60  # of 99 within the tile


def test_tiles_are_numbers_and_cover_all_without_share():
    tiles = BalancedTiles(Rare(), 8, count=3, share=0.0)
    assert [tiles[6, k]["id"] for k in range(24)] == [str(k // 3) for k in range(24)]
    again = BalancedTiles(Rare(), 8, count=3)
    assert again.classes == [0, 1, 2]
    for k in (5, 23):
        assert torch.equal(again[2, k]["image"], BalancedTiles(Rare(), 8, count=3)[2, k]["image"])


def test_classes_that_never_occur():
    with pytest.raises(ValueError, match=r"^classes: expected labels that occur, .* got \[7\]"):
        BalancedTiles(Rare(), 8, classes=[1, 7])
    with pytest.raises(ValueError, match=r"^dataset: expected labelled pixels, got void ones only"):
        BalancedTiles(Numbered(void=True), 3)
    with pytest.raises(ValueError, match=r"^dataset: expected one whose items stay the same"):
        BalancedTiles(Augmented(Rare()), 3)
    with pytest.raises(ValueError, match=r"^share: expected"):
        BalancedTiles(Rare(), 3, share=1.2)
    with pytest.raises(ValueError, match=r"^crop: expected at most the size \(40, 50\)"):
        BalancedTiles(Rare(), 41)[0]


def test_balance_is_over_pixels_of_the_class():
    tiles = BalancedTiles(Rare(), 1, count=100, classes=[2], share=1.0)
    assert all(int(tiles[0, k]["target"]) == 2 for k in range(100))
    assert np.mean([tiles[0, k]["id"] == "1" for k in range(800)]) == pytest.approx(0.5, abs=0.1)
