"""What is fixed about Cityscapes (Cordts et al., 2016): label ids, cities, and the SoftCut thesis' counts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CITYSCAPES_CLASSES", "CITYSCAPES_IDS", "THESIS_SETS", "TRAIN_CITIES", "VAL_CITIES", "ThesisSet"]

# By the value in ..._labelIds.png.
CITYSCAPES_IDS = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge",
    "tunnel", "pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky",
    "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip

# Ids of pixels that show nothing of the scene or that nobody labelled.
UNSEEN = range(4)
# Ids whose objects are told apart in ..._instanceIds.png: persons and vehicles. Signs are not.
COUNTED = range(24, 34)
# An object of id c has there the values 1000 c + 0, 1, 2, ...; all else, groups of objects too, has c.
PER_ID = 1000

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

# Numbers of finely labelled frames: 2975 and 500.
TRAIN_CITIES = {
    "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221,
    "erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94,
    "strasbourg": 365, "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122,
}  # fmt: skip
VAL_CITIES = {"frankfurt": 267, "lindau": 59, "munster": 174}


class ThesisSet(NamedTuple):
    """One of the data sets that the SoftCut thesis (Sect. 3) makes of Cityscapes, with its sizes.

    Attributes
    ----------
    classes : tuple of str
        Labels 1, 2, ...; all else is background.
    click : bool
        Whether one object is meant, which a fourth channel names.
    train, val, test : int
        Samples, tiles of 256 x 256.
    """

    classes: tuple[str, ...]
    click: bool
    train: int
    val: int
    test: int


# The fourth, "Full Resolution", takes whole frames: traffic signs, cars and persons; no numbers are given.
THESIS_SETS = {
    "binary": ThesisSet(("traffic sign",), False, 13078, 1024, 2344),
    "specific object": ThesisSet(("traffic sign", "car"), True, 21644, 609, 3724),
    "multiclass": ThesisSet(("traffic sign", "car"), False, 11983, 877, 4833),
}
