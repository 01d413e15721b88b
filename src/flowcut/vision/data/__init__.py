"""Datasets: every item is a dict of ``image`` (3, H, W), ``target`` (H, W) and ``id``."""

from flowcut.vision.data.folder import Item, PairedFolder
from flowcut.vision.data.horses import WeizmannHorses
from flowcut.vision.data.mosaic import TextureMosaic
from flowcut.vision.data.revealed import reveal

__all__ = ["Item", "PairedFolder", "TextureMosaic", "WeizmannHorses", "reveal"]
