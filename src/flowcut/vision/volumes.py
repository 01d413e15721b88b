"""Volumes in NIfTI files: values, and where in space they are."""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.vision.decode import PictureError

__all__ = ["MAX_VOXELS", "SUFFIXES", "Volume", "fit_volume", "read_volume", "write_volume"]

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 256_000_000


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their place.

    Parameters
    ----------
    values
        (D, H, W), the axes as in the file: float32, or int64 labels.
    affine
        (4, 4) float64: takes voxel indices to coordinates, in millimetres as a rule.

    Examples
    --------
    >>> Volume(torch.zeros(2, 2, 2), torch.diag(torch.tensor([1.0, -0.5, 2.0, 1.0]))).spacing
    (1.0, 0.5, 2.0)
    """

    values: Tensor
    affine: Tensor

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along each axis: the lengths of the columns of the affine map."""
        lengths = self.affine[:3, :3].double().square().sum(dim=0).sqrt().tolist()
        return lengths[0], lengths[1], lengths[2]


def read_volume(path: str | Path, labels: bool = False, max_voxels: int | None = MAX_VOXELS) -> Volume:
    """Read a NIfTI file.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``.
    labels
        True: whole numbers 0 to 255, whatever type they are stored in.
    max_voxels
        Larger volumes are refused before they are unpacked. None: no limit.

    Returns
    -------
    Volume
        Scaled as the file says.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    PictureError
        It is no NIfTI file, is truncated, has not three axes, or holds values that are not finite or, as
        labels, not whole numbers 0 to 255.
    ImportError
        nibabel is not installed.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "small.nii.gz"
    >>> write_volume(file, torch.arange(24).reshape(2, 3, 4), torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
    >>> volume = read_volume(file, labels=True)
    >>> volume.values[1, 2].tolist(), volume.spacing
    ([20, 21, 22, 23], (1.0, 1.0, 3.0))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a volume, found no such file")
    nibabel = _nibabel()
    broken = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        image = nibabel.load(path)
        shape = _shape(path, image.shape, max_voxels)
        values = np.asarray(image.get_fdata(dtype=np.float32)).reshape(shape)
    except (*broken, EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path}: expected a NIfTI volume, got: {' '.join(str(error).split())}") from None
    found = _labels(path, values) if labels else _finite(path, values)
    return Volume(torch.from_numpy(found), torch.from_numpy(np.array(image.affine, dtype=np.float64)))


def write_volume(path: str | Path, values: Tensor, affine: Tensor) -> None:
    """Write a NIfTI file, whole or not at all.

    Parameters
    ----------
    path
        ``.nii``, or ``.nii.gz`` to be compressed.
    values
        (D, H, W): floating point is written as float32, labels 0 to 255 as uint8.
    affine
        (4, 4), for example that of the volume that was labelled.

    Raises
    ------
    ValueError
        An argument is not of that shape, range or ending.
    OSError
        The file cannot be written.
    """
    name = Path(path).name.lower()
    if not name.endswith(SUFFIXES):
        raise ValueError(f"path: expected a name that ends in {' or '.join(SUFFIXES)}, got {Path(path).name}")
    if values.ndim != 3 or tuple(affine.shape) != (4, 4):
        raise ValueError(
            f"values: expected (D, H, W) and an affine (4, 4), "
            f"got {tuple(values.shape)} and {tuple(affine.shape)}"
        )
    stored: NDArray[Any] = values.detach().cpu().float().numpy()
    if not values.dtype.is_floating_point:
        if values.numel() and (int(values.min()) < 0 or int(values.max()) > 255):
            raise ValueError(
                f"values: expected labels 0 to 255, got {int(values.min())} to {int(values.max())}"
            )
        stored = values.detach().cpu().to(torch.uint8).numpy()
    image = _nibabel().Nifti1Image(stored, affine.detach().cpu().double().numpy())
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    with atomic_write(path) as file:
        # Without the time of day, equal volumes are equal files.
        file.write(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def fit_volume(values: Tensor, size: Sequence[int], fill: float | None) -> Tensor:
    """Cut or continue a volume around its middle.

    Parameters
    ----------
    values
        (D, H, W).
    size
        Of what comes out.
    fill
        Value outside; None: that of the nearest voxel.

    Examples
    --------
    >>> fit_volume(torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 2, 2), fill=0.0).tolist()
    [[[1.0, 2.0], [0.0, 0.0]]]
    """
    for axis, wanted in enumerate(size):
        extra = values.shape[axis] - wanted
        if extra > 0:
            values = values.narrow(axis, extra // 2, wanted)
    missing = [wanted - n for n, wanted in zip(values.shape, size, strict=True)]
    pads = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
    if fill is None:
        return F.pad(values[None, None], pads, mode="replicate")[0, 0]
    return F.pad(values, pads, value=fill)


def _nibabel() -> Any:
    try:
        return importlib.import_module("nibabel")
    except ModuleNotFoundError as error:
        raise ImportError(f"NIfTI files need {error.name}: pip install 'flowcut[volumes]'") from error


def _shape(path: Path, found: Sequence[int], max_voxels: int | None) -> tuple[int, ...]:
    """The three axes, where further ones have length 1."""
    shape = tuple(int(n) for n in found)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise PictureError(f"{path}: expected a volume of three axes, got shape {shape}")
    voxels = shape[0] * shape[1] * shape[2]
    if max_voxels is not None and voxels > max_voxels:
        raise PictureError(f"{path}: expected at most {max_voxels} voxels, got {voxels}; pass max_voxels=")
    return shape[:3]


def _finite(path: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise PictureError(f"{path}: expected finite values, got NaN or infinity")
    return np.ascontiguousarray(values)


def _labels(path: Path, values: NDArray[np.float32]) -> NDArray[np.int64]:
    bad = ~((values >= 0) & (values <= 255) & (values == np.rint(values)))
    if bad.any():
        raise PictureError(f"{path}: expected labels 0 to 255, got {values[bad][0]}")
    return np.ascontiguousarray(values.astype(np.int64))
