"""Datasets: every item is a dict of ``image`` (3, H, W), ``target`` (H, W) and ``id``."""

from flowcut.vision.data.crops import RandomCrops
from flowcut.vision.data.folder import Item, PairedFolder
from flowcut.vision.data.horses import WeizmannHorses
from flowcut.vision.data.isbi import Isbi2012
from flowcut.vision.data.mosaic import TextureMosaic
from flowcut.vision.data.revealed import reveal
from flowcut.vision.data.vessels import DriveVessels

__all__ = [
    "DriveVessels",
    "Isbi2012",
    "Item",
    "PairedFolder",
    "RandomCrops",
    "TextureMosaic",
    "WeizmannHorses",
    "reveal",
]
