"""Pictures and masks in files, read back bit for bit, and every kind of bad file."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from flowcut.vision.palette import blend, hues, palette
from flowcut.vision.pictures import (
    PictureError,
    list_pictures,
    read_image,
    read_mask,
    write_mask,
    write_overlay,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (7, 9), dtype=np.uint8)


def save(path, array, mode=None, **options):
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_colour_is_read_exactly(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", RGB))
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(RGB.transpose(2, 0, 1)).float() / 255)


def test_jpeg_is_read(tmp_path):
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    image = read_image(save(tmp_path / "a.jpg", np.stack([smooth] * 3, -1), quality=95))
    assert (image - torch.from_numpy(smooth).float() / 255).abs().max() < 0.05


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_gives_three_equal_channels(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", GREY))
    assert torch.equal(image, torch.from_numpy(GREY).float().div(255).expand(3, -1, -1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_by_65535(tmp_path, suffix):
    deep = RNG.integers(0, 65536, (7, 9), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    image = read_image(save(tmp_path / f"a.{suffix}", deep))
    expected = torch.from_numpy(deep.astype(np.float32)) / 65535
    assert torch.equal(image, expected.expand(3, -1, -1))


def test_transparency_is_dropped(tmp_path):
    alpha = np.concatenate([RGB, GREY[..., None]], axis=2)
    assert torch.equal(read_image(save(tmp_path / "a.png", alpha)), read_image(save(tmp_path / "b.png", RGB)))


def test_grey_with_transparency(tmp_path):
    picture = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)])
    picture.save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), read_image(save(tmp_path / "b.png", GREY)))


def test_palette_is_looked_up(tmp_path):
    picture = Image.fromarray(GREY % 3)
    picture.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    picture.save(tmp_path / "a.png")
    expected = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]])[GREY % 3].transpose(2, 0, 1)
    assert torch.equal(read_image(tmp_path / "a.png"), torch.from_numpy(expected).float() / 255)


def test_black_and_white(tmp_path):
    image = read_image(save(tmp_path / "a.png", GREY > 100))
    assert torch.equal(image[1], torch.from_numpy(GREY > 100).float())


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_camera_orientation_is_respected(tmp_path, orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", RGB, exif=exif)
    upright = np.rot90(RGB, quarter_turns)
    assert torch.equal(read_image(path), torch.from_numpy(upright.transpose(2, 0, 1).copy()).float() / 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.7])
def test_truncated_files_are_one_clear_line(tmp_path, suffix, kept):
    path = save(tmp_path / f"a.{suffix}", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    for read in (read_image, read_mask):
        with pytest.raises(PictureError, match=rf"^{path}: expected") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_damaged_png_is_one_clear_line(tmp_path):
    path = save(tmp_path / "a.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(PictureError, match=f"^{path}: expected a whole picture"):
        read_image(path)


def test_no_file_and_no_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("words")
    with pytest.raises(PictureError, match="no known picture format"):
        read_image(tmp_path / "a.png")


def test_floating_point_and_many_pages_are_refused(tmp_path):
    save(tmp_path / "a.tif", GREY.astype(np.float32))
    with pytest.raises(PictureError, match=r"floating-point values in \[0, 1\], got \d+ to 255$"):
        read_image(tmp_path / "a.tif")
    pages = [Image.fromarray(GREY)] * 3
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(PictureError, match="got 3 pages"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("foreground", [1, 255])
@pytest.mark.parametrize("kind", ["grey", "rgb", "palette", "deep"])
def test_binary_masks(tmp_path, foreground, kind):
    labels = (GREY > 100).astype(np.uint8)
    values = labels * np.uint8(foreground)
    path = tmp_path / "m.png"
    if kind == "rgb":
        values = np.stack([values] * 3, axis=-1)
    picture = Image.fromarray(values.astype(np.uint16) if kind == "deep" else values)
    if kind == "palette":
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)
    mask = read_mask(path)
    assert mask.dtype == torch.int64
    assert torch.equal(mask, torch.from_numpy(labels).long())


def test_black_and_white_mask(tmp_path):
    mask = read_mask(save(tmp_path / "m.png", GREY > 100))
    assert torch.equal(mask, torch.from_numpy(GREY > 100).long())


@pytest.mark.parametrize("value", [0, 1, 255])
def test_masks_of_one_value(tmp_path, value):
    path = save(tmp_path / "m.png", np.full((3, 4), value, dtype=np.uint8))
    assert torch.equal(read_mask(path), torch.full((3, 4), int(value > 0)))


def test_what_255_means(tmp_path):
    three = save(tmp_path / "m.png", np.array([[0, 1, 255]], dtype=np.uint8))
    with pytest.raises(
        PictureError, match=f"^{three}: expected mask values 0 and 1, or 0 and 255, got 0, 1, 255"
    ):
        read_mask(three)
    assert read_mask(three, void=True).tolist() == [[0, 1, 255]]
    assert read_mask(three, classes=3).tolist() == [[0, 1, 255]]
    two = save(tmp_path / "n.png", np.array([[0, 255]], dtype=np.uint8))
    assert read_mask(two).tolist() == [[0, 1]]
    assert read_mask(two, void=True).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("values", "classes", "found"),
    [([[0, 2]], 2, "got 0, 2"), ([[0, 254, 255]], 2, "got 0, 254, 255"), ([[0, 5]], 5, "got 0, 5")],
)
def test_values_outside_the_classes_are_named(tmp_path, values, classes, found):
    path = save(tmp_path / "m.png", np.array(values, dtype=np.uint8))
    with pytest.raises(PictureError, match=f"^{path}: expected mask values .*{found}"):
        read_mask(path, classes)


def test_a_grey_picture_as_mask_names_some_values_only(tmp_path):
    path = save(tmp_path / "m.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(PictureError, match=r"got 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.$"):
        read_mask(path)


def test_a_colour_picture_is_no_mask(tmp_path):
    with pytest.raises(PictureError, match="one label a pixel, got a colour picture"):
        read_mask(save(tmp_path / "m.png", RGB))


@pytest.mark.parametrize("classes", [1, 256])
def test_number_of_classes(tmp_path, classes):
    with pytest.raises(ValueError, match=r"^classes: expected 2 to 255"):
        read_mask(save(tmp_path / "m.png", GREY), classes)


@pytest.mark.parametrize(("classes", "void"), [(2, False), (2, True), (7, False)])
def test_written_masks_read_back(tmp_path, classes, void):
    labels = torch.from_numpy(GREY % classes).long()
    if void or classes > 2:
        labels[0, :3] = 255
    write_mask(tmp_path / "m.png", labels, classes)
    assert torch.equal(read_mask(tmp_path / "m.png", classes, void), labels)


def test_a_written_binary_mask_looks_black_and_white(tmp_path):
    write_mask(tmp_path / "m.png", torch.tensor([[0, 1]]))
    assert np.asarray(Image.open(tmp_path / "m.png").convert("RGB")).tolist() == [[[0] * 3, [255] * 3]]


def test_overlay_leaves_the_background_and_draws_borders(tmp_path):
    labels = torch.zeros(9, 9, dtype=torch.int64)
    labels[2:7, 2:7] = 1
    image = torch.full((3, 9, 9), 0.2)
    write_overlay(tmp_path / "o.png", image, labels, opacity=0.5)
    drawn = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    assert (drawn[0] == 51).all()
    assert (drawn[2, 2] == hues()[1]).all()
    np.testing.assert_allclose(drawn[4, 4], (51 + hues()[1].astype(int)) / 2, atol=1)


@pytest.mark.parametrize("write", [write_mask, lambda p, x: write_overlay(p, torch.zeros(3, *x.shape), x)])
def test_failed_writes_leave_nothing(tmp_path, write):
    for labels, path, message in [
        (torch.zeros(2, 2).long(), tmp_path / "m.jpg", "ends in .png"),
        (torch.zeros(2, 2), tmp_path / "m.png", "^labels: expected integer"),
        (torch.full((2, 2), 256), tmp_path / "m.png", "^labels: expected 0 to 255, got 256"),
        (torch.full((2, 2), -1), tmp_path / "m.png", "^labels: expected 0 to 255, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            write(path, labels)
    with pytest.raises(OSError, match="nowhere"):
        write(tmp_path / "nowhere" / "m.png", torch.zeros(2, 2).long())
    assert list(tmp_path.iterdir()) == []


def test_overlay_sizes_must_match(tmp_path):
    with pytest.raises(ValueError, match=r"^labels: expected the size of the image"):
        write_overlay(tmp_path / "o.png", torch.zeros(3, 2, 3), torch.zeros(3, 2).long())


def test_palettes_tell_labels_apart():
    assert len({tuple(c) for c in palette(20)[:20]}) == 20
    with pytest.raises(ValueError, match=r"^opacity: expected"):
        blend(np.zeros((1, 1, 3)), np.zeros((1, 1), dtype=int), 1.5)


def test_listing_passes_over_other_files(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert list(list_pictures(tmp_path, "images")) == ["a", "b"]


def test_listing_refuses_what_has_no_answer(tmp_path):
    with pytest.raises(ValueError, match=r"^images: expected a folder"):
        list_pictures(tmp_path / "none", "images")
    with pytest.raises(ValueError, match=r"^images: expected pictures .*got none"):
        list_pictures(tmp_path, "images")
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"^images: expected one file a stem"):
        list_pictures(tmp_path, "images")


DEEP = RNG.integers(0, 65536, (7, 9, 4), dtype=np.uint16)
SIDES = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
         5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
         7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90}  # fmt: skip


def as_image(values):
    values = np.repeat(values[..., None], 3, 2) if values.ndim == 2 else values
    return torch.from_numpy(values.transpose(2, 0, 1).copy())


def save_deep_png(path, values, orientation=None):
    """A 16-bit PNG of 1 to 4 channels by the letter of its standard; Pillow writes grey ones only."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    exif = b""
    if orientation:
        exif = chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0))
    whole = chunk(b"IHDR", header) + exif + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_all_its_bits(tmp_path, channels):
    path = save_deep_png(tmp_path / "a.png", DEEP[..., :channels])
    grey = DEEP[..., :3] if channels > 2 else DEEP[..., 0]
    assert torch.equal(read_image(path), as_image(grey.astype(np.float32) / 65535))


def test_16_bit_labels_do_not_lose_their_low_byte(tmp_path):
    labels = np.array([[0, 1, 256]], dtype=np.uint16)
    path = save_deep_png(tmp_path / "m.png", np.repeat(labels[..., None], 3, 2))
    with pytest.raises(PictureError, match="got 0, 1, 256"):
        read_mask(path, 3)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", [np.uint16, np.float16, np.float32, np.float64])
def test_deep_tiff_colours(tmp_path, kind, planar):
    values = DEEP[..., :3] if kind == np.uint16 else (DEEP[..., :3] / 65535).astype(kind)
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    expected = values.astype(np.float32) / np.float32(65535 if kind == np.uint16 else 1)
    assert torch.equal(read_image(tmp_path / "a.tif"), as_image(expected))


def test_a_truncated_16_bit_png_is_one_clear_line(tmp_path):
    path = save_deep_png(tmp_path / "a.png", RNG.integers(0, 65536, (64, 64, 3), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PictureError, match="expected a whole picture"):
        read_image(path)


def test_compressed_deep_colours_name_what_is_missing(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., :3], photometric="rgb")

    def without_codecs(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", without_codecs)
    with pytest.raises(PictureError, match=r"uint16 colours .pip install imagecodecs reads it"):
        read_image(tmp_path / "a.tif")


def test_tiffs_of_other_byte_orders_polarities_and_compressions(tmp_path):
    grey = DEEP[..., 0]
    expected = as_image(grey.astype(np.float32) / 65535)
    tifffile.imwrite(tmp_path / "a.tif", grey, byteorder=">")
    tifffile.imwrite(tmp_path / "b.tif", 65535 - grey, photometric="miniswhite")
    Image.fromarray(grey).save(tmp_path / "c.tif", compression="tiff_lzw")
    for name in "abc":
        assert torch.equal(read_image(tmp_path / f"{name}.tif"), expected)


def test_values_of_unknown_range_are_refused(tmp_path):
    bad = DEEP[..., 0].astype(np.float32) / 65535
    bad[2, 3] = np.nan
    for values, message in [
        (DEEP[..., 0].astype(np.int16), "got int16 values of unknown range"),
        (DEEP[..., 0].astype(np.uint32), "got uint32 values of unknown range"),
        (bad, "in .0, 1., got nan to nan"),
        (bad * 0 - 0.5 + 1.6 * (np.nan_to_num(bad) > 0.5), "got"),
    ]:
        tifffile.imwrite(tmp_path / "a.tif", values)
        with pytest.raises(PictureError, match=message):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_converted(tmp_path, suffix):
    flat = np.zeros((8, 8, 4), dtype=np.uint8)
    flat[..., 0] = 255  # full cyan absorbs red
    Image.fromarray(flat, mode="CMYK").save(tmp_path / f"a.{suffix}")
    mean = read_image(tmp_path / f"a.{suffix}").mean(dim=(1, 2))
    assert torch.allclose(mean, torch.tensor([0.0, 1.0, 1.0]), atol=0.02)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_at_all_depths(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow = as_image(SIDES[orientation](RGB).astype(np.float32) / 255)
    for suffix in ("png", "tif"):
        assert torch.equal(read_image(save(tmp_path / f"a.{suffix}", RGB, exif=exif)), shallow)
    deep = as_image(SIDES[orientation](DEEP[..., :3]).astype(np.float32) / 65535)
    assert torch.equal(read_image(save_deep_png(tmp_path / "b.png", DEEP[..., :3], orientation)), deep)
    tifffile.imwrite(tmp_path / "b.tif", DEEP[..., :3], photometric="rgb",
                     extratags=[(274, 3, 1, orientation, True)])  # fmt: skip
    assert torch.equal(read_image(tmp_path / "b.tif"), deep)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_bombs_are_refused_before_they_go_off(tmp_path, read):
    # 10 gigapixels by the header; there is nothing to unpack, so that reading on would fail otherwise.
    path = save_deep_png(tmp_path / "a.png", DEEP[..., :1])
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match=r"at most 80000000 pixels, got 100000x100000 .* max_pixels"):
            read(path)


def test_the_limit_of_pixels_is_the_caller_s(tmp_path, monkeypatch):
    for suffix in ("png", "tif", "bmp"):
        path = save(tmp_path / f"a.{suffix}", RGB)
        with pytest.raises(PictureError, match=r"expected at most 62 pixels, got 9x7 = 63"):
            read_image(path, max_pixels=62)
        # Pillow's own limit, a global, has no say.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert read_image(path, max_pixels=63).shape == read_image(path, max_pixels=None).shape == (3, 7, 9)
        monkeypatch.undo()
    with pytest.raises(ValueError, match=r"^max_pixels: expected 1 or more, got 0"):
        read_image(path, max_pixels=0)


@pytest.mark.parametrize("how", ["bilinear", "bicubic", "jpeg"])
def test_masks_resized_by_a_wrong_filter_are_named_as_such(tmp_path, how):
    rows, columns = np.mgrid[:60, :80]
    picture = Image.fromarray(((rows - 30) ** 2 + (columns - 40) ** 2 < 400).astype(np.uint8) * 255)
    if how == "jpeg":
        picture.save(tmp_path / "m.jpg", quality=90)
    else:
        picture.resize((101, 77), Image.Resampling[how.upper()]).save(tmp_path / "m.png")
    with pytest.raises(PictureError, match=r"mask values .*got 0, .*: values between labels at their"):
        read_mask(tmp_path / ("m.jpg" if how == "jpeg" else "m.png"))


def test_other_strange_values_are_not_put_down_to_a_filter(tmp_path):
    labels = np.zeros((20, 20), dtype=np.uint8)
    labels[5:15, 5:15] = 7
    with pytest.raises(PictureError, match=r"got 0, 7$"):
        read_mask(save(tmp_path / "m.png", labels), 3)


def test_void_masks_and_absent_labels_are_masks(tmp_path):
    void = save(tmp_path / "m.png", np.full((3, 4), 255, dtype=np.uint8))
    assert (read_mask(void, classes=5) == 255).all()
    assert (read_mask(void, void=True) == 255).all()
    one = save(tmp_path / "n.png", np.full((3, 4), 3, dtype=np.uint8))
    assert read_mask(one, classes=5).unique().tolist() == [3]
