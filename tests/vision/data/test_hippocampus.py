"""Hippocampus: normalised volumes, void outside, and what is refused."""

import os
from pathlib import Path

import pytest
import torch

from flowcut.vision.data.hippocampus import Hippocampus
from flowcut.vision.pictures import PictureError
from flowcut.vision.volumes import write_volume

DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[4] / "shared" / "data"))
SHAPES = {"a": (6, 8, 5), "b": (4, 9, 7)}


@pytest.fixture
def root(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for i, (name, shape) in enumerate(SHAPES.items()):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        volume = 1000.0 * (i + 1) + 10 ** (3 * i) * torch.randn(shape, generator=generator)
        write_volume(tmp_path / "images" / f"{name}.nii.gz", volume, torch.eye(4))
        labels = torch.randint(3, shape, generator=generator)
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", labels, torch.eye(4))
    for split, ids in (("train", "a\nb\n"), ("val", "b\n"), ("test", "a\n")):
        (tmp_path / f"{split}.txt").write_text(ids)
    return tmp_path


@pytest.mark.parametrize("cache", [False, True])
def test_volumes_are_normalised_one_by_one(root, cache):
    data = Hippocampus(root, cache=cache)
    assert len(data) == 2
    for _ in range(2):
        for item, (name, shape) in zip((data[0], data[-1]), SHAPES.items(), strict=True):
            assert item["id"] == name
            assert item["image"].shape == (1, *shape)
            assert item["image"].dtype == torch.float32
            assert item["image"].mean().abs() < 1e-4
            torch.testing.assert_close(item["image"].std(correction=0), torch.tensor(1.0))
            assert item["target"].shape == shape
            assert set(item["target"].unique().tolist()) == {0, 1, 2}
    assert data.volume(1).values.mean() > 1000
    with pytest.raises(IndexError):
        data[2]


def test_a_common_size_is_void_outside(root):
    own, fitted = Hippocampus(root), Hippocampus(root, size=(6, 8, 8))
    batch = next(iter(torch.utils.data.DataLoader(fitted, batch_size=2)))
    assert batch["image"].shape == (2, 1, 6, 8, 8)
    assert torch.equal(fitted[0]["target"][..., 1:6], own[0]["target"])
    assert (fitted[0]["target"][..., [0, 6, 7]] == 255).all()
    assert torch.equal(fitted[1]["image"][0, 1:5, :, :7], own[1]["image"][0, :, :8])
    assert batch["image"].isfinite().all()


def test_a_volume_of_one_value_is_zero(root):
    write_volume(root / "images" / "a.nii.gz", torch.full(SHAPES["a"], 7.0), torch.eye(4))
    assert (Hippocampus(root)[0]["image"] == 0).all()


def test_files_that_do_not_fit(root):
    write_volume(root / "labels" / "a.nii.gz", torch.zeros(2, 2, 2).long(), torch.eye(4))
    write_volume(root / "labels" / "b.nii.gz", torch.full(SHAPES["b"], 3), torch.eye(4))
    data = Hippocampus(root)
    with pytest.raises(PictureError, match=r"a\.nii\.gz: expected \(6, 8, 5\) voxels, got \(2, 2, 2\)"):
        data[0]
    with pytest.raises(PictureError, match=r"b\.nii\.gz: expected labels 0 to 2, got 3"):
        data[1]


def test_bad_arguments(root):
    with pytest.raises(ValueError, match=r"^split: expected one of train, val, test, got 'all'"):
        Hippocampus(root, "all")
    with pytest.raises(ValueError, match=r"^size: expected null or three numbers >= 1, got \(4, 4\)"):
        Hippocampus(root, size=(4, 4))
    with pytest.raises(ValueError, match=r"^root: expected images/, labels/ and train\.txt"):
        Hippocampus(root / "images")
    (root / "labels" / "b.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"^root: expected .*b\.nii\.gz, found no such file"):
        Hippocampus(root)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "hippocampus").is_dir(), reason="no hippocampus volumes (set FLOWCUT_DATA)")
def test_the_real_volumes():
    counts = {}
    for split in ("train", "val", "test"):
        data = Hippocampus(DATA / "hippocampus", split, size=(48, 64, 48))
        counts[split] = len(data)
        assert all(set(item["target"].unique().tolist()) == {0, 1, 2, 255} for item in data)
    assert counts == {"train": 68, "val": 10, "test": 18}
