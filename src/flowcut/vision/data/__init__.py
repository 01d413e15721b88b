"""Datasets: every item is a dict of ``image`` (3, H, W), ``target`` (H, W) and ``id``."""

from flowcut.vision.data.augmented import Augmented
from flowcut.vision.data.balanced import BalancedTiles
from flowcut.vision.data.camvid import CAMVID_CLASSES, Camvid
from flowcut.vision.data.cityscapes import Cityscapes
from flowcut.vision.data.cityscapes_counts import CityscapesCounts, count_cityscapes
from flowcut.vision.data.cityscapes_facts import CITYSCAPES_CLASSES, CITYSCAPES_IDS, THESIS_SETS
from flowcut.vision.data.clicked import ClickedObjects
from flowcut.vision.data.crops import RandomCrops
from flowcut.vision.data.drawn import DrawnDataset
from flowcut.vision.data.folder import Item, PairedFolder
from flowcut.vision.data.grabcut import GrabCut
from flowcut.vision.data.hippocampus import Hippocampus
from flowcut.vision.data.horses import WeizmannHorses
from flowcut.vision.data.isbi import Isbi2012
from flowcut.vision.data.mosaic import TextureMosaic
from flowcut.vision.data.present import check_present
from flowcut.vision.data.revealed import reveal
from flowcut.vision.data.vessels import DriveVessels
from flowcut.vision.tiles import TileGrid, tile, untile

__all__ = [
    "CAMVID_CLASSES",
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_IDS",
    "THESIS_SETS",
    "Augmented",
    "BalancedTiles",
    "Camvid",
    "Cityscapes",
    "CityscapesCounts",
    "ClickedObjects",
    "DrawnDataset",
    "DriveVessels",
    "GrabCut",
    "Hippocampus",
    "Isbi2012",
    "Item",
    "PairedFolder",
    "RandomCrops",
    "TextureMosaic",
    "TileGrid",
    "WeizmannHorses",
    "check_present",
    "count_cityscapes",
    "reveal",
    "tile",
    "untile",
]
