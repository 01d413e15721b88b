"""RandomCrops: pieces of the right picture, places by number alone and all over the picture."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from flowcut.vision.data import RandomCrops, TextureMosaic


class Numbered(Dataset):
    """Pictures whose values say where a pixel was."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        target = torch.arange(7 * 9).view(7, 9) + 100 * index
        return {"image": target.float().expand(3, -1, -1), "target": target, "id": str(index)}


def test_picture_and_target_are_cut_at_one_place():
    crops = RandomCrops(Numbered(), (3, 4), count=2)
    assert len(crops) == 6
    for k in range(6):
        item = crops[5, k]
        assert item["id"] == str(k // 2)
        assert item["target"].shape == (3, 4)
        assert torch.equal(item["image"], item["target"].float().expand(3, -1, -1))
        first = int(item["target"][0, 0])
        assert torch.equal(item["target"], first + torch.arange(3)[:, None] * 9 + torch.arange(4))


def test_places_depend_on_the_numbers_alone():
    crops = RandomCrops(Numbered(), 3, count=4)
    before = [crops[7, k]["target"] for k in range(12)]
    torch.rand(5)
    after = [crops[7, k]["target"] for k in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(crops[11]["target"], crops[0, -1]["target"])


def test_every_place_is_met_about_equally_often():
    crops, draws = RandomCrops(Numbered(), (6, 7), count=2), 400
    corners = torch.tensor([int(crops[draw, 0]["target"][0, 0]) for draw in range(draws)])
    places, counts = corners.unique(return_counts=True)
    assert places.tolist() == [y * 9 + x for y in range(2) for x in range(3)]
    # Six places, 400 draws: mean 67, standard deviation 7.5.
    assert counts.min() > 67 - 5 * 7.5
    assert counts.max() < 67 + 5 * 7.5


def test_a_crop_of_the_whole_picture_is_the_picture():
    item, crop = Numbered()[1], RandomCrops(Numbered(), (7, 9))[3, 1]
    assert torch.equal(item["target"], crop["target"])
    assert torch.equal(item["image"], crop["image"])


def test_workers_cut_the_same_pieces():
    crops = RandomCrops(TextureMosaic(4, 16), 8, count=2)
    keys = [(9, k) for k in (3, 0, 7, 5)]
    for workers in (0, 2):
        loader = DataLoader(crops, batch_size=2, sampler=keys, num_workers=workers)
        images = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(images, torch.stack([crops[key]["image"] for key in keys]))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^count: expected 1 or more, got 0"):
        RandomCrops(Numbered(), 3, count=0)
    with pytest.raises(ValueError, match=r"^size: expected"):
        RandomCrops(Numbered(), (3, 0))
    with pytest.raises(ValueError, match=r"^dataset: expected one with a length, got Generator"):
        RandomCrops(torch.Generator(), 3)
    with pytest.raises(ValueError, match=r"^crop: expected at most the size \(7, 9\) of 2, got \(8, 8\)"):
        RandomCrops(Numbered(), 8)[0, 2]
    with pytest.raises(IndexError, match=r"^index: expected -3 to 2, got 3"):
        RandomCrops(Numbered(), 3)[3]
