"""NIfTI files: the same voxels back in the same place, and one line for everything else."""

import gzip
import sys

import nibabel
import numpy as np
import pytest
import torch

from flowcut.vision.pictures import PictureError
from flowcut.vision.volumes import Volume, fit_volume, read_volume, write_volume

AFFINE = torch.tensor(
    [[0.0, -2.0, 0.0, 5.0], [1.5, 0.0, 0.0, -7.0], [0.0, 0.0, 3.0, 1.0], [0, 0, 0, 1]], dtype=torch.float64
)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.uint8, torch.int64])
def test_what_is_written_is_read(tmp_path, name, dtype):
    values = (torch.rand(3, 4, 5) * 200).to(dtype)
    write_volume(tmp_path / name, values, AFFINE)
    labels = not dtype.is_floating_point
    volume = read_volume(tmp_path / name, labels=labels)
    assert volume.values.dtype == (torch.int64 if labels else torch.float32)
    assert torch.equal(volume.values, values.to(volume.values.dtype))
    torch.testing.assert_close(volume.affine, AFFINE)
    assert volume.spacing == pytest.approx((1.5, 2.0, 3.0))
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nibabel_reads_what_we_write(tmp_path):
    values = torch.randint(3, (3, 4, 5))
    write_volume(tmp_path / "a.nii.gz", values, AFFINE)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), values.numpy())
    np.testing.assert_allclose(image.affine, AFFINE.numpy())
    np.testing.assert_allclose(image.header.get_zooms(), (1.5, 2.0, 3.0))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_we_read_what_nibabel_writes(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1)
    image = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(0.5, 10.0)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)[..., 0]
    np.testing.assert_allclose(volume.values.numpy(), expected)
    assert volume.spacing == (1.0, 2.0, 3.0)


def test_equal_volumes_are_equal_files(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, torch.ones(2, 2, 2), AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def save(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


@pytest.mark.parametrize(
    ("write", "labels", "message"),
    [
        (lambda p: p.write_bytes(b"no volume"), False, "expected a NIfTI volume, got: "),
        (lambda p: p.write_bytes(gzip.compress(b"no volume")), False, "expected a NIfTI volume, got: "),
        (lambda p: p.write_bytes(b""), False, "expected a NIfTI volume, got: "),
        (
            lambda p: save(p, np.zeros((4, 4), np.float32)),
            False,
            "expected a volume of three axes, got shape",
        ),
        (lambda p: save(p, np.zeros((2, 2, 2, 3), np.float32)), False, "expected a volume of three axes"),
        (lambda p: save(p, np.full((2, 2, 2), np.nan, np.float32)), False, "expected finite values, got NaN"),
        (lambda p: save(p, np.full((2, 2, 2), 0.5, np.float32)), True, "expected labels 0 to 255, got 0.5"),
        (lambda p: save(p, np.full((2, 2, 2), -1, np.int16)), True, "expected labels 0 to 255, got -1.0"),
        (
            lambda p: save(p, np.full((2, 2, 2), np.nan, np.float32)),
            True,
            "expected labels 0 to 255, got nan",
        ),
        (lambda p: save(p, np.zeros((9, 9, 9), np.float32)), False, "expected at most 500 voxels, got 729"),
    ],
)
def test_bad_files_are_one_line(tmp_path, write, labels, message):
    path = tmp_path / "a.nii.gz"
    write(path)
    with pytest.raises(PictureError) as error:
        read_volume(path, labels=labels, max_voxels=500)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [100, 400, 900])
def test_a_truncated_file_is_one_line(tmp_path, keep):
    path = tmp_path / "a.nii.gz"
    write_volume(path, torch.rand(8, 8, 8), AFFINE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PictureError, match="expected a NIfTI volume, got"):
        read_volume(path)


def test_a_missing_file_and_a_missing_library(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="expected a volume, found no such file"):
        read_volume(tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"^NIfTI files need nibabel: pip install 'flowcut\[volumes\]'"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("name", "values", "affine", "message"),
    [
        ("a.png", torch.zeros(2, 2, 2), AFFINE, "path: expected a name that ends in .nii or .nii.gz"),
        ("a.nii", torch.zeros(2, 2), AFFINE, "values: expected (D, H, W) and an affine (4, 4), got (2, 2)"),
        ("a.nii", torch.zeros(2, 2, 2), AFFINE[:3], "values: expected (D, H, W) and an affine (4, 4)"),
        ("a.nii", torch.full((2, 2, 2), 256), AFFINE, "values: expected labels 0 to 255, got 256 to 256"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, values, affine, message):
    with pytest.raises(ValueError) as error:
        write_volume(tmp_path / name, values, affine)
    assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())


def test_fitting_keeps_the_middle():
    values = torch.arange(5 * 4 * 3).reshape(5, 4, 3)
    fitted = fit_volume(values, (3, 6, 4), fill=255)
    assert fitted.shape == (3, 6, 4)
    assert torch.equal(fitted[:, 1:5, :3], values[1:4])
    outside = torch.ones(3, 6, 4, dtype=torch.bool)
    outside[:, 1:5, :3] = False
    assert (fitted[outside] == 255).all()
    nearest = fit_volume(values.float(), (3, 6, 4), fill=None)
    assert torch.equal(nearest[:, 0], nearest[:, 1])
    assert torch.equal(nearest[..., 3], nearest[..., 2])
    assert torch.equal(nearest[:, 1:5, :3], values[1:4].float())


def test_spacing_of_a_turned_volume():
    angle = torch.tensor(0.3, dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0], turn[0, 1], turn[1, 0], turn[1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    scaled = turn @ torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64))
    assert Volume(torch.zeros(1, 1, 1), scaled).spacing == pytest.approx((0.5, 2.0, 1.0))
