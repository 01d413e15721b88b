"""`flowcut sample` from energies, pictures and scribbles to files."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from flowcut.apps.main import main
from flowcut.apps.work.sample_methods import weighted_entropy
from flowcut.apps.work.sample_scribbles import read_scribbles, scribble_energy
from flowcut.apps.work.sample_views import draw_samples, paint_labels
from flowcut.joint import fitting
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.energy_files import load_energy, save_energy
from flowcut.joint.importance import importance
from flowcut.vision.pictures import PictureError
from tests.truths.brute_force import ENERGIES, law_of

FILES = ["marginals.npy", "sample.json", "samples.npy", "samples.png"]


def json_of(arguments, capsys):
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(arguments, capsys):
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("flowcut: error: ").rstrip("\n")


def potts(seed=0, scale=0.5):
    """Nine pixels of two labels with ties >= 0, which every method takes."""
    g = torch.Generator().manual_seed(seed)
    unary = scale * torch.randn(1, 2, 3, 3, generator=g, dtype=torch.float64)
    return PottsEnergy(unary, torch.rand(1, 2, 3, 3, generator=g, dtype=torch.float64), None, None, 0.25)


@pytest.fixture
def small(tmp_path):
    save_energy(tmp_path / "small.npz", potts())
    return tmp_path / "small.npz", law_of(potts())


@pytest.fixture
def stripes(tmp_path):
    """Red beside blue under noise, one stroke on each; and the truth."""
    truth = np.zeros((12, 16), dtype=np.int64)
    truth[:, 8:] = 1
    clean = np.array([[200, 40, 40], [40, 40, 200]])[truth]
    noise = np.random.default_rng(0).normal(0, 20, clean.shape)
    Image.fromarray((clean + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "picture.png")
    seeds = np.zeros((12, 16), dtype=np.uint8)
    seeds[2:9, 2], seeds[3:7, 13] = 1, 2
    Image.fromarray(seeds).save(tmp_path / "scribbles.png")
    return tmp_path, truth


def test_exact_samples_end_to_end(small, tmp_path, capsys):
    path, law = small
    out = tmp_path / "out"
    result = json_of(["sample", path, "--output", out, "--samples", 2000], capsys)
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert result == json.loads((out / "sample.json").read_text())
    assert result["method"] == "exact"
    np.testing.assert_allclose(np.load(out / "marginals.npy"), law.marginals, atol=1e-6)
    assert result["log_z"] == pytest.approx(float(law.log_z), abs=1e-9)
    assert result["mean_energy"] == pytest.approx(float(law.p @ law.energies), abs=1e-9)
    assert result["entropy"] == pytest.approx(float(-(law.p * law.p.log()).sum()), abs=1e-9)
    assert (result["log_z_error"], result["shape"]) == (None, [2, 3, 3])
    samples = np.load(out / "samples.npy")
    assert samples.shape == (2000, 3, 3)
    assert samples.dtype == np.uint8
    share = torch.from_numpy(samples == 1).double().mean(dim=0)
    error = (law.marginals[1] * law.marginals[0] / 2000).sqrt()
    assert ((share - law.marginals[1]).abs() < 4 * error).all()
    assert Image.open(out / "samples.png").size[1] > 100


@pytest.mark.parametrize("method", ["gibbs", "swendsen-wang"])
def test_chains_agree_with_every_labeling_summed(method, small, tmp_path, capsys):
    path, law = small
    out = tmp_path / "out"
    call = ["sample", path, "--out", out, "--method", method, "--sweeps", 3000, "--seed", 5]
    result = json_of(call, capsys)
    assert result["method"] == method
    assert (result["log_z"], result["entropy"]) == (None, None)
    assert (result["chains"], result["draws"], result["thin"], result["burn_in"]) == (4, 3000, 1, 500)
    assert result["r_hat"] < 1.02
    assert 500 < result["effective_sample_size"] < 50_000
    error = (law.marginals[1] * law.marginals[0] / result["effective_sample_size"]).sqrt()
    assert (np.abs(np.load(out / "marginals.npy") - law.marginals.numpy()) < 4 * error.numpy()).all()
    off = abs(result["mean_energy"] - float(law.p @ law.energies))
    assert off < 4 * result["mean_energy_error"] < 0.2
    samples = np.load(out / "samples.npy")
    assert len(np.unique(samples.reshape(100, -1), axis=0)) > 50
    again = json_of([*call[:3], tmp_path / "again", *call[4:]], capsys)
    assert again["mean_energy"] == result["mean_energy"]
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "samples.npy"), samples)


def test_a_flow_is_fitted_and_corrected(small, tmp_path, capsys):
    path, law = small
    out = tmp_path / "out"
    call = ["sample", path, "--out", out, "--method", "flow", "--steps", 60, "--flows", 64]
    result = json_of(call, capsys)
    assert (result["method"], result["steps"]) == ("flow", 60)
    assert abs(result["log_z"] - float(law.log_z)) < 4 * result["log_z_error"] < 0.2
    entropy = float(-(law.p * law.p.log()).sum())
    assert abs(result["entropy"] - entropy) < 4 * result["entropy_error"] < 0.5
    assert abs(result["mean_energy"] - float(law.p @ law.energies)) < 4 * result["mean_energy_error"]
    error = (law.marginals[1] * law.marginals[0] / result["effective_sample_size"]).sqrt()
    assert (np.abs(np.load(out / "marginals.npy") - law.marginals.numpy()) < 4 * error.numpy()).all()
    assert result["kl"] >= 0
    assert np.load(out / "samples.npy").shape == (100, 3, 3)


def test_an_interrupted_fit_goes_on_to_the_same_result(small, tmp_path, capsys, monkeypatch):
    path, _ = small
    call = ["sample", str(path), "--method=flow", "--steps=10", "--flows=16", "--samples=5", "--quiet"]
    assert main([*call, "--out", str(tmp_path / "whole")]) == 0
    saved = fitting.write_record

    def save_and_stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "write_record", save_and_stop)
        stopped = [*call, "--out", str(tmp_path / "parts"), "--checkpoint", str(tmp_path / "c.pt")]
        assert main(stopped) == 130
    assert not (tmp_path / "parts" / "sample.json").exists()
    assert main(stopped) == 0
    for name in ("samples.npy", "marginals.npy"):
        whole, parts = (np.load(tmp_path / folder / name) for folder in ("whole", "parts"))
        np.testing.assert_array_equal(whole, parts)
    capsys.readouterr()
    other = error_of([*stopped, "--steps=11"], capsys)
    assert other.startswith("checkpoint: expected a fit")


def test_auto_samples_by_chains_where_no_exact_law_is_possible(tmp_path, capsys):
    for labels, size in ((2, (24, 24)), (16, (300, 300))):  # the latter too large for a message in floats
        save_energy(tmp_path / "e.npz", PottsEnergy(torch.zeros(1, labels, *size), torch.zeros(1, 2, *size)))
        call = ["sample", tmp_path / "e.npz", "--out", tmp_path / "out", "--sweeps=20", "--burn-in=0"]
        result = json_of([*call, "--samples=4", "--chains=2"], capsys)
        assert (result["method"], result["burn_in"]) == ("gibbs", 0)
        assert np.load(tmp_path / "out" / "samples.npy").max() == labels - 1


def test_the_temperature_divides_the_energy(tmp_path, capsys):
    save_energy(tmp_path / "e.npz", potts())
    law, energies = law_of(potts().at_temperature(2.0)), law_of(potts()).energies
    out = ["--out", tmp_path / "out", "--temperature", 2]
    result = json_of(["sample", tmp_path / "e.npz", *out], capsys)
    assert result["log_z"] == pytest.approx(float(law.log_z), abs=1e-9)
    assert result["mean_energy"] == pytest.approx(float(law.p @ energies), abs=1e-9)
    chains = json_of(["sample", tmp_path / "e.npz", *out, "--method=gibbs", "--sweeps=2000"], capsys)
    assert abs(chains["mean_energy"] - result["mean_energy"]) < 4 * chains["mean_energy_error"]


@pytest.mark.parametrize("name", ["line", "6-neighbours", "complete", "no ties", "one pixel"])
def test_every_kind_of_grid_and_graph(name, tmp_path, capsys):
    energy = ENERGIES[name]()
    for file in ("e.npz", "e.uai.xz"):
        save_energy(tmp_path / file, energy)
        json_of(["sample", tmp_path / file, "--out", tmp_path / "out", "--samples=3"], capsys)
        marginals = torch.from_numpy(np.load(tmp_path / "out" / "marginals.npy")).double()
        expected = law_of(energy).marginals
        torch.testing.assert_close(marginals.reshape(expected.shape), expected, atol=1e-6, rtol=0)
        assert Image.open(tmp_path / "out" / "samples.png").size[0] > 50


def test_chains_that_have_not_met_are_told(tmp_path, capsys):
    save_energy(tmp_path / "e.npz", PottsEnergy(torch.zeros(1, 2, 5, 5), torch.full((1, 2, 5, 5), 30.0)))
    call = [
        "sample",
        str(tmp_path / "e.npz"),
        "--out",
        str(tmp_path / "out"),
        "--method=gibbs",
        "--burn-in=0",
    ]
    assert main([*call, "--sweeps=200", "--seed=1"]) == 0
    out, err = capsys.readouterr()
    assert "flowcut: warning: the chains have not met (R-hat" in err
    assert "chains tell neither log Z nor entropy" in out
    # Infinite or undefined where nothing moves: null, as JSON knows neither.
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["log_z"] is None


def test_one_labeling_that_has_all_the_probability(tmp_path, capsys):
    unary = torch.zeros(1, 2, 2, 2)
    unary[:, 0] = 500.0
    save_energy(tmp_path / "e.npz", PottsEnergy(unary, torch.ones(1, 2, 2, 2)))
    call = ["sample", tmp_path / "e.npz", "--out", tmp_path / "out", "--sweeps=20"]
    for method in ("exact", "gibbs"):
        given = call if method == "gibbs" else call[:4]
        result = json_of([*given, "--method", method], capsys)
        assert result["mean_energy"] == pytest.approx(0.0, abs=1e-12)
        assert (np.load(tmp_path / "out" / "samples.npy") == 1).all()


def test_a_picture_and_scribbles_end_to_end(stripes, capsys):
    folder, truth = stripes
    call = ["--image", folder / "picture.png", "--scribbles", folder / "scribbles.png", "--out", folder / "o"]
    result = json_of(["sample", *call, "--samples=20"], capsys)
    assert (result["method"], result["labels"]) == ("exact", ["1", "2"])
    samples = np.load(folder / "o" / "samples.npy")
    assert (samples != truth).mean() < 0.01
    assert (samples[:, 2:9, 2] == 0).all()
    assert (samples[:, 3:7, 13] == 1).all()
    # The energy is kept and gives the same again.
    assert load_energy(result["energy"]).shape == (2, 12, 16)
    json_of(["sample", result["energy"], "--out", folder / "again", "--samples=20"], capsys)
    np.testing.assert_array_equal(np.load(folder / "again" / "samples.npy"), samples)


def test_colour_models_and_ties_do_what_they_say():
    image = torch.full((3, 1, 5), 0.2)
    image[:, 0, 3:] = 0.8
    image[0, 0, 2] = 1.0  # a colour no seed has: no evidence
    labels = torch.tensor([[0, -1, -1, -1, 1]])
    energy = scribble_energy(image, labels, ties=3.0, beta=20.0)
    unary, edges = energy.unary[0, :, 0], energy.edges[0, 1, 0, :4]
    assert unary[:, 0].tolist() == [0.0, 50.0]
    assert unary[:, 4].tolist() == [50.0, 0.0]
    assert unary[0, 1] == 0 < unary[1, 1]
    assert unary[1, 3] == 0 < unary[0, 3]
    assert unary[:, 2].max() < 1e-3
    # By scikit-image's formula; the picture's deviation includes all channels.
    squares = ((image[:, 0, 1:] - image[:, 0, :-1]) ** 2).sum(dim=0).double()
    scale = 20.0 / (10 * float(image.double().std(correction=0))) / 3**0.5
    torch.testing.assert_close(edges, (3 * ((-scale * squares).exp() + 1e-10)).float())
    assert float(edges[0]) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda v: Image.fromarray(np.array([0, 7, 90, 255], np.uint8)[v]), ["7", "90"]),
        (
            lambda v: Image.fromarray(
                np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0], [255, 255, 255]], np.uint8)[v]
            ),
            ["#00ff00", "#ff0000"],
        ),
        (lambda v: Image.fromarray(np.array([0, 1, 2, 0], np.uint8)[v]).convert("P"), ["1", "2"]),
    ],
)
def test_scribbles_are_grey_values_or_colours(make, names, tmp_path):
    values = np.array([[0, 1, 2], [3, 0, 2]])
    make(values).save(tmp_path / "s.png")
    scribbles = read_scribbles(tmp_path / "s.png", (2, 3))
    assert scribbles.names == names
    assert scribbles.labels.tolist() == [[-1, 0, 1], [-1, -1, 1]]


def test_scribbles_that_are_none_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "none": np.zeros((4, 4), np.uint8),
        "one": np.full((4, 4), 9, np.uint8),
        "colours": rng.integers(1, 255, (9, 9, 3)).astype(np.uint8),
    }
    for name, message in (("none", "got 0"), ("one", "got 1: 9"), ("colours", ", ...")):
        Image.fromarray(pictures[name]).save(tmp_path / "s.png")
        with pytest.raises(
            PictureError, match="expected 2 to 32 labels, one grey value or colour each"
        ) as error:
            read_scribbles(tmp_path / "s.png", pictures[name].shape[:2])
        assert message in str(error.value)
    with pytest.raises(
        PictureError, match="expected scribbles of 3 x 4 pixels as the picture has, got 9 x 9"
    ):
        read_scribbles(tmp_path / "s.png", (3, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "energy: expected a file, or --image and --scribbles, got neither"),
        (["E", "--image=p.png"], "energy: expected a file, or --image and --scribbles, got both"),
        (["--image=p.png"], "scribbles: expected a picture beside --image, got none"),
        (["E", "--scribbles=s.png"], "scribbles: expected with --image alone, got s.png"),
        (["E", "--ties=2"], "ties: expected with --image alone, got 2.0"),
        (["--image=no.png", "--scribbles=no.png"], "no.png: expected a picture, found no such file"),
        (["no.npz"], "no.npz: No such file or directory"),
        (["E", "--samples=0"], "samples: expected an integer >= 1, got 0"),
        (["E", "--samples=many"], "samples: expected int, got 'many'"),
        (["E", "--temperature=0"], "temperature: expected a finite number > 0, got 0.0"),
        (["E", "--temperature=.nan"], "temperature: expected a finite number > 0, got nan"),
        (["E", "--seed=-1"], "seed: expected an integer from 0 to 2**63 - 1, got -1"),
        (["E", "--method=magic"], "method: expected"),
        (["E", "--method=gibbs", "--chains=0"], "chains: expected an integer >= 1, got 0"),
        (["E", "--sweeps=3"], "sweeps: expected an integer >= 4, got 3"),
        (["E", "--burn-in=-1"], "burn_in: expected an integer >= 0, got -1"),
        (
            ["E", "--method=exact", "--chains=3"],
            "chains: expected with --method auto or gibbs or swendsen-wang alone, got --method exact",
        ),
        (["E", "--steps=3"], "steps: expected with --method flow alone, got --method auto"),
        (["E", "--method=flow", "--flows=1"], "samples: expected m >= 2, got 1"),
        (["E", "--method=flow", "--checkpoint=E"], "expected a file of flowcut"),
        (["E", "--smaples=3"], 'unknown option --smaples; did you mean "--samples"?'),
    ],
)
def test_wrong_input_is_one_line(options, message, small, tmp_path, capsys):
    path, _ = small
    given = [option.replace("E", str(path)) for option in options]
    assert message in error_of(["sample", "--out", tmp_path / "out", *given], capsys)
    assert not (tmp_path / "out" / "sample.json").exists()


def test_energies_that_cannot_be_sampled_are_one_line(tmp_path, capsys):
    path, out = tmp_path / "e.npz", ["--out", tmp_path / "out"]
    wide = PottsEnergy(torch.zeros(1, 2, 40, 40), torch.ones(1, 2, 40, 40))
    save_energy(path, wide)
    assert "or sample with" in error_of(["sample", path, *out, "--method=exact"], capsys).replace(
        "else", "or"
    )
    save_energy(path, PottsEnergy(torch.zeros(2, 2, 3), torch.ones(1, 1, 3)))
    assert error_of(["sample", path, *out], capsys) == "energy: expected one energy in the file, got 2"
    save_energy(path, PottsEnergy(torch.zeros(1, 2, 0), torch.ones(1, 1, 0)))
    assert "energy: expected at least one pixel" in error_of(["sample", path, *out], capsys)
    save_energy(path, PottsEnergy(torch.zeros(1, 2, 3), -torch.ones(1, 1, 3)))
    assert "weights >= 0" in error_of(["sample", path, *out, "--method=swendsen-wang"], capsys)
    path.write_bytes(b"PK\x03\x04")
    assert f"{path}: expected an archive" in error_of(["sample", path, *out], capsys)
    (tmp_path / "file").write_text("")
    blocked = ["sample", path, "--out", tmp_path / "file" / "out"]
    save_energy(path, potts())
    assert error_of(blocked, capsys).startswith("--output: expected a folder that can be written")


def test_quiet_is_quiet_and_otherwise_a_table_stands_there(small, tmp_path, capsys):
    path, law = small
    call = ["sample", str(path), "--out", str(tmp_path / "out")]
    assert main([*call, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"log Z  {float(law.log_z):12.6g}".split() == out.splitlines()[2].split()
    assert out.splitlines()[-1] == f"100 samples, marginals and a picture in {tmp_path / 'out'}"


def test_files_of_an_earlier_call_stay_whole_when_writing_fails(small, tmp_path, capsys, monkeypatch):
    path, _ = small
    call = ["sample", str(path), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(call) == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    assert main([*call, "--seed=1"]) == 2
    assert "disk full" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_pictures_show_samples_and_marginals():
    labels = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [1, 1]]])
    marginals = torch.stack([(labels == j).double().mean(dim=0) for j in (0, 1)])
    picture = draw_samples(labels, marginals)
    # Two samples, the likeliest label, one marginal, the entropy: squares of 192, 4 between, titles above.
    assert picture.shape == (3, 16 + 196, 5 * 196)
    top, cell = 16 + 48, 96
    for number in (0, 1):
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            found = picture[:, top + cell * row, 196 * number + 48 + cell * column]
            expected = paint_labels(labels[number], 2)[:, row, column]
            torch.testing.assert_close(found, expected, atol=0.5 / 255 + 1e-6, rtol=0)
    assert draw_samples(labels % 2, marginals, torch.rand(3, 2, 2)).shape[2] == 6 * 196
    many = torch.randint(300, (3, 2, 2), generator=torch.Generator().manual_seed(0))
    assert draw_samples(many, torch.full((300, 2, 2), 1 / 300)).shape[2] == 5 * 196
    nodes = draw_samples(torch.zeros(50, 3000, dtype=torch.int64), torch.full((2, 3000), 0.5))
    assert nodes.shape[1:] == (16 + 32 + 4, 3 * (1024 + 4))


def test_the_entropy_of_weighted_samples_has_an_honest_error():
    energy = potts(scale=0.2)
    law = law_of(energy)
    exact = -(law.p * law.p.log()).sum()
    off = []
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        labels = torch.randint(2, (4000, 3, 3), generator=g)
        weighted = importance(energy, labels, torch.full((4000,), -9 * np.log(2)), on_failure="ignore")
        value, error = weighted_entropy(weighted, energy)
        off.append((value - float(exact)) / error)
    # 40 standard normal numbers, up to a small bias: mean within 3 / sqrt(40), deviation 1 +- 3 / sqrt(80).
    assert abs(np.mean(off)) < 0.5
    assert 0.66 < np.std(off) < 1.34
