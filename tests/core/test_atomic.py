"""Files that appear whole or not at all."""

import os
import stat

import pytest

from flowcut.core.atomic import atomic_write, prepare_folder


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"ne")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_appears_at_the_end(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_open(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "ours"):
        pass
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(
        os.stat(tmp_path / "plain").st_mode
    )


def test_folders_are_made_and_tried(tmp_path):
    assert prepare_folder(tmp_path / "a" / "b", "output").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(
            OSError, match=r"^output: expected a folder that can be written, got .*file"
        ) as caught:
            prepare_folder(path, "output")
        assert "\n" not in str(caught.value)
