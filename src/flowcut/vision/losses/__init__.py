"""Losses on logits, with void pixels, masks of revealed pixels, and any number of axes."""

from flowcut.flow.angle import AngleLoss
from flowcut.vision.losses.base import SegmentationLoss
from flowcut.vision.losses.cross_entropy import CrossEntropyLoss
from flowcut.vision.losses.dice import DiceLoss
from flowcut.vision.losses.focal import FocalLoss
from flowcut.vision.losses.focal_dice import FocalDiceLoss

__all__ = [
    "AngleLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalDiceLoss",
    "FocalLoss",
    "SegmentationLoss",
]
