"""`flowcut label` from pictures to files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import flowcut as fc
from flowcut.apps.main import main
from flowcut.apps.work.label import read_prototypes
from flowcut.vision.assign import FlowSettings, default_rho, label_picture
from flowcut.vision.pictures import read_image, read_mask


def json_of(arguments, capsys):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("flowcut: error: ").rstrip("\n")


@pytest.fixture
def cat(tmp_path):
    """A photograph, a hundred pixels wide."""
    path = tmp_path / "cat.png"
    Image.fromarray(data.chelsea()[100:180, 100:200]).save(path)
    return path


@pytest.fixture
def stripes(tmp_path):
    """Red beside blue, under noise that gives single pixels to the wrong side; and the truth."""
    truth = np.zeros((24, 30), dtype=np.int64)
    truth[:, 15:] = 1
    clean = np.array([[200, 30, 30], [30, 30, 200]])[truth]
    noise = np.random.default_rng(0).normal(0, 90, clean.shape)
    path = tmp_path / "stripes.png"
    Image.fromarray((clean + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path, truth


def test_a_photograph_is_labelled_end_to_end(cat, tmp_path, capsys):
    result = json_of(["label", str(cat), "--output", str(tmp_path / "out"), "--k", "4"], capsys)
    one = result["pictures"]["cat"]
    labels = read_mask(one["masks"], classes=4).numpy()
    assert labels.shape == (80, 100)
    np.testing.assert_allclose(one["shares"], [(labels == j).mean() for j in range(4)], atol=1e-6)
    colours = np.asarray(Image.open(one["colours"]))
    given = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in one["prototypes"]])
    np.testing.assert_array_equal(colours, given[labels])
    assert Image.open(one["entropy"]).size == (100, 80)
    assert 0 < one["mean_entropy"] < 1
    assert result["skipped"] == {}


def test_the_default_rho_is_a_tenth_of_the_mean_distance_and_said(cat, tmp_path, capsys):
    arguments = ["label", str(cat), "--output", str(tmp_path / "out"), "--prototypes", "#000000,#ffffff"]
    one = json_of(arguments, capsys)["pictures"]["cat"]
    image = read_image(cat).numpy().reshape(3, -1)
    mean = np.mean([(image**2).sum(axis=0), ((image - 1) ** 2).sum(axis=0)])
    assert one["rho"] == pytest.approx(mean / 10, rel=1e-5)
    assert main(arguments) == 0
    assert "rho is a tenth of the mean distance" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--flow=nonlinear"],
        ["--flow=nonlinear", "--time=4"],
        ["--weights=gaussian", "--sigma=1.5"],
        ["--relinearizations=1", "--krylov-dim=8", "--time=3"],
    ],
)
def test_neighbours_correct_noise(stripes, more, tmp_path, capsys):
    path, truth = stripes
    call = ["label", str(path), "--output", str(tmp_path / "o"), "--prototypes", "#c81e1e,#1e1ec8", *more]
    one = json_of(call, capsys)["pictures"]["stripes"]
    pixels = read_image(path).numpy()
    alone = (pixels[2] > pixels[0]).astype(int)
    found = read_mask(one["masks"]).numpy()
    assert (alone != truth).mean() > 0.05
    assert (found != truth).mean() < 0.01


def test_grey_and_wider_windows_and_the_same_seed(cat, tmp_path, capsys):
    call = ["label", str(cat), "--output", str(tmp_path / "o"), "--grayscale", "--k=3", "--seed=5"]
    first = json_of(call, capsys)["pictures"]["cat"]
    assert all(c[1:3] == c[3:5] == c[5:7] for c in first["prototypes"])
    assert first["prototypes"] == sorted(first["prototypes"])
    again = json_of(call, capsys)["pictures"]["cat"]
    assert (again["shares"], again["rho"]) == (first["shares"], first["rho"])
    narrow = read_mask(first["masks"], classes=3)
    wide = read_mask(json_of([*call, "--window=9"], capsys)["pictures"]["cat"]["masks"], classes=3)
    changes = [int((labels[1:] != labels[:-1]).sum()) for labels in (narrow, wide)]
    assert changes[1] < changes[0]


def test_a_folder_with_a_broken_and_a_constant_picture(cat, tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.png").write_bytes(cat.read_bytes())
    (folder / "bad.png").write_bytes(cat.read_bytes()[:80])
    Image.new("RGB", (9, 9), "red").save(folder / "red.png")
    result = json_of(["label", str(folder), "--output", str(tmp_path / "out"), "--k=2"], capsys)
    assert list(result["pictures"]) == ["good"]
    assert sorted(result["skipped"]) == ["bad.png", "red.png"]
    assert "at least k = 2 different colours, got 1" in result["skipped"]["red.png"]


def test_one_label_one_pixel_and_a_colour_that_is_met_exactly(tmp_path, capsys):
    path = tmp_path / "one.png"
    Image.new("RGB", (1, 1), "#3366cc").save(path)
    for prototypes, labels in (("#3366cc", 1), ("#000000,#3366cc", 2)):
        call = ["label", str(path), "--output", str(tmp_path / "o"), "--prototypes", prototypes]
        one = json_of(call, capsys)["pictures"]["one"]
        assert one["shares"] == [0.0, 1.0][-labels:]
        assert 0 <= one["mean_entropy"] < 1
    assert json_of(["label", str(path), "--output", str(tmp_path / "o"), "--k=1"], capsys)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("c.json", '["#ff0000", [0, 0.5, 1]]', [[1, 0, 0], [0, 0.5, 1]]),
        ("c.txt", "#000000\n#ffffff\n", [[0, 0, 0], [1, 1, 1]]),
        ("colours", "red, lime", [[1, 0, 0], [0, 1, 0]]),
    ],
)
def test_prototypes_from_a_file(name, content, expected, tmp_path):
    (tmp_path / name).write_text(content)
    torch.testing.assert_close(read_prototypes(str(tmp_path / name)), torch.tensor(expected).float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prototypes", "#12345"], "prototypes: expected colours like #ff8800, got '#12345'"),
        (["--prototypes", "no.json"], "prototypes: expected colours or a readable file, got no.json"),
        (["--prototypes", "#ff0000,red"], "prototypes: expected each colour once, got red twice"),
        (["--prototypes", ","], "prototypes: expected 1 to 255 colours, got 0"),
        (["--prototypes", "red", "--k=3"], "k: expected without --prototypes, got 3"),
        (["--k=0"], "k: expected 1 to 255, got 0"),
        (["--k=256"], "k: expected 1 to 255, got 256"),
        (["--k=255"], "different colours, got"),
        (["--seed=-1"], "seed: expected an integer >= 0, got -1"),
        (["--rho=0"], "rho: expected a finite number > 0, got 0"),
        (["--rho=.nan"], "rho: expected a finite number > 0, got nan"),
        (["--time=-1"], "time: expected a finite number > 0, got -1"),
        (["--window=4"], "window: expected an odd integer >= 1, got 4"),
        (["--krylov-dim=0"], "krylov_dim: expected an integer >= 1, got 0"),
        (["--relinearizations=-1"], "relinearizations: expected an integer >= 0, got -1"),
        (["--flow=nonlinear", "--krylov-dim=3"], "krylov_dim: expected with the linear flow alone, got 3"),
        (["--sigma=1"], "sigma: expected with Gaussian weights alone, got 1"),
        (["--weights=gaussian", "--sigma=0"], "sigma: expected a finite number > 0, got 0"),
        (["--flow=cubic"], "flow: expected"),
    ],
)
def test_errors_are_one_line(options, message, tmp_path, capsys):
    path = tmp_path / "small.png"
    Image.fromarray(data.chelsea()[:8, :8]).save(path)
    error = error_of(["label", str(path), "--output", str(tmp_path / "out"), *options], capsys)
    assert message in error


@pytest.mark.parametrize("content", ["{}", "[[0, 0, 2]]", "[[0, 0]]", "[true]", "[[NaN, 0, 0]]", "["])
def test_a_json_file_without_colours_is_refused(content, cat, tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text(content)
    call = ["label", str(cat), "--output", str(tmp_path / "out"), "--prototypes", str(path)]
    assert error_of(call, capsys).startswith("prototypes: expected")


def test_what_is_no_picture_is_refused(tmp_path, capsys):
    (tmp_path / "a.png").write_text("no picture")
    out = ["--output", str(tmp_path / "out")]
    assert "known picture format" in error_of(["label", str(tmp_path / "a.png"), *out], capsys)
    assert "images: expected a folder" in error_of(["label", str(tmp_path / "no"), *out], capsys)


def test_labels_follow_the_flow_they_are_said_to_come_from():
    image, prototypes = torch.rand(3, 9, 8, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    found = label_picture(image, prototypes, FlowSettings(rho=0.2, window=3))
    distances = fc.label_distances(image[None], prototypes)
    weights = fc.uniform_weights((9, 8), 3)
    W = (4 * fc.linear_assignment_flow(distances, weights, 0.2, 5.0, 5)).softmax(dim=1)
    torch.testing.assert_close(found.labels, W.argmax(dim=1)[0])
    expected = -(W * W.log()).sum(dim=1)[0] / np.log(4)
    torch.testing.assert_close(found.entropy.double(), expected, atol=1e-6, rtol=0)
    assert default_rho(distances) == pytest.approx(float(distances.mean()) / 10)
