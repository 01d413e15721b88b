"""ClickedObjects: one component, one pixel inside it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.utils.data import Dataset

from flowcut.vision.data import Augmented, BalancedTiles, ClickedObjects
from flowcut.vision.data.clicked import click_of


class Shapes(Dataset):
    """Picture 0: nothing but void. 1: two bars of class 1 that touch by a corner. 2: a ring of class 2."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        target = torch.zeros(12, 12, dtype=torch.int64)
        if index == 0:
            target[:] = 255
        if index == 1:
            target[2:4, 1:5] = 1
            target[4:6, 5:11] = 1
        if index == 2:
            target[1:10, 1:10] = 2
            target[3:8, 3:8] = 0
            target[11] = 255
        return {"image": torch.rand(3, 12, 12), "target": target, "id": str(index)}


def test_every_object_once():
    items = list(ClickedObjects(Shapes(), enumerate_all=True))
    assert [item["id"] for item in items] == ["1-1", "1-2", "2-1"]
    assert [int((item["target"] == 1).sum()) for item in items] == [8, 12, 56]
    for item in items:
        assert item["image"].shape == (4, 12, 12)
        click = item["image"][3]
        assert float(click.sum()) == float(click.max()) == 1
        assert int(item["target"][click == 1]) == 1
    assert (items[2]["target"][11] == 255).all()
    assert (items[0]["target"] != 255).all()


def test_settings_choose_the_objects():
    def ids(**settings):
        return [item["id"] for item in ClickedObjects(Shapes(), enumerate_all=True, **settings)]

    assert ids(connectivity=2) == ["1-1", "2-1"]
    assert ids(classes=[2]) == ["2-1"]
    assert ids(min_pixels=9) == ["1-1", "2-1"]
    # The hole and the surroundings of the ring are two components of the background.
    assert ids(classes=[0]) == ["1-1", "2-1", "2-2"]


def test_drawn_objects_are_numbers_and_all_are_met():
    data = ClickedObjects(Shapes())
    assert len(data) == 3
    met = {data[draw, 1]["id"] for draw in range(40)}
    assert met == {"1-1", "1-2"}
    # Picture 0 has none, so others take its place.
    assert {data[draw, 0]["id"] for draw in range(60)} == {"1-1", "1-2", "2-1"}
    assert data[7, 0]["id"] == ClickedObjects(Shapes())[7, 0]["id"]


def test_objects_in_augmented_tiles():
    tiles = BalancedTiles(Shapes(), 6, count=4, classes=[1], share=0.7)
    data = ClickedObjects(Augmented(tiles, quarter_turns=True, scale=(0.8, 1.2)), classes=[1])
    for k in range(len(data)):
        item = data[3, k]
        assert item["image"].shape == (4, 6, 6)
        assert int(item["target"][item["image"][3] == 1]) == 1


class Instances(Shapes):
    """As before, and picture 1 says which bar is whose; picture 2 says nothing of its ring."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        instance = torch.zeros(12, 12, dtype=torch.int64)
        if index == 1:
            item["target"][8:10] = 1
            instance[2:4], instance[4:6] = 31, 7
            # A third object in two pieces, and pixels of no single object.
            instance[8:10] = -1
            instance[8, :3] = instance[8, 6:8] = 12
        return item | {"instance": instance}


def test_instances_are_objects_and_components_where_none_is_known():
    items = list(ClickedObjects(Instances(), enumerate_all=True))
    assert [item["id"] for item in items] == ["1-1", "1-2", "1-3", "2-1"]
    # By their numbers: 7, 12, 31; then the ring.
    assert [int((item["target"] == 1).sum()) for item in items] == [12, 5, 8, 56]
    # The middle of the object in two pieces is a pixel of one of them.
    assert items[1]["image"][3].nonzero().tolist() == [[8, 2]]
    for item in items:
        assert item.keys() == {"image", "target", "id"}
    few = list(ClickedObjects(Instances(), enumerate_all=True, min_pixels=6))
    assert [int((item["target"] == 1).sum()) for item in few] == [12, 8, 56]


def test_instances_are_drawn_equally_often():
    data = ClickedObjects(Instances(), classes=[1])
    met = [data[draw, 1]["id"] for draw in range(300)]
    # Three objects, 300 draws: mean 100, standard deviation 8.2.
    assert all(100 - 5 * 8.2 < met.count(f"1-{number}") < 100 + 5 * 8.2 for number in (1, 2, 3))


def test_the_click_is_in_the_middle():
    disc = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5
    assert click_of(disc) == click_of(disc, "deepest") == (5, 5)
    rng = np.random.default_rng(0)
    for _ in range(50):
        inside = rng.random((9, 7)) < 0.6
        inside[4, 4] = True
        nearest, deepest = click_of(inside), click_of(inside, "deepest")
        assert inside[nearest]
        assert inside[deepest]
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        assert depth[deepest] == pytest.approx(depth.max())
        distance = np.hypot(*(np.indices(inside.shape) - np.argwhere(inside).mean(0)[:, None, None]))
        assert distance[nearest] == pytest.approx(distance[inside].min())


def test_no_object_is_one_clear_line():
    with pytest.raises(ValueError, match=r"^dataset: expected objects of classes \[7\], got none"):
        ClickedObjects(Shapes(), classes=[7], enumerate_all=True)
    with pytest.raises(ValueError, match=r"^dataset: expected an object of classes \[7\], got none in 50"):
        ClickedObjects(Shapes(), classes=[7])[0]
    for arguments in ({"min_pixels": 0}, {"connectivity": 3}, {"place": "edge"}):
        with pytest.raises(ValueError, match=rf"^{next(iter(arguments))}: expected"):
            ClickedObjects(Shapes(), **arguments)
