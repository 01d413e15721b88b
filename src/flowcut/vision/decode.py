"""The values in picture files, upright and at full depth; every reader's errors are met here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

__all__ = ["MAX_PIXELS", "PictureError", "Raster", "decode"]

# Below the limit at which Pillow, which asks nobody, begins to warn.
MAX_PIXELS = 80_000_000
_ORIENTATION = 274
_PLAIN = ("MINISBLACK", "MINISWHITE", "RGB")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# The classes and not Image.open, whose limit on pixels is a global that a caller could not raise by itself.
_READERS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.jpeg_factory),
    (b"BM", BmpImagePlugin.BmpImageFile),
    *((start, TiffImagePlugin.TiffImageFile) for start in _TIFF),
)
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError, struct.error,
               zlib.error, tifffile.TiffFileError, cv2.error, Image.DecompressionBombError)  # fmt: skip


class PictureError(ValueError):
    """A file is not a readable picture, or not the mask that was expected."""


@dataclass(frozen=True)
class Raster:
    """What a picture file holds, transparency left out.

    Attributes
    ----------
    values : ndarray
        (H, W), or (H, W, 3) red, green, blue; of the file's own type.
    colours : ndarray or None
        (256, 3) uint8 where the values are indices into a palette.
    """

    values: NDArray[Any]
    colours: NDArray[np.uint8] | None = None


def decode(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> Raster:
    """Read the whole file, turned upright as the camera noted (EXIF).

    Parameters
    ----------
    path
        A JPEG, PNG, BMP or TIFF file of one picture; what it is says its content and not its name.
    max_pixels
        Refuse larger pictures before they are unpacked; None takes any.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    PictureError
        The file is no picture, is truncated, too large, of several pages, or of a kind none can read.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels: expected 1 or more, got {max_pixels}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a picture, found no such file")
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            read = next((read for magic, read in _READERS if start.startswith(magic)), None)
            if read is None:
                raise PictureError(f"{path}: expected a picture, got a file of no known picture format")
            if start[:4] in _TIFF:
                return _tiff(path, file, max_pixels)
            with closing(read(file, str(path))) as picture:
                return _checked(path, picture, max_pixels, start, file)
    except PictureError:
        raise
    except _UNREADABLE as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{path}: expected a whole picture, could not read it ({line})") from None


def _checked(path: str | Path, picture: Any, max_pixels: int | None, start: bytes, file: BinaryIO) -> Raster:
    """A picture that is no TIFF."""
    _check_pixels(path, picture.size, max_pixels)
    # Two frames of a JPEG are a photograph and its preview or depth; those of a PNG are an animation.
    if picture.format == "PNG" and getattr(picture, "n_frames", 1) > 1:
        raise PictureError(f"{path}: expected one picture, got {picture.n_frames} frames")
    deep = picture.format == "PNG" and picture.tile and str(picture.tile[0].args).endswith(";16B")
    orientation = picture.getexif().get(_ORIENTATION, 1)
    if not deep or picture.mode.startswith("I"):
        return _from_pillow(picture, orientation)
    # Pillow halves the bits of all 16-bit colours, which would even turn label 256 into 1; OpenCV keeps
    # them, but takes damaged files in silence, which Pillow does not.
    picture.load()
    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise OSError("OpenCV does not take it")
    if values.ndim == 3:
        values = values[..., 2::-1]
    return Raster(_upright(_opaque(np.asarray(values)), orientation))


def _from_pillow(picture: Any, orientation: int = 1) -> Raster:
    picture.load()
    if picture.mode == "P":
        table = np.zeros((256, 3), dtype=np.uint8)
        colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        table[: len(colours)] = colours
        return Raster(_upright(np.asarray(picture), orientation), table)
    if picture.mode == "PA":
        picture = picture.convert("RGBA")
    if picture.mode in ("LA", "La"):
        picture = picture.convert("L")
    elif picture.mode not in ("1", "L", "RGB", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("RGB")
    return Raster(_upright(np.asarray(picture), orientation))


def _tiff(path: str | Path, file: BinaryIO, max_pixels: int | None) -> Raster:
    """Pillow unpacks every compression at 8 bits; tifffile reads all depths of those it can unpack."""
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        _check_pixels(path, (page.imagewidth, page.imagelength), max_pixels)
        if len(tiff.pages) > 1:
            raise PictureError(f"{path}: expected one picture, got {len(tiff.pages)} pages")
        tag = page.tags.get(_ORIENTATION)
        orientation = 1 if tag is None else int(tag.value)
        kind = tifffile.PHOTOMETRIC(page.photometric).name
        deep = page.dtype is not None and page.dtype.itemsize > 1
        if deep and kind not in _PLAIN:
            raise PictureError(f"{path}: expected grey or RGB values beyond 8 bits, got {page.dtype} {kind}")
        if deep and page.bitspersample not in (16, 32, 64):
            raise PictureError(f"{path}: expected 8 or 16 bits a channel, got {page.bitspersample}")
        if kind in _PLAIN and page.bitspersample >= 8:
            values = _plain_tiff(path, page)
            if values is not None:
                return Raster(_upright(values, orientation))
    file.seek(0)
    with closing(TiffImagePlugin.TiffImageFile(file, str(path))) as picture:
        # Pillow turns a TIFF upright by itself while it loads.
        raster = _from_pillow(picture)
    if kind == "MINISWHITE" and raster.values.dtype == np.uint16:
        return Raster(65535 - raster.values)
    return raster


def _plain_tiff(path: str | Path, page: Any) -> NDArray[Any] | None:
    """Grey or colours as they are; None where Pillow has to unpack them."""
    try:
        values = np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        if page.dtype == np.uint8 or (page.dtype == np.uint16 and page.samplesperpixel == 1):
            return None
        raise PictureError(
            f"{path}: expected another compression than {tifffile.COMPRESSION(page.compression).name} for "
            f"{page.dtype} colours (pip install imagecodecs reads it)"
        ) from None
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max) - values
    return _opaque(values)


def _opaque(values: NDArray[Any]) -> NDArray[Any]:
    """Without the channel of transparency; one channel of grey loses its axis."""
    if values.ndim == 3:
        values = values[..., :3] if values.shape[2] > 2 else values[..., 0]
    return values


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo one of the eight orientations of EXIF."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    # Of the picture as it should stand: which of its sides the file holds mirrored.
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _check_pixels(path: str | Path, size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    if max_pixels is not None and width * height > max_pixels:
        raise PictureError(
            f"{path}: expected at most {max_pixels} pixels, got {width}x{height} = {width * height}; "
            "max_pixels raises the limit"
        )
