"""Cityscapes on small folders in the original layout: splits, labels, instances, tiles, bad files."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.vision.data import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_IDS,
    THESIS_SETS,
    Augmented,
    BalancedTiles,
    Cityscapes,
    ClickedObjects,
    RandomCrops,
    check_present,
    count_cityscapes,
)
from flowcut.vision.data.cityscapes import resize_instances
from flowcut.vision.data.cityscapes_facts import TRAIN_CITIES, VAL_CITIES
from flowcut.vision.networks import BasicCnn
from flowcut.vision.pictures import PictureError
from flowcut.vision.tiled import predict_tiled
from tests.vision.data.cityscapes_made import ID, SIZE, street, write_cityscapes, write_frame


@pytest.fixture
def root(tmp_path):
    write_cityscapes(tmp_path)
    return tmp_path


def test_facts():
    """34 ids; 19 of them evaluated; 2975 and 500 frames, which the cities add up to."""
    assert len(CITYSCAPES_IDS) == len(set(CITYSCAPES_IDS)) == 34
    assert len(CITYSCAPES_CLASSES) == 19
    assert [ID[name] for name in CITYSCAPES_CLASSES] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert (len(TRAIN_CITIES), sum(TRAIN_CITIES.values())) == (18, 2975)
    assert (len(VAL_CITIES), sum(VAL_CITIES.values())) == (3, 500)
    assert [one[2:] for one in THESIS_SETS.values()] == [
        (13078, 1024, 2344), (21644, 609, 3724), (11983, 877, 4833),
    ]  # fmt: skip


def test_whole_cities_are_kept_back_for_validation(root):
    ids = {split: Cityscapes(root, split).ids for split in ("train", "val", "test")}
    assert ids["train"] == ["aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019"]
    assert ids["val"] == ["zurich_000000_000019"]
    assert ids["test"] == ["lindau_000000_000019", "lindau_000001_000019"]
    assert Cityscapes(root, "val", val_cities=["ulm", "aachen"]).ids == ids["train"]
    kept = sum(TRAIN_CITIES[city] for city in ("bochum", "zurich"))
    # The thesis' binary set keeps 1024 of 14102 tiles back.
    assert kept / 2975 == pytest.approx(1024 / 14102, abs=0.002)


def test_nineteen_classes_and_void(root):
    data = Cityscapes(root, "test")
    assert data.names == CITYSCAPES_CLASSES
    assert data.classes == 19
    ids, _ = street()
    expected = np.full(SIZE, 255)
    for label, name in enumerate(CITYSCAPES_CLASSES):
        expected[ids == ID[name]] = label
    assert (data[0]["target"].numpy() == expected).all()
    assert torch.equal(data.target(0), data[0]["target"])
    assert "instance" not in data[0]


def test_chosen_classes_background_and_void(root):
    data = Cityscapes(root, "test", classes=["car", "traffic sign"], cache=True)
    assert data.names == ("background", "car", "traffic sign")
    ids, _ = street()
    expected = np.where(ids == ID["car"], 1, np.where(ids == ID["traffic sign"], 2, 0))
    expected[ids == ID["ego vehicle"]] = 255
    for _ in range(2):
        assert (data[0]["target"].numpy() == expected).all()


def test_every_id_is_read(root):
    ids = np.tile(np.arange(40).clip(max=33), (2, 1))
    write_frame(root, "val", "lindau_000009_000019", ids, ids)
    target = Cityscapes(root, "test", classes=["static"])[2]["target"][0]
    assert target.tolist() == [255] * 4 + [1] + [0] * 35


@pytest.mark.parametrize("classes", [[], ["horse"], ["car", "car"], ["unlabeled"]])
def test_bad_classes(root, classes):
    with pytest.raises(ValueError, match=r"^classes: expected different names out of"):
        Cityscapes(root, classes=classes)


def test_classes_never_present(root):
    data = Cityscapes(root, classes=["car", "train", "bus"])
    with pytest.raises(ValueError, match=r"^classes: .* got 'train', 'bus' in none of 3$"):
        check_present(data, data.names)
    data = Cityscapes(root, classes=["car"])
    check_present(data, data.names)
    with pytest.raises(ValueError, match=r"^classes: expected labels that occur"):
        BalancedTiles(Cityscapes(root, classes=["train"]), 8, classes=[1])


def test_instances_of_persons_and_vehicles(root):
    data = Cityscapes(root, "test", instances=True)
    ids, values = street()
    instance = data.instances(0)
    assert torch.equal(data[0]["instance"], instance)
    assert sorted(instance.unique().tolist()) == [-1, 0, 24000, 26000, 26001]
    assert (instance.numpy()[values >= 1000] == values[values >= 1000]).all()
    assert (instance.numpy()[values < 1000] == np.where(ids == ID["car"], -1, 0)[values < 1000]).all()


def test_instances_are_kept_resized_revealed_and_copied(root):
    data = Cityscapes(root, "test", size=(12, 24), instances=True, classes=["car"], reveal=0.5, cache=True)
    first = data[0]
    assert set(first["target"].unique().tolist()) == {0, 1, 255}
    # The two cars begin and end at even pixels, so that halving is taking every second one.
    cars = data.instances(0)[12:18:2, 4:18:2]
    assert set(cars.unique().tolist()) == {26000, 26001}
    assert torch.equal(first["instance"][6:9, 2:9], cars)
    assert (first["instance"][first["target"] == 1] != 0).all()
    first["instance"][:] = 5
    assert int(data[0]["instance"].max()) == 26001


def test_resized_instances_belong_to_their_label():
    rng = np.random.default_rng(0)
    instance = torch.from_numpy(rng.integers(1, 5, (12, 12)))
    labels = torch.from_numpy(rng.integers(0, 2, (12, 12)))
    instance = torch.where(labels == 1, instance, 0)
    small = torch.ones(4, 4, dtype=torch.int64)
    small[0] = 0
    result = resize_instances(instance, labels, small)
    assert (result[0] == 0).all()
    for y in range(1, 4):
        for x in range(4):
            block = instance[3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
            counts = torch.bincount(block[block > 0], minlength=5)
            assert counts[result[y, x]] == counts.max()


def test_objects_are_instances_and_signs_their_components(root):
    data = Cityscapes(root, "test", classes=["traffic sign", "car", "person"], instances=True)
    items = list(ClickedObjects(data, enumerate_all=True))
    # A sign, two cars that touch and no group of cars, a person in two pieces: in each of two frames.
    assert [int((item["target"] == 1).sum()) for item in items] == [16, 36, 48, 84] * 2
    for item in items:
        click = item["image"][3]
        assert float(click.sum()) == 1
        assert int(item["target"][click == 1]) == 1
    # The person's centroid lies on the pole.
    assert data[0]["target"][13, 26] == 0
    without = Cityscapes(root, "test", classes=["traffic sign", "car", "person"])
    sizes = [int((item["target"] == 1).sum()) for item in ClickedObjects(without, enumerate_all=True)]
    assert sizes == [16, 84, 30, 42, 42] * 2


def test_a_click_on_what_lies_around_its_centroid(root):
    ids, instances = (np.full(SIZE, ID["road"]) for _ in range(2))
    ids[4:15, 4:15], instances[4:15, 4:15] = ID["car"], 26007
    ids[6:13, 6:13], instances[6:13, 6:13] = ID["person"], 24000
    write_frame(root, "val", "munster_000000_000019", ids, instances)
    data = Cityscapes(root, "test", classes=["car"], instances=True)
    item = ClickedObjects(data, enumerate_all=True)[-1]
    assert data[2]["target"][9, 9] == 0
    assert int(item["target"][item["image"][3] == 1]) == 1


def test_instances_travel_through_tiles_and_changes(root):
    data = Cityscapes(root, "train", classes=["traffic sign", "car", "person"], instances=True)
    for cut in (BalancedTiles(data, 16, count=6, classes=[2], share=1.0), RandomCrops(data, 16, count=6)):
        tiles = Augmented(cut, flip=0.5, quarter_turns=True, scale=(0.7, 1.4))
        for k in range(len(tiles)):
            item = tiles[1, k]
            assert item["instance"].shape == item["target"].shape == (16, 16)
            # Void fills what a smaller picture leaves over, in the target.
            known = item["target"] != 255
            objects = {c: set(item["instance"][known & (item["target"] == c)].tolist()) for c in (1, 2, 3)}
            assert objects[1] <= {0}
            assert objects[2] <= {26000, 26001, -1}
            assert objects[3] <= {24000}
    # Single cars only, however the two are cut.
    objects = ClickedObjects(BalancedTiles(data, 16, count=6, classes=[2], share=1.0), classes=[2])
    for k in range(len(objects)):
        item = objects[2, k]
        assert item["image"].shape == (4, 16, 16)
        assert int((item["target"] == 1).sum()) <= 48


def test_most_tiles_hold_the_class(root):
    data = Cityscapes(root, "train", classes=["traffic sign"])
    tiles = BalancedTiles(data, 8, count=40, classes=[1], share=0.9)
    drawn = [tiles[draw, k]["target"] for draw in range(3) for k in range(len(tiles))]
    held = np.mean([bool((target == 1).any()) for target in drawn])
    # 360 tiles: 0.9 and a few of the others; standard deviation 0.016.
    assert 0.85 < held < 0.99


def test_full_resolution_in_tiles_of_256_and_32(tmp_path):
    """A network that sees a few pixels far gives in tiles, recombined, what it gives for the whole frame."""
    write_cityscapes(tmp_path, size=(432, 768))
    data = Cityscapes(tmp_path, "test", classes=["traffic sign", "car", "person"])
    assert RandomCrops(data, 256 + 32)[1, 1]["image"].shape == (3, 288, 288)
    torch.manual_seed(0)
    network = BasicCnn(num_classes=4, width=4).eval()
    image = data[0]["image"]
    assert image.shape == (3, 432, 768)
    whole = predict_tiled(network, image, tile=(432, 768), overlap=0)
    tiled = predict_tiled(network, image, tile=256, overlap=32)
    assert tiled.shape == (4, 432, 768)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


def test_counts_beside_the_thesis(root):
    counts = count_cityscapes(Cityscapes(root, "test", classes=["traffic sign", "car"]), tile=8)
    assert (counts.frames, counts.tiles) == (2, 2 * 3 * 6)
    held = {"traffic sign": 0, "car": 0}
    for shift in (0, 1):
        ids, _ = street(shift)
        for name in held:
            places = np.argwhere(ids == ID[name]) // 8
            held[name] += len({tuple(place) for place in places.tolist()})
    assert counts.holding == held
    assert counts.thesis == {"specific object": 3724, "multiclass": 4833}
    assert not counts.complete
    assert counts.missing == {"frankfurt": 267, "lindau": 57, "munster": 174}
    assert str(counts).startswith("test: 2 of 500 frames; ")
    assert "incomplete, so counts say nothing" in str(counts)
    data = Cityscapes(root, "val", classes=["traffic sign", "bus"])
    # The sign has 16 pixels, all in one tile.
    few = count_cityscapes(data, tile=8, min_pixels=16)
    assert few.holding == {"traffic sign": 1, "bus": 0}
    assert few.absent == ("bus",)
    assert few.thesis == {}
    assert count_cityscapes(data, tile=8, min_pixels=17).any == 0


def test_complete_cities_are_not_missed(root, monkeypatch):
    monkeypatch.setitem(VAL_CITIES, "frankfurt", 0)
    monkeypatch.setitem(VAL_CITIES, "munster", 0)
    monkeypatch.setitem(VAL_CITIES, "lindau", 2)
    data = Cityscapes(root, "test", classes=["car"])
    assert data.missing == {}
    counts = count_cityscapes(data, tile=8)
    assert counts.complete
    assert "incomplete" not in str(counts)


def test_bad_counts(root):
    data = Cityscapes(root, "test", classes=["car"])
    with pytest.raises(ValueError, match=r"^dataset: expected Cityscapes made with classes"):
        count_cityscapes(Cityscapes(root, "test"))
    with pytest.raises(ValueError, match=r"^min_pixels: expected 1 or more, got 0"):
        count_cityscapes(data, 8, min_pixels=0)
    with pytest.raises(ValueError, match=r"^tile: expected at most the size \(24, 48\) of a frame, got"):
        count_cityscapes(data)


def test_files_that_do_not_fit_are_listed_in_one_line(root):
    images, labels = root / "leftImg8bit" / "train" / "aachen", root / "gtFine" / "train" / "aachen"
    (labels / "aachen_000000_000019_gtFine_labelIds.png").unlink()
    (images / "aachen_000001_000019_leftImg8bit.png").rename(images / "aachen_000001_000019.png")
    shutil.copy(root / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png", images)
    with pytest.raises(ValueError, match=r"^root: ") as caught:
        Cityscapes(root)
    message = str(caught.value)
    assert "\n" not in message
    assert "got 4 missing or misnamed: " in message
    assert (
        f"{images / 'aachen_000001_000019.png'} is not named aachen_SSSSSS_FFFFFF_leftImg8bit.png" in message
    )
    assert f"{images / 'ulm_000000_000019_leftImg8bit.png'} is not named aachen_" in message
    assert "aachen_000000_000019_leftImg8bit.png has no aachen_000000_000019_gtFine_labelIds.png" in message
    assert "aachen_000001_000019_gtFine_labelIds.png has no aachen_000001_000019_leftImg8bit.png" in message
    # Other cities are none of its business.
    assert len(Cityscapes(root, "val")) == 1


def test_many_files_that_do_not_fit_are_counted(root):
    folder = root / "gtFine" / "val" / "lindau"
    for i in range(9):
        Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(folder / f"lindau_{i:03}_gtFine_labelIds.png")
    with pytest.raises(ValueError, match=r"got 9 missing or misnamed: ([^;]+; ){5}and 4 more$"):
        Cityscapes(root, "test")


def test_missing_instances_matter_where_they_are_asked_for(root):
    (root / "gtFine" / "val" / "lindau" / "lindau_000001_000019_gtFine_instanceIds.png").unlink()
    assert len(Cityscapes(root, "test")) == 2
    with pytest.raises(
        ValueError, match=r"got 1 missing or misnamed: .*has no lindau_000001_000019_gtFine_inst"
    ):
        Cityscapes(root, "test", instances=True)


def test_missing_folders_splits_and_cities(root, tmp_path):
    with pytest.raises(ValueError, match=r"^split: expected one of train, val, test, got 'dev'"):
        Cityscapes(root, "dev")
    with pytest.raises(
        ValueError, match=r"^root: expected a frame of val with val_cities \['rome'\].* 'ulm'"
    ):
        Cityscapes(root, "val", val_cities=["rome"])
    shutil.rmtree(root / "gtFine" / "val")
    with pytest.raises(ValueError, match=r"^root: expected leftImg8bit/val and gtFine/val .* got no folder"):
        Cityscapes(root, "test")


@pytest.mark.parametrize("value", [20001, 34, 34000, 60000])
def test_damaged_instances(root, value):
    ids, instances = street()
    instances[3, 3] = value
    write_frame(root, "val", "lindau_000000_000019", ids, instances)
    with pytest.raises(
        PictureError, match=rf"instanceIds.png: expected instance ids of Cityscapes, got \[{value}\]"
    ):
        Cityscapes(root, "test", instances=True)[0]


def test_damaged_labels_and_sizes(root):
    ids, instances = street()
    write_frame(root, "val", "lindau_000000_000019", np.where(ids == 7, 77, ids), instances)
    write_frame(root, "val", "lindau_000001_000019", ids, instances[:, :-1])
    data = Cityscapes(root, "test", instances=True)
    with pytest.raises(PictureError, match=r"labelIds.png: expected mask values 0 to 33, .* 77"):
        data[0]
    with pytest.raises(PictureError, match=r"instanceIds.png: expected \(24, 48\) pixels, got \(24, 47\)"):
        data[1]
