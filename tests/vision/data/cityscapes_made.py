"""Small folders in the layout of Cityscapes."""

from pathlib import Path

import numpy as np
from PIL import Image

from flowcut.vision.data import CITYSCAPES_IDS

ID = {name: value for value, name in enumerate(CITYSCAPES_IDS)}
SIZE = (24, 48)


def street(shift=0, size=SIZE):
    """Road and sky, a traffic sign, two cars that touch, a person behind a pole, a group of cars.

    Returns ids and instance ids (H, W); larger sizes show everything enlarged.
    """
    ids = np.full(SIZE, ID["sky"])
    ids[12:] = ID["road"]
    ids[-1] = ID["ego vehicle"]
    instances = ids.copy()

    def put(rows, columns, name, number=None):
        here = (slice(*rows), slice(columns[0] + shift, columns[1] + shift))
        ids[here] = ID[name]
        instances[here] = ID[name] if number is None else 1000 * ID[name] + number

    put((4, 8), (2, 6), "traffic sign")
    put((12, 18), (4, 10), "car", 0)
    put((12, 18), (10, 18), "car", 1)
    put((6, 20), (22, 31), "person", 0)
    put((2, 22), (25, 28), "pole")
    put((14, 17), (34, 44), "car")
    times = (size[0] // SIZE[0], size[1] // SIZE[1])
    return tuple(np.kron(values, np.ones(times, dtype=values.dtype)) for values in (ids, instances))


def write_frame(root, folder, name, ids, instances, image=None):
    """One frame CITY_SSSSSS_FFFFFF: its picture shows the ids in colours."""
    city = name.split("_")[0]
    pictures, labels = (Path(root) / kind / folder / city for kind in ("leftImg8bit", "gtFine"))
    for path in (pictures, labels):
        path.mkdir(parents=True, exist_ok=True)
    if image is None:
        image = np.stack([7 * ids % 256, 29 * ids % 256, 83 * ids % 256], axis=-1)
    Image.fromarray(image.astype(np.uint8)).save(pictures / f"{name}_leftImg8bit.png")
    Image.fromarray(ids.astype(np.uint8)).save(labels / f"{name}_gtFine_labelIds.png")
    Image.fromarray(instances.astype(np.uint16)).save(labels / f"{name}_gtFine_instanceIds.png")
    # As the original data have them; nobody reads them here.
    Image.fromarray(image.astype(np.uint8)).save(labels / f"{name}_gtFine_color.png")
    (labels / f"{name}_gtFine_polygons.json").write_text("{}")


def write_cityscapes(root, size=SIZE):
    """Three frames for training in two cities, one for validation, two for testing; none is labelled for the
    original test set."""
    places = (("train", "aachen", 2), ("train", "ulm", 1), ("train", "zurich", 1), ("val", "lindau", 2))
    for folder, city, count in places:
        for i in range(count):
            write_frame(root, folder, f"{city}_00000{i}_000019", *street(i, size))
    (Path(root) / "leftImg8bit" / "test" / "berlin").mkdir(parents=True)
