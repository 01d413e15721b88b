"""PairedFolder: pairing, resizing, revealing, and every mismatch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from flowcut.vision.data import PairedFolder, reveal

RNG = np.random.default_rng(1)


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name in ("b", "a", "c"):
        Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(images / f"{name}.jpg")
        Image.fromarray(RNG.integers(0, 2, (12, 16), dtype=np.uint8) * 255).save(masks / f"{name}.png")
    return images, masks


def test_pairs_by_stem_in_sorted_order(folders):
    data = PairedFolder(*folders)
    assert len(data) == 3
    assert [item["id"] for item in (data[0], data[1], data[-1])] == ["a", "b", "c"]
    mask = np.asarray(Image.open(folders[1] / "b.png")) > 0
    assert torch.equal(data[1]["target"], torch.from_numpy(mask).long())
    assert data[1]["image"].shape == (3, 12, 16)
    with pytest.raises(IndexError):
        data[3]


def test_iterating_ends(folders):
    assert len(list(PairedFolder(*folders))) == 3


def test_ids_choose_and_order(folders):
    assert [item["id"] for item in PairedFolder(*folders, ids=["c", "a"])] == ["c", "a"]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_by_a_data_loader(folders, workers):
    data = PairedFolder(*folders, size=(6, 8), cache=True)
    batch = next(iter(DataLoader(data, batch_size=3, num_workers=workers)))
    assert batch["image"].shape == (3, 3, 6, 8)
    assert batch["target"].shape == (3, 6, 8)
    assert batch["target"].dtype == torch.int64
    assert batch["id"] == ["a", "b", "c"]


def test_what_is_kept_cannot_be_spoilt(folders):
    data = PairedFolder(*folders, cache=True)
    first = data[0]
    before = first["image"].clone()
    first["image"].zero_()
    data[0]["target"].zero_()
    assert torch.equal(data[0]["image"], before)
    assert torch.equal(data[0]["target"], PairedFolder(*folders)[0]["target"])
    (folders[0] / "a.jpg").unlink()
    assert torch.equal(data[0]["image"], before)


def test_revealed_pixels_depend_on_seed_and_id_alone(folders):
    whole, some = PairedFolder(*folders), PairedFolder(*folders, reveal=0.1)
    again = PairedFolder(*folders, reveal=0.1, ids=["b"])
    other = PairedFolder(*folders, reveal=0.1, seed=1)
    target = some[1]["target"]
    assert int((target != 255).sum()) == round(0.1 * 12 * 16)
    assert torch.equal(target[target != 255], whole[1]["target"][target != 255])
    assert torch.equal(target, again[0]["target"])
    assert not torch.equal(target != 255, other[1]["target"] != 255)
    assert not torch.equal(target != 255, some[0]["target"] != 255)


def test_empty_folder(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^images: expected pictures .*got none"):
        PairedFolder(tmp_path / "empty", folders[1])
    with pytest.raises(ValueError, match=r"^masks: expected pictures .*got none"):
        PairedFolder(folders[0], tmp_path / "empty")


def test_picture_without_mask(folders):
    (folders[1] / "b.png").unlink()
    with pytest.raises(ValueError, match=r"^masks: expected a mask for .*b\.jpg, got none in"):
        PairedFolder(*folders)
    assert len(PairedFolder(*folders, ids=["a", "c"])) == 2
    (folders[1] / "c.png").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg \(and 1 more\)"):
        PairedFolder(*folders)


def test_mask_without_picture_is_passed_over(folders):
    (folders[0] / "b.jpg").unlink()
    assert PairedFolder(*folders).ids == ["a", "c"]


def test_mask_of_another_size(folders):
    Image.fromarray(np.zeros((16, 12), dtype=np.uint8)).save(folders[1] / "a.png")
    for size in (None, (6, 6)):
        with pytest.raises(
            ValueError, match=r"a\.png: expected the size of .*a\.jpg, 16x12 pixels, got 12x16$"
        ):
            PairedFolder(*folders, size=size)[0]


@pytest.mark.parametrize("which", [0, 1])
def test_unreadable_file(folders, which):
    path = next(p for p in folders[which].iterdir() if p.stem == "a")
    path.write_bytes(path.read_bytes()[:60])
    data = PairedFolder(*folders)
    with pytest.raises(ValueError, match=f"^{path}: expected"):
        data[0]
    assert data[1]["id"] == "b"


def test_values_outside_the_classes(folders):
    Image.fromarray(np.full((12, 16), 7, dtype=np.uint8)).save(folders[1] / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected mask values 0 and 1, or 0 and 255, got 7$"):
        PairedFolder(*folders)[0]
    assert PairedFolder(*folders, classes=8)[0]["target"].unique().tolist() == [7]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"classes": 1}, "classes"),
        ({"size": 0}, "size"),
        ({"reveal": 0.0}, "reveal"),
        ({"reveal": 1.1}, "reveal"),
        ({"ids": []}, "ids"),
        ({"ids": ["z"]}, "ids"),
        ({"ids": ["a", "a"]}, "ids"),
    ],
)
def test_bad_arguments(folders, arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        PairedFolder(*folders, **arguments)


def test_reveal_keeps_one_pixel_and_skips_void():
    target = torch.full((10, 10), 255)
    assert torch.equal(reveal(target, 0.5), target)
    target[3, 4] = 1
    assert torch.equal(reveal(target, 0.001), target)
    target = torch.arange(100).reshape(10, 10).remainder(3)
    assert torch.equal(reveal(target, 1.0), target)


def test_every_pixel_is_equally_likely_to_be_revealed():
    target = torch.zeros(8, 8, dtype=torch.int64)
    times = sum((reveal(target, 0.25, seed) != 255).double() for seed in range(2000))
    # Binomial(2000, 1/4): six standard deviations.
    assert (times - 500).abs().max() < 6 * (2000 * 0.25 * 0.75) ** 0.5
