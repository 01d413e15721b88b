"""Pictures and masks in files, read back bit for bit, and every kind of bad file."""

import numpy as np
import pytest
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
    with pytest.raises(PictureError, match="floating-point values of unknown range"):
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
