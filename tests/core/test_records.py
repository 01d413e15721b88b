"""Records: what is read is what was written, or one clear line; nothing in a file is executed."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from flowcut.core.records import read_record, write_record


def _values() -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    return {
        "single": torch.randn(3, 2, generator=g),
        "double": torch.randn(4, 2, generator=g, dtype=torch.float64).T,
        "integers": torch.arange(5),
        "state": g.get_state(),
        "empty": torch.zeros(0, 3),
        "nested": {"a": [1, 2.5, "text", None, True, [0.1]], "b": {"c": torch.ones(1)}},
        "number": 0.1 + 0.2,
        "extremes": [float("inf"), -0.0, 2**60],
    }


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) and type(a) is type(b)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for name in (path, str(path)):
        write_record(name, "thing", 3, _values())
        found = read_record(name, "thing", 3)
        assert _same(_values(), {k: v for k, v in found.items() if k not in ("kind", "version")})
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_record(path, "thing", 3, _values())
    for kind, version in (("other", 3), ("thing", 2), ("thing", 4)):
        with pytest.raises(ValueError, match=rf"^{path}: expected a {kind} of version {version}$"):
            read_record(path, kind, version)
    for strange in (torch.ones(3), [1, 2], {"kind": "thing"}, {"version": 3}, "text", None):
        torch.save(strange, path)
        with pytest.raises(ValueError, match="expected a thing of version 3"):
            read_record(path, "thing", 3)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "none.pt", "thing", 3)
    with pytest.raises(OSError, match="folder"):
        write_record(tmp_path / "no folder" / "a.pt", "thing", 3, {})


def test_no_damage_is_anything_but_one_line(tmp_path: Path) -> None:
    """Cut at any place, or with bytes changed anywhere: a ValueError, or a record where nobody can tell."""
    path, broken = tmp_path / "a.pt", tmp_path / "b.pt"
    write_record(path, "thing", 3, _values())
    whole = path.read_bytes()
    cut = [whole[:n] for n in range(0, len(whole) - 1, max(1, len(whole) // 60))]
    rng = random.Random(0)
    changed = []
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 5, 50))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        changed.append(bytes(data))
    messages = []
    for data in (*cut, *changed):
        broken.write_bytes(data)
        try:
            read_record(broken, "thing", 3)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert len(data) == len(whole)
    assert len(messages) > len(cut) + 50
    assert all(m.startswith(f"{broken}: expected a ") and "\n" not in m for m in messages)
    for text in (b"", b"hello", b"{}", b"\x80", b"PK\x03\x04", os.urandom(1000)):
        broken.write_bytes(text)
        with pytest.raises(ValueError, match="expected a file of flowcut, got "):
            read_record(broken, "thing", 3)


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_nothing_is_executed(tmp_path: Path, way: str) -> None:
    path, witness = tmp_path / "a.pt", tmp_path / "witness"
    values = {"kind": "thing", "version": 3, "trap": _Touch(witness)}
    if way == "torch":
        torch.save(values, path)
    else:
        path.write_bytes(pickle.dumps(values, protocol=2))
    with pytest.raises(ValueError, match="expected a file of flowcut"):
        read_record(path, "thing", 3)
    assert not witness.exists()
    # The trap would work:
    if way == "torch":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert witness.exists()


def test_an_error_leaves_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_record(path, "thing", 3, {"x": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        write_record(path, "thing", 3, {"x": lambda: 2})
    assert read_record(path, "thing", 3)["x"] == 1
    assert list(tmp_path.iterdir()) == [path]
