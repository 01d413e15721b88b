"""Pictures and masks in files: one clear line where a file is not what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.vision.decode import MAX_PIXELS, PictureError, Raster, decode
from flowcut.vision.palette import blend, palette

__all__ = ["MAX_PIXELS", "SUFFIXES", "VOID", "PictureError", "list_pictures", "read_image", "read_mask",
           "write_mask", "write_overlay"]  # fmt: skip

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
VOID = 255
# Values between two labels lie within 8 pixels of both, a block of a JPEG or an enlargement by 8.
_FILTER_REACH = 17


def read_image(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> Tensor:
    """Read a picture.

    JPEG, PNG, TIFF and BMP; 8-bit values are divided by 255, 16-bit ones by 65535, and
    floating-point ones (TIFF) have to lie in [0, 1]. Grey pictures give three equal
    channels, palettes are looked up, CMYK is converted, transparency is dropped, and the
    orientation a camera noted (EXIF) is respected.

    Parameters
    ----------
    path
        The file.
    max_pixels
        Larger pictures are refused before they are unpacked, for a small file can hold a
        picture that fills the memory. 80 million pixels take 1 GB. None: no limit.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1], red, green, blue.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    PictureError
        The file is no picture, is truncated, or holds values of unknown range.
    """
    raster = decode(path, max_pixels)
    values = _scaled(path, raster.values if raster.colours is None else raster.colours[raster.values])
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def read_mask(
    path: str | Path, classes: int = 2, void: bool = False, max_pixels: int | None = MAX_PIXELS
) -> Tensor:
    """Read a mask, a file with one label a pixel.

    Two classes: the values are 0 and 1, or 0 and 255 (255 then means label 1), unless
    ``void``, when they are 0, 1 and 255. More classes: the values are 0 to classes - 1, and
    255 marks void pixels. The labels of a palette file are its indices, as in PASCAL VOC.

    Parameters
    ----------
    path
        The file: grey, palette, black and white, or colour with three equal channels.
    classes
        Number of labels, 2 to 255.
    void
        With two classes: 255 marks void pixels instead of label 1.
    max_pixels
        As in :func:`read_image`.

    Returns
    -------
    Tensor
        (H, W) int64, labels 0 to classes - 1, and 255 at void pixels.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    PictureError
        The file is no picture, is truncated, is in colour, or holds other values. Values
        between two labels along their border, as a mask has that was resized by an
        interpolating filter or stored as JPEG, are named as that. Between labels 3 and 5
        such a filter leaves 4, which no reader can tell from a label.
    ValueError
        ``classes`` is out of its range.

    Notes
    -----
    A label that never occurs is no error, neither is a mask of void pixels alone.
    """
    if not 2 <= classes <= VOID:
        raise ValueError(f"classes: expected 2 to {VOID}, got {classes}")
    values = _mask_values(path, decode(path, max_pixels))
    found = set(np.unique(values).tolist())
    foreground_255 = classes == 2 and not void
    if foreground_255 and found <= {0, 255}:
        values = np.asarray(values == 255)
    elif not found <= set(range(classes)) | (set() if foreground_255 else {VOID}):
        expected = "0 and 1, or 0 and 255" if foreground_255 else f"0 to {classes - 1}, or 255 for void"
        shown = ", ".join(f"{value:g}" for value in sorted(found)[:8]) + (", ..." if len(found) > 8 else "")
        cause = _blurred(values, [*range(classes), VOID])
        raise PictureError(f"{path}: expected mask values {expected}, got {shown}{cause}")
    return torch.from_numpy(values.astype(np.int64))


def write_mask(path: str | Path, labels: Tensor, classes: int = 2) -> None:
    """Write labels as a palette PNG, whole or not at all.

    The values in the file are the labels, so that :func:`read_mask` gives them back; the
    colours (black and white for two classes, grey for void) are only for the eye.

    Parameters
    ----------
    path
        A file name that ends in .png.
    labels
        (H, W) integer, 0 to 255.
    classes
        Number of labels, for the choice of colours.

    Raises
    ------
    ValueError
        ``path`` has another suffix, or ``labels`` is not (H, W) integer in 0 to 255.
    OSError
        The file cannot be written.
    """
    picture = Image.fromarray(_checked_labels(labels))
    picture.putpalette(palette(classes).tobytes())
    _save_png(path, picture)


def write_overlay(path: str | Path, image: Tensor, labels: Tensor, opacity: float = 0.45) -> None:
    """Write a picture with its labels laid over it in colour, whole or not at all.

    Label 0 is left as it is; borders between labels are drawn in full colour.

    Parameters
    ----------
    path
        A file name that ends in .png.
    image
        (3, H, W) in [0, 1].
    labels
        (H, W) integer, 0 to 255.
    opacity
        Of the colour, in [0, 1].

    Raises
    ------
    ValueError
        ``path`` has another suffix, or the sizes of picture and labels differ.
    OSError
        The file cannot be written.
    """
    if tuple(image.shape) != (3, *labels.shape):
        raise ValueError(
            f"labels: expected the size of the image {tuple(image.shape)}, got {tuple(labels.shape)}"
        )
    pixels = image.detach().cpu().float().movedim(0, -1).numpy()
    _save_png(path, Image.fromarray(blend(pixels, _checked_labels(labels), opacity)))


def list_pictures(folder: str | Path, name: str) -> dict[str, Path]:
    """The pictures of a folder by their stem, sorted; other and hidden files are passed over.

    Parameters
    ----------
    folder
        The folder.
    name
        The argument that the errors name.

    Raises
    ------
    ValueError
        There is no such folder, no picture in it, or two pictures of one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{name}: expected a folder, got {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise ValueError(f"{name}: expected one file a stem, got {found[path.stem]} and {path.name}")
        found[path.stem] = path
    if not found:
        raise ValueError(f"{name}: expected pictures ({', '.join(SUFFIXES)}), got none in {folder}")
    return found


def _scaled(path: str | Path, values: NDArray[Any]) -> NDArray[np.float32]:
    """Values in [0, 1] by the range of their type."""
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    if values.dtype.kind == "f":
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        # Written so that NaN is refused.
        if not (low >= 0 and high <= 1):
            raise PictureError(f"{path}: expected floating-point values in [0, 1], got {low:g} to {high:g}")
        return values.astype(np.float32)
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        raise PictureError(
            f"{path}: expected 8 or 16 bits a channel, got {values.dtype} values of unknown range"
        )
    scaled: NDArray[np.float32] = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return scaled


def _mask_values(path: str | Path, raster: Raster) -> NDArray[Any]:
    values = raster.values
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise PictureError(f"{path}: expected one label a pixel, got a colour picture")
        values = values[..., 0]
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def _blurred(values: NDArray[Any], labels: list[int]) -> str:
    """What to say where the strange values lie between labels that meet there; else nothing."""
    strange = ~np.isin(values, labels)
    plain = values.astype(np.float64)
    if not strange.any() or strange.mean() > 0.5:
        return ""
    low = minimum_filter(np.where(strange, np.inf, plain), _FILTER_REACH)
    high = maximum_filter(np.where(strange, -np.inf, plain), _FILTER_REACH)
    if ((low < plain) & (plain < high))[strange].mean() < 0.9:
        return ""
    return ": values between labels at their borders, left by an interpolating resize or a lossy format"


def _checked_labels(labels: Tensor) -> NDArray[np.uint8]:
    values = labels.detach().cpu()
    if values.ndim != 2 or values.is_floating_point():
        raise ValueError(f"labels: expected integer (H, W), got {labels.dtype} {tuple(labels.shape)}")
    low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
    if low < 0 or high > VOID:
        raise ValueError(f"labels: expected 0 to {VOID}, got {low} to {high}")
    return values.to(torch.uint8).numpy()


def _save_png(path: str | Path, picture: Image.Image) -> None:
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: expected a name that ends in .png, got {path}")
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
