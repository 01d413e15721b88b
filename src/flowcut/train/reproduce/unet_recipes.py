"""The trainings of Experiments 2 to 11 of the SoftCut thesis: rows by name, and a recipe for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flowcut.train.recipe import (
    DataRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    TrainingRecipe,
)
from flowcut.train.reproduce.experiment import check_least, check_positive
from flowcut.train.reproduce.thesis_tables import THESIS, thesis_atol

__all__ = ["Row", "Settings", "recipe_of"]

_SYSTEMS = {
    "base": "base network",
    "submodular": "total variation (exact)",
    "exact": "SoftCut (exact)",
    "approximate": "SoftCut (approximate)",
}
# Of each role what the classes are called; "object" clicks on one of them, "full" sees whole pictures. The
# thesis' binary role are signs. In CamVid at half size they are so small that trainings of minutes hardly
# find any, and nothing could be compared: cars take their place.
_CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "camvid": {
        "binary": ("Car",),
        "object": ("SignSymbol", "Car"),
        "multiclass": ("SignSymbol", "Car"),
        "full": ("SignSymbol", "Car", "Pedestrian"),
    },
    "cityscapes": {
        "binary": ("traffic sign",),
        "object": ("traffic sign", "car"),
        "multiclass": ("traffic sign", "car"),
        "full": ("traffic sign", "car", "person"),
    },
}


@dataclass(frozen=True)
class Row:
    """A row of a table: a trained system, and how it is applied.

    Parameters
    ----------
    name : str
        ``SYSTEM[/LOSS][+INFERENCE]``: SYSTEM ``base``, ``submodular``, ``exact`` or ``approximate``; LOSS
        ``focal_dice`` (default ``dice``); INFERENCE ``max_flow`` (default: the head it was trained with).

    Raises
    ------
    ValueError
        The name is no such name.

    Examples
    --------
    >>> row = Row("approximate/focal_dice+max_flow")
    >>> row.system, row.loss, row.inference, row.label
    ('approximate', 'focal_dice', 'max_flow', 'SoftCut (approximate), Focal Dice, max-flow')
    """

    name: str

    def __post_init__(self) -> None:
        known = self.system in _SYSTEMS and self.loss in ("dice", "focal_dice")
        if not known or self.inference not in (None, "max_flow") or self.name != self._spelled():
            raise ValueError(f"rows: expected SYSTEM[/focal_dice][+max_flow], got {self.name!r}")
        if self.system == "base" and self.inference is not None:
            raise ValueError(f"rows: expected a system with edges for max-flow, got {self.name!r}")

    @property
    def training(self) -> str:
        """What rows of the same trained networks share."""
        return self.name.partition("+")[0]

    @property
    def system(self) -> str:
        """The head it is trained with."""
        return self.training.partition("/")[0]

    @property
    def loss(self) -> str:
        """The loss it is trained under."""
        return self.training.partition("/")[2] or "dice"

    @property
    def inference(self) -> str | None:
        """The head it is applied with; None: that of the training."""
        return self.name.partition("+")[2] or None

    @property
    def label(self) -> str:
        """As tables name it."""
        more = (", Focal Dice" if self.loss == "focal_dice" else "", ", max-flow" if self.inference else "")
        return _SYSTEMS[self.system] + "".join(more)

    def _spelled(self) -> str:
        loss = "" if self.loss == "dice" else f"/{self.loss}"
        return self.system + loss + (f"+{self.inference}" if self.inference else "")


@dataclass(frozen=True)
class Settings:
    """Settings of an experiment with U-Nets.

    Parameters
    ----------
    experiment : int
        2 to 11: whose numbers of the thesis stand beside ours.
    rows : tuple of str
        See :class:`Row`; differences are taken from the first.
    task : str
        ``binary``: traffic signs (cars in CamVid); ``object``: the sign or car that a click names;
        ``multiclass``: signs, cars and background; ``full``: signs, cars and persons in whole pictures,
        seen in tiles.
    dataset : str
        ``cityscapes``, or ``camvid`` in its place.
    size : tuple of int, optional
        (height, width) the pictures are resized to; None: their own.
    tile : int
        Side of the tiles in pixels, a multiple of 32.
    overlap : int
        Of the tiles of ``full``, in pixels: they are that much larger, and what overlaps is discarded.
    tiles, test_tiles : int
        Tiles of each training picture in an epoch, and of each validation and test picture, >= 1. ``full``
        is validated and tested on whole pictures.
    reuse : tuple of str
        Experiments whose finished trainings of the same recipe are used where their run folders lie beside
        this one's.
    encoder : str
        Of segmentation-models-pytorch.
    decoder_channels : tuple of int
        Of the five levels of each decoder.
    optimizer : str
        ``adam`` or ``adagrad``.
    lr : float
        > 0.
    schedule : str
        ``constant`` as in the thesis, or ``cosine``, which short trainings gain from.
    epochs, batch_size : int
        >= 1.
    seeds : tuple of int
        >= 0, one training of each system for each.
    precision : str
        ``32`` or ``bf16``.
    threads : int
        Of PyTorch, >= 1.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    """

    experiment: int = 2
    rows: tuple[str, ...] = ("base", "submodular", "exact", "approximate")
    task: Literal["binary", "object", "multiclass", "full"] = "binary"
    dataset: Literal["camvid", "cityscapes"] = "cityscapes"
    size: tuple[int, int] | None = None
    tile: int = 256
    overlap: int = 32
    tiles: int = 5
    test_tiles: int = 5
    reuse: tuple[str, ...] = ()
    encoder: str = "resnet18"
    decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    optimizer: Literal["adam", "adagrad"] = "adam"
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    epochs: int = 100
    batch_size: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    precision: Literal["32", "bf16"] = "bf16"
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if self.experiment not in THESIS:
            raise ValueError(f"experiment: expected one of {sorted(THESIS)}, got {self.experiment}")
        for name in ("tiles", "test_tiles", "epochs", "batch_size", "threads"):
            check_least(name, getattr(self, name), 1)
        if self.tile < 32 or self.tile % 32 or self.overlap < 0 or self.overlap % 32:
            raise ValueError(f"tile: expected multiples of 32, got {self.tile} and overlap {self.overlap}")
        check_positive("lr", self.lr)
        for name in ("rows", "seeds"):
            check_least(name, len(getattr(self, name)), 1)
        for name in self.rows:
            Row(name)


def recipe_of(settings: Settings, row: Row, root: str, seed: int) -> Recipe:
    """The training of one row.

    Parameters
    ----------
    settings : Settings
    row : Row
    root : str
        Folder of the data set.
    seed : int

    Returns
    -------
    Recipe
    """
    # The thesis gives gamma = 2 and t = 1/2, where the printed form has a gradient everywhere.
    loss: Any = row.loss
    side = settings.tile + (settings.overlap if settings.task == "full" else 0)
    return Recipe(
        dataset=_data(settings, root, side),
        network=NetworkRecipe(
            kind="two_head_unet",
            encoder=settings.encoder,
            decoder_channels=settings.decoder_channels,
            **_head(row.system, settings.batch_size * side**2),
        ),
        loss=LossRecipe(kind=loss, gamma=2.0, threshold=0.5),
        optimizer=OptimizerRecipe(kind=settings.optimizer, lr=settings.lr, schedule=settings.schedule),
        training=TrainingRecipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=seed,
            device=settings.device,
            precision=settings.precision,
            picture_every=settings.epochs,
        ),
    )


def _data(settings: Settings, root: str, side: int) -> DataRecipe:
    classes = _CLASSES[settings.dataset][settings.task]
    labels = tuple(range(1, len(classes) + 1))
    whole = settings.task == "full"
    return DataRecipe(
        kind=settings.dataset,
        root=root,
        size=settings.size,
        crop=(side, side),
        crops=settings.tiles,
        # "The vast majority of them contain the selected classes" (section 3).
        balance=None if whole else 0.9,
        balance_classes=None if whole else labels,
        crop_tests=0 if whole else settings.test_tiles,
        click=settings.task == "object",
        # What is smaller is cut off by the border of the tile, or no object that anybody would click on.
        click_pixels=10,
        num_classes=len(labels) + 1,
        classes=classes,
    )


def _head(system: str, pixels: int) -> dict[str, Any]:
    if system == "base":
        return {"head": "none"}
    if system == "submodular":
        # Where the thesis runs 35 rounds of something inexact and then isotonic regression.
        return {"head": "total_variation"}
    if system == "exact":
        return {"head": "soft_cut", "solver": "cholesky"}
    return {"head": "soft_cut", "solver": "thesis", "atol": thesis_atol(pixels)}
