"""Energies in files: round trips against every labeling, files written by hand, and what is refused."""

import gzip
import json
import lzma
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.energy_files import load_energy, save_energy
from flowcut.joint.ising import IsingEnergy
from flowcut.joint.uai import format_uai, parse_uai
from tests.truths.brute_force import ENERGIES, all_labelings

MRF = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mrf"
needs_data = pytest.mark.skipif(
    not MRF.is_dir(), reason="no MRF energies; set FLOWCUT_DATA to the folder with mrf/"
)

# Three variables of two labels: costs log 2 for label 1 of the first, and ties 0-1 and 2-1.
HAND = """MARKOV
3
2 2 2
4
1 0
2 0 1
2 2 1
0

2
1.0 0.5
4
1 2 3 4
4
1 0.5
0.25 0.125
1
10
"""


def refusal(path):
    """The one line that refuses a file, without the name that it begins with."""
    with pytest.raises(ValueError, match=r"expected") as error:
        load_energy(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ENERGIES)
def test_archives_give_every_labeling_the_same_energy(name, tmp_path):
    energy = ENERGIES[name]()
    save_energy(tmp_path / "e.npz", energy)
    again = load_energy(tmp_path / "e.npz")
    assert again.shape == energy.shape
    assert again.dtype == energy.dtype
    assert type(again.neighborhood) is type(energy.neighborhood)
    labels = all_labelings(energy.spatial, energy.num_labels)
    torch.testing.assert_close(again.energy(labels), energy.energy(labels), rtol=0, atol=0)


@pytest.mark.parametrize("ending", [".uai", ".uai.gz", ".uai.xz"])
@pytest.mark.parametrize("name", ENERGIES)
def test_uai_files_give_every_labeling_the_same_energy(name, ending, tmp_path):
    energy = ENERGIES[name]()
    save_energy(tmp_path / f"e{ending}", energy)
    again = load_energy(tmp_path / f"e{ending}")
    labels = all_labelings(energy.spatial, energy.num_labels)
    torch.testing.assert_close(again.energy(labels.flatten(1)), energy.energy(labels), rtol=1e-12, atol=1e-12)


def test_a_uai_file_written_by_hand(tmp_path):
    (tmp_path / "hand").write_text(HAND)
    energy = load_energy(tmp_path / "hand")
    factors = {
        (a, b, c): [1, 0.5][a] * [[1, 2], [3, 4]][a][b] * [[1, 0.5], [0.25, 0.125]][c][b] * 10
        for a, b, c in all_labelings((3,), 2).tolist()
    }
    found = energy.energy(torch.tensor(list(factors))).neg().exp()
    torch.testing.assert_close(found, torch.tensor(list(factors.values()), dtype=torch.float64))


def test_what_is_written_has_factors_whose_product_is_that_of_the_energy():
    energy = ENERGIES["twice"]()
    words = format_uai(energy).split()
    assert words[:2] == ["MARKOV", "5"]
    scopes, place = [], 2 + 5
    for _ in range(int(words[place])):
        order = int(words[place + 1])
        scopes.append([int(w) for w in words[place + 2 : place + 2 + order]])
        place += 1 + order
    place += 1
    labels = torch.tensor([2, 0, 1, 1, 2])
    product = 1.0
    for scope in scopes:
        size, table = int(words[place]), [float(w) for w in words[place + 1 :]]
        index = 0
        for i in scope:
            index = 3 * index + int(labels[i])
        product *= table[:size][index]
        place += 1 + size
    assert place == len(words)
    assert product == pytest.approx(math.exp(-float(energy.energy(labels[None]))), rel=1e-12)


def test_repeated_factors_are_multiplied():
    text = "MARKOV 2 2 2 4 1 0 1 0 2 0 1 2 1 0 2 1 2 2 3 5 4 1 2 3 4 4 1 10 100 1000"
    energy = parse_uai(text, "f")
    assert len(energy.neighborhood) == 1
    # First variable 1, second 0: 2 * 5 * table[1][0] = 3 * table'[0][1] = 10.
    assert float(energy.energy(torch.tensor([[1, 0]])).neg().exp()) == pytest.approx(300)


def test_the_layout_of_stereo_benchmarks(tmp_path):
    rng = np.random.default_rng(0)
    unary, pairwise = rng.integers(0, 9, (2, 3, 3)), rng.integers(0, 9, (3, 3))
    wh, wv = rng.integers(0, 4, (2, 2)), rng.integers(0, 4, (1, 3))
    np.savez(tmp_path / "e.npz", unary=unary, pairwise=pairwise, wh=wh, wv=wv)
    labels = all_labelings((2, 3), 3)[::7]
    expected = []
    for x in labels.numpy():
        total = sum(unary[r, c, x[r, c]] for r in range(2) for c in range(3))
        total += sum(wh[r, c] * pairwise[x[r, c], x[r, c + 1]] for r in range(2) for c in range(2))
        total += sum(wv[0, c] * pairwise[x[0, c], x[1, c]] for c in range(3))
        expected.append(total)
    found = load_energy(tmp_path / "e.npz").energy(labels)
    assert found.tolist() == expected


def test_an_archive_made_by_hand_with_integers_and_another_byte_order(tmp_path):
    unary = np.array([[[1, 0, 2], [0, 3, 0]]], dtype=">i2")
    np.savez(tmp_path / "e.npz", unary=unary, edges=np.array([[[1.5, 2.0, np.nan]]], dtype=">f4"))
    energy = load_energy(tmp_path / "e.npz")
    assert energy.dtype == torch.float64
    assert energy.energy(torch.tensor([[0, 1, 0]])).tolist() == [1 + 3 + 2 + 1.5 + 2.0]


def test_types_spacing_batches_and_constants_survive(tmp_path):
    where = Neighborhood(((1, 1), (0, 2)), (2.0, 0.5))
    energy = PottsEnergy(
        torch.randn(2, 3, 4, 5), torch.rand(1, 2, 4, 5), None, where, torch.tensor([1.0, -2])
    )
    save_energy(tmp_path / "e.npz", energy)
    again = load_energy(tmp_path / "e.npz")
    assert again.neighborhood == where
    assert again.items == 2
    labels = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.energy(labels), energy.energy(labels))
    half = energy.to(torch.bfloat16)
    save_energy(tmp_path / "h.npz", half)
    assert torch.equal(load_energy(tmp_path / "h.npz").unary, half.unary.float())


def test_ising_energies_survive(tmp_path):
    energy = IsingEnergy(torch.randn(1, 1, 2, 2).double(), torch.randn(1, 2, 2, 2).double())
    labels = all_labelings((2, 2), 2)
    for name in ("e.npz", "e.uai"):
        save_energy(tmp_path / name, energy)
        found = load_energy(tmp_path / name).energy(labels.flatten(1) if name == "e.uai" else labels)
        torch.testing.assert_close(found, energy.energy(labels))


def test_the_same_energy_gives_the_same_bytes_and_an_old_file_stays_when_writing_fails(tmp_path, monkeypatch):
    energy, path = ENERGIES["star"](), tmp_path / "e.uai.gz"
    save_energy(path, energy)
    before = path.read_bytes()
    save_energy(path, energy)
    assert path.read_bytes() == before

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_energy(path, ENERGIES["no ties"]())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["e.uai.gz"]


def head(change=lambda words: words):
    return " ".join(change(HAND.split()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected MARKOV, but the file ends after 0 words"),
        ("BAYES 1 2", 'expected a UAI file that begins with "MARKOV", got "BAYES"'),
        ("MARKOV x", 'expected the number of variables, an integer >= 1, got "x"'),
        ("MARKOV 0", 'the number of variables, an integer >= 1, got "0"'),
        ("MARKOV 2 2", "expected the labels of variable 1, but the file ends after 3 words"),
        ("MARKOV 2 2 3 0", "expected as many labels for every variable, got 2 to 3"),
        ("MARKOV 2 1 1 0", "expected 2 or more labels, got 1"),
        ("MARKOV 1 2 " + "9" * 5000, "expected the number of factors"),
        ("MARKOV 2 2 2 1 2 0 2", "expected different variables 0 to 1 in factor 0, got [0, 2]"),
        ("MARKOV 2 2 2 1 2 1 1", "expected different variables 0 to 1 in factor 0, got [1, 1]"),
        (
            "MARKOV 3 2 2 2 2 1 0 3 0 1 2",
            "expected factors of at most 2 variables, got 1 of 2 with more (up to 3, first factor 1); poss",
        ),
        ("MARKOV 1 2 1 1 0 3 1 1 1", "expected 2 entries of factor 0, got 3"),
        ("MARKOV 1 2 1 1 0 2 1", "expected 2 entries of factor 0, but the file ends after 1"),
        ("MARKOV 1 2 1 1 0 2 1 one", "expected numbers in factor 0, got: could not convert"),
        ("MARKOV 1 2 1 1 0 2 1 0", "expected entries > 0, got 0 in factor 0: an infinite energy"),
        ("MARKOV 1 2 1 1 0 2 1 -1", "expected finite entries > 0, got -1 in factor 0"),
        ("MARKOV 1 2 1 1 0 2 1 nan", "expected finite entries > 0, got nan in factor 0"),
        ("MARKOV 1 2 1 1 0 2 inf 1", "expected finite entries > 0, got inf in factor 0"),
        (head() + " 7", "expected the end after the last factor, got 1 words more"),
        (head(lambda words: words[:-1]), "expected 1 entries of factor 3, but the file ends after 0"),
    ],
)
def test_a_malformed_uai_file_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "f.uai"
    path.write_text(text)
    assert message in refusal(path)


def test_a_factor_without_variables_and_no_factor_at_all():
    assert parse_uai("MARKOV 1 2 1 0 1 0.5", "f").energy(torch.tensor([[1]])).tolist() == [
        pytest.approx(math.log(2))
    ]
    assert parse_uai("MARKOV 2 3 3 0", "f").energy(torch.tensor([[1, 2]])).tolist() == [0.0]


GOOD = {"unary": np.zeros((1, 2, 3, 4)), "edges": np.ones((1, 2, 3, 4))}
GRAPH = {"unary": np.zeros((1, 2, 3)), "edges": np.ones((1, 2)), "edge_index": np.array([[0, 1], [1, 2]])}
STEREO = {
    "unary": np.zeros((2, 3, 4)), "pairwise": np.zeros((4, 4)), "wh": np.ones((2, 2)), "wv": np.ones((1, 3)),
}  # fmt: skip


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, 'expected an array "unary", got no array'),
        ({"edges": np.ones(3)}, 'expected an array "unary", got edges'),
        (without(GOOD, "edges"), "edges: expected weights, or pairwise tables for every tie, got neither"),
        (GOOD | {"edge": np.ones(3)}, 'got "edge"'),
        (GOOD | {"unary": np.zeros((2, 3))}, "unary: expected shape (N, J, *spatial) with J >= 2"),
        (GOOD | {"edges": np.ones((1, 2, 3, 5))}, "edges: expected shape (1, 2, 3, 4), got (1, 2, 3, 5)"),
        (GOOD | {"edges": np.ones((1, 3, 3, 4))}, "edges: expected 2, 4 channels"),
        (GOOD | {"pairwise": np.ones((2, 3))}, "pairwise: expected shape (2, 2) or"),
        (GOOD | {"unary": np.full((1, 2, 3, 4), np.inf)}, "unary: expected finite values, got inf"),
        (GOOD | {"unary": np.array(["a"])}, 'expected numbers in "unary"'),
        (GOOD | {"unary": np.zeros((1, 2, 3, 4), complex)}, 'expected numbers in "unary"'),
        (
            GOOD | {"unary": np.array([None])},
            "expected an archive of numbers, could not read it (Object arrays",
        ),
        (GOOD | {"version": np.array(2)}, "version: expected 1, got 2"),
        (GOOD | {"version": np.ones(2)}, "version: expected a number, got shape (2,)"),
        (GOOD | {"constant": np.array(np.nan)}, "constant: expected finite values, got nan"),
        (GOOD | {"constant": np.ones(3)}, "constant: expected a number or shape (1,), got (3,)"),
        (GOOD | {"offsets": np.ones(2)}, "offsets: expected integers, got float64"),
        (GOOD | {"offsets": np.ones(2, int)}, "offsets: expected shape (K, axes), got (2,)"),
        (GOOD | {"offsets": np.zeros((2, 0), int)}, "offsets: expected at least one offset"),
        (GOOD | {"offsets": np.array([[1, 0], [0, 0]])}, "expected no pixel tied to itself"),
        (
            GOOD | {"offsets": np.eye(2, dtype=int), "spacing": np.zeros(2)},
            "spacing: expected 2 finite numbers",
        ),
        (GOOD | {"num_nodes": np.array(3)}, "edge_index: expected where num_nodes is, got none"),
        (GRAPH | {"edge_index": np.array([[0, 1], [1, 3]])}, "edge_index: expected nodes 0 to 2, got 0 to 3"),
        (GRAPH | {"edge_index": np.array([[0.0], [1.0]])}, "edge_index: expected integers, got float64"),
        (GRAPH | {"edge_index": np.array([0, 1])}, "edge_index: expected an integer tensor of shape (2, E)"),
        (GRAPH | {"edge_index": np.array([[0, 1], [1, 1]])}, "got a self-loop"),
        (GRAPH | {"num_nodes": np.array(9)}, "unary: expected shape (N, J, 9) for this graph"),
        (GRAPH | {"offsets": np.array([[1]])}, "offsets: expected for a grid, or edge_index for a graph"),
        (without(STEREO, "wv"), "expected arrays unary, pairwise, wh, wv, got unary, pairwise, wh"),
        (STEREO | {"edges": np.ones(2)}, "expected arrays unary, pairwise, wh, wv, got"),
        (
            STEREO | {"unary": np.zeros((2, 3))},
            "unary: expected shape (H, W, L) beside wh and wv, got (2, 3)",
        ),
        (STEREO | {"wh": np.ones((2, 3))}, "wh: expected shape (2, 2), got (2, 3)"),
        (STEREO | {"wv": np.ones((2, 3))}, "wv: expected shape (1, 3), got (2, 3)"),
        (STEREO | {"pairwise": np.ones((2, 2))}, "pairwise: expected shape (4, 4)"),
    ],
)
def test_an_archive_that_is_no_energy_is_refused_in_one_line(arrays, message, tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, **arrays)
    assert message in refusal(path)


def test_a_graph_in_an_archive_needs_no_number_of_nodes(tmp_path):
    np.savez(tmp_path / "e.npz", **GRAPH)
    assert load_energy(tmp_path / "e.npz").energy(torch.tensor([[0, 1, 1]])).tolist() == [1.0]


def test_damaged_files_are_refused_in_one_line(tmp_path):
    save_energy(tmp_path / "e.npz", ENERGIES["complete"]())
    archive, text = (tmp_path / "e.npz").read_bytes(), HAND.encode()
    flipped = bytearray(archive)
    flipped[archive.index(b"unary.npy") + 60] ^= 255
    single = tmp_path / "one.npy"
    np.save(single, np.zeros(3))
    for content, message in (
        (archive[: len(archive) // 2], "expected an archive of numbers, could not read it"),
        (bytes(flipped), "expected an archive of numbers, could not read it"),
        (b"PK\x03\x04", "expected an archive of numbers, could not read it"),
        (gzip.compress(text)[:40], "expected a whole compressed file, could not unpack it"),
        (gzip.compress(text)[:-4] + b"abcd", "expected a whole compressed file, could not unpack it"),
        (lzma.compress(text)[:60], "expected a whole compressed file, could not unpack it"),
        (single.read_bytes(), "expected an .npz archive of named arrays, got a single array"),
        (b"\x89PNG\xff", "expected an .npz archive or a UAI file, got neither"),
        (b"\x00" * 9, 'expected a UAI file that begins with "MARKOV"'),
    ):
        path = tmp_path / "damaged"
        path.write_bytes(content)
        assert refusal(path).startswith(message)


def test_a_missing_file_and_wrong_names(tmp_path):
    energy = ENERGIES["star"]()
    with pytest.raises(FileNotFoundError):
        load_energy(tmp_path / "no.npz")
    with pytest.raises(
        ValueError, match=r"path: expected a name that ends in .npz, .uai, .uai.gz or .uai.xz"
    ):
        save_energy(tmp_path / "e.json", energy)
    with pytest.raises(TypeError, match="energy: expected a PottsEnergy, got int"):
        save_energy(tmp_path / "e.npz", 3)
    with pytest.raises(FileNotFoundError):
        save_energy(tmp_path / "no" / "e.npz", energy)


def test_what_a_uai_file_cannot_hold_is_refused(tmp_path):
    batch = PottsEnergy(torch.zeros(2, 2, 3), torch.ones(1, 1, 3))
    with pytest.raises(ValueError, match="energy: expected one energy, got 2"):
        save_energy(tmp_path / "e.uai", batch)
    for costs in (torch.full((1, 1, 3), 800.0), torch.full((1, 1, 3), -800.0)):
        with pytest.raises(ValueError, match=r"energy: expected costs within \+-700 for a UAI file, got 800"):
            save_energy(tmp_path / "e.uai", PottsEnergy(torch.zeros(1, 2, 3), costs))
    with pytest.raises(ValueError, match="at least one node"):
        save_energy(tmp_path / "e.uai", PottsEnergy(torch.zeros(1, 2, 0), torch.ones(1, 1, 0)))
    assert not list(tmp_path.iterdir())
    empty = PottsEnergy(torch.zeros(1, 2, 0), torch.zeros(1, 0), None, Graph(torch.zeros(2, 0).long(), 0))
    save_energy(tmp_path / "e.npz", empty)
    assert load_energy(tmp_path / "e.npz").spatial == (0,)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("name", ["tsukuba", "venus"])
def test_the_energies_of_a_stereo_benchmark(name):
    folder = MRF / "stereo" / name
    energy = load_energy(folder / "energy.npz")
    labels = torch.from_numpy(np.asarray(Image.open(folder / "expansion_labels.png")).astype(np.int64))
    reference = json.loads((MRF / "reference.json").read_text())[f"stereo_{name}"]
    assert float(energy.energy(labels[None])) == reference["energy_expansion"]


@pytest.mark.slow
@needs_data
def test_a_published_uai_file_of_order_three_is_refused():
    with pytest.raises(ValueError, match=r"at most 2 variables, got \d+ of \d+ with more \(up to 3"):
        load_energy(MRF / "opengm" / "GeomSurf-7-gm256.uai.xz")
