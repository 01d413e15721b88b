"""Energies in files: NumPy archives, and UAI "MARKOV" files (:mod:`flowcut.joint.uai`)."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.core.edges import edges_from_axes
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.uai import format_uai, parse_uai

_VERSION = 1
_ARRAYS = (
    "unary", "edges", "pairwise", "constant", "offsets", "spacing", "edge_index", "num_nodes", "version",
)  # fmt: skip
_STEREO = ("unary", "pairwise", "wh", "wv")
_Arrays = dict[str, NDArray[Any]]


def save_energy(path: str | os.PathLike[str], energy: PottsEnergy) -> None:
    """Write an energy, whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.npz``: everything, in a compressed archive. Ends in ``.uai``, ``.uai.gz`` or ``.uai.xz``:
        one energy as factors exp(-cost) of nodes and ties, see :mod:`flowcut.joint.uai`; that it was a grid
        is lost.
    energy
        On a grid or graph.

    Raises
    ------
    TypeError
        ``energy`` is none.
    ValueError
        Another ending, or an energy that a UAI file cannot hold.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "energy.npz")
    >>> save_energy(path, PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)))
    >>> load_energy(path).energy(torch.tensor([[0, 1, 0]]))
    tensor([2.])
    """
    if not isinstance(energy, PottsEnergy):
        raise TypeError(f"energy: expected a PottsEnergy, got {type(energy).__name__}")
    name = Path(path).name.lower()
    if name.endswith(".npz"):
        file = io.BytesIO()
        np.savez_compressed(file, **_arrays_of(energy))
        content = file.getvalue()
    elif name.endswith((".uai", ".uai.gz", ".uai.xz")):
        content = format_uai(energy).encode("ascii")
        if name.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
        elif name.endswith(".xz"):
            content = lzma.compress(content)
    else:
        raise ValueError(f"path: expected a name that ends in .npz, .uai, .uai.gz or .uai.xz, got {path}")
    with atomic_write(path) as out:
        out.write(content)


def load_energy(path: str | os.PathLike[str]) -> PottsEnergy:
    """Read an energy; the kind of file is found by its content. No code in it is executed.

    Parameters
    ----------
    path
        One of, plain or compressed by gzip or xz:

        - A NumPy archive with the arguments of :class:`PottsEnergy` under their names: ``unary``
          (N, J, *spatial), ``edges`` or ``pairwise`` or both, optionally ``constant``; a grid's ``offsets``
          (K, axes) and ``spacing``, where they do not follow from the shapes, or a graph's ``edge_index``
          (2, E) and ``num_nodes``; ``version``, 1.
        - A NumPy archive as in stereo benchmarks: ``unary`` (H, W, L), ``pairwise`` (L, L), and the weights
          ``wh`` (H, W - 1) of horizontal and ``wv`` (H - 1, W) of vertical ties.
        - A UAI "MARKOV" file with factors of at most two variables.

    Returns
    -------
    PottsEnergy
        On the CPU; integers in the file become float64.

    Raises
    ------
    OSError
        There is no such file.
    ValueError
        It is none of these, damaged, or no energy. One line that begins with the path.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "energy.npz"
    >>> save_energy(path, PottsEnergy(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)))
    >>> load_energy(path).shape
    (2, 3)
    """
    name = os.fspath(path)
    content = _unpack(Path(path).read_bytes(), name)
    if content.startswith(b"PK"):
        return _from_arrays(_read_archive(content, name), name)
    if content.startswith((b"\x93NUMPY", b"\x80")):
        raise ValueError(f"{name}: expected an .npz archive of named arrays, got a single array or a pickle")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: expected an .npz archive or a UAI file, got neither") from None
    return parse_uai(text, name)


def _unpack(content: bytes, name: str) -> bytes:
    try:
        if content.startswith(b"\x1f\x8b"):
            return gzip.decompress(content)
        if content.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(content)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name}: expected a whole compressed file, could not unpack it ({error})") from None
    return content


def _read_archive(content: bytes, name: str) -> _Arrays:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: expected an archive of numbers, could not read it ({reason})") from None


def _arrays_of(energy: PottsEnergy) -> dict[str, Any]:
    where = energy.neighborhood
    values: dict[str, Tensor | NDArray[Any] | int | None] = {
        "version": _VERSION,
        "unary": energy.unary,
        "edges": energy.edges,
        "pairwise": energy.pairwise,
        "constant": torch.as_tensor(energy.constant),
    }
    if isinstance(where, Graph):
        values |= {"edge_index": where.edge_index, "num_nodes": where.num_nodes}
    elif where is not None:
        values |= {"offsets": np.array(where.offsets), "spacing": np.array(where.spacing)}
    return {key: _to_array(value) for key, value in values.items() if value is not None}


def _to_array(value: Tensor | NDArray[Any] | int) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # NumPy has no bfloat16; every value of it is one of float32.
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def _from_arrays(arrays: _Arrays, name: str) -> PottsEnergy:
    if "unary" not in arrays:
        raise ValueError(f'{name}: expected an array "unary", got {", ".join(arrays) or "no array"}')
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f'{name}: expected numbers in "{key}", got {array.dtype}')
    try:
        if "wh" in arrays or "wv" in arrays:
            return _from_stereo(arrays)
        _check_names(arrays)
        tensors = {key: _to_tensor(arrays[key]) for key in ("unary", "edges", "pairwise") if key in arrays}
        return PottsEnergy(
            tensors["unary"],
            tensors.get("edges"),
            tensors.get("pairwise"),
            _where(arrays),
            _to_tensor(arrays["constant"]) if "constant" in arrays else 0.0,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from None


def _check_names(arrays: _Arrays) -> None:
    unknown = [key for key in arrays if key not in _ARRAYS]
    if unknown:
        raise ValueError(f'expected arrays {", ".join(_ARRAYS)}, got "{unknown[0]}"')
    version = int(_number(arrays, "version")) if "version" in arrays else _VERSION
    if version != _VERSION:
        raise ValueError(f"version: expected {_VERSION}, got {version}; a newer flowcut may read it")


def _where(arrays: _Arrays) -> Graph | Neighborhood | None:
    if "edge_index" in arrays:
        if "offsets" in arrays:
            raise ValueError("offsets: expected for a grid, or edge_index for a graph, got both")
        index = torch.from_numpy(_integers(arrays, "edge_index"))
        nodes = _number(arrays, "num_nodes") if "num_nodes" in arrays else arrays["unary"].shape[-1]
        return Graph(index, int(nodes))
    if "num_nodes" in arrays:
        raise ValueError("edge_index: expected where num_nodes is, got none")
    if "offsets" not in arrays:
        return None
    offsets = _integers(arrays, "offsets")
    if offsets.ndim != 2:
        raise ValueError(f"offsets: expected shape (K, axes), got {offsets.shape}")
    spacing = tuple(arrays["spacing"].flatten().tolist()) if "spacing" in arrays else ()
    return Neighborhood(tuple(map(tuple, offsets.tolist())), spacing)


def _from_stereo(arrays: _Arrays) -> PottsEnergy:
    missing = [key for key in _STEREO if key not in arrays]
    if missing or len(arrays) > len(_STEREO):
        raise ValueError(f"expected arrays {', '.join(_STEREO)}, got {', '.join(arrays)}")
    unary, pairwise, right, below = (_to_tensor(arrays[key]) for key in _STEREO)
    if unary.ndim != 3:
        raise ValueError(f"unary: expected shape (H, W, L) beside wh and wv, got {tuple(unary.shape)}")
    height, width, _ = unary.shape
    for key, given, shape in (("wh", right, (height, width - 1)), ("wv", below, (height - 1, width))):
        if tuple(given.shape) != shape:
            raise ValueError(f"{key}: expected shape {shape}, got {tuple(given.shape)}")
    # Rows of unary are labels of a pixel there, channels here.
    return PottsEnergy(unary.permute(2, 0, 1)[None], edges_from_axes([below, right])[None], pairwise)


def _to_tensor(array: NDArray[Any]) -> Tensor:
    # In this machine's byte order, whatever the file's is.
    kind = array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def _integers(arrays: _Arrays, key: str) -> NDArray[np.int64]:
    array = arrays[key]
    if array.dtype.kind not in "iu":
        raise ValueError(f"{key}: expected integers, got {array.dtype}")
    return array.astype(np.int64)


def _number(arrays: _Arrays, key: str) -> float:
    if arrays[key].size != 1:
        raise ValueError(f"{key}: expected a number, got shape {arrays[key].shape}")
    return float(arrays[key].item())
