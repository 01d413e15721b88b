"""`predict` and `evaluate` with another head than the trained one."""

import json
from typing import get_args

import pytest
import torch

import flowcut as fc
from flowcut.apps.inference import InferenceHead
from flowcut.apps.main import main
from flowcut.vision.checkpoints import load_checkpoint, save_checkpoint
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.infer import INFERENCE
from flowcut.vision.networks import build_network
from flowcut.vision.pictures import read_image, read_mask
from tests.train.helpers import write_pairs


def checkpoint(path, head, classes=1):
    """A network whose scores have both signs and whose edges are weak, so that there is something to cut."""
    torch.manual_seed(1)
    config = {"network": "BasicCnn", "arguments": {"num_classes": classes, "width": 5}, "head": head}
    network = build_network(config)
    with torch.no_grad():
        network.score_layers[-1].weight *= 40
        network.score_layers[-1].bias -= network(torch.rand(1, 3, 20, 20)).mean(dim=(0, 2, 3))
        if head is not None:
            network.edge_layers[-1].bias -= 1.5
    save_checkpoint(path, network, config)
    return str(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_pairs(folder, 3, size=24)
    checkpoint(folder / "cut.pt", {"name": "SoftCut"})
    checkpoint(folder / "three.pt", {"name": "SoftCut"}, classes=3)
    checkpoint(folder / "plain.pt", None)
    return folder


def masks_of(world, out, capsys, *arguments, network="cut.pt"):
    capsys.readouterr()
    common = ["predict", str(world / network), str(world / "images"), "--output", str(out), "--json"]
    assert main([*common, *arguments]) == 0
    found = json.loads(capsys.readouterr().out)["masks"]
    return {name: read_mask(path, classes=255) for name, path in found.items()}


def parts_of(world, name, network="cut.pt"):
    with torch.no_grad():
        return load_checkpoint(world / network)[0].forward_parts(
            read_image(world / "images" / f"{name}.png")[None]
        )


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_max_flow_is_the_exact_cut_of_what_was_learned(world, tmp_path, capsys):
    found = masks_of(world, tmp_path, capsys, "--infer", "max_flow")
    for name, mask in found.items():
        parts = parts_of(world, name)
        assert torch.equal(mask.bool(), fc.max_flow(parts["scores"], parts["edges"])[0])
    assert any(0 < mask.double().mean() < 1 for mask in found.values())


def test_expansion_for_three_labels(world, tmp_path, capsys):
    for name, mask in masks_of(
        world, tmp_path, capsys, "--infer=alpha_expansion", network="three.pt"
    ).items():
        parts = parts_of(world, name, "three.pt")
        assert torch.equal(mask, fc.alpha_expansion(-parts["scores"], parts["edges"])[0])


def test_the_trained_head_by_its_name_and_no_head_at_all(world, tmp_path, capsys):
    as_trained = masks_of(world, tmp_path / "a", capsys)
    assert same(as_trained, masks_of(world, tmp_path / "b", capsys, "--infer", "soft_cut"))
    for name, mask in masks_of(world, tmp_path / "c", capsys, "--infer", "none").items():
        assert torch.equal(mask.bool(), parts_of(world, name)["scores"][0, 0] > 0)


@pytest.mark.parametrize("head", get_args(InferenceHead))
def test_every_name_labels_whole_and_in_tiles_solved_jointly(world, tmp_path, capsys, head):
    whole = masks_of(world, tmp_path / "a", capsys, "--infer", head)
    joint = ["--tile=10", "--overlap=16", "--combine=joint"]
    assert same(whole, masks_of(world, tmp_path / "b", capsys, "--infer", head, *joint))


def test_the_command_line_and_python_know_the_same_names():
    assert set(get_args(InferenceHead)) == set(INFERENCE)


def test_contrast_ties_a_network_without_a_head(world, tmp_path, capsys):
    found = masks_of(
        world, tmp_path, capsys, "--infer", "max_flow", "--edges", "contrast", network="plain.pt"
    )
    for name, mask in found.items():
        image = read_image(world / "images" / f"{name}.png")[None]
        cut = fc.max_flow(parts_of(world, name, "plain.pt")["scores"], ContrastEdges()(image))
        assert torch.equal(mask.bool(), cut[0])


def scores_of(world, capsys, *arguments, masks="masks"):
    capsys.readouterr()
    folders = [
        "--images",
        str(world / "images"),
        "--masks",
        str(masks if masks != "masks" else world / masks),
    ]
    assert main(["evaluate", str(world / "cut.pt"), *folders, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluating_with_another_head_measures_the_masks_it_predicts(world, tmp_path, capsys):
    masks_of(world, tmp_path, capsys, "--infer", "max_flow")
    result = scores_of(world, capsys, "--infer", "max_flow", masks=tmp_path / "masks")
    assert (result["accuracy"]["mean"], result["accuracy"]["count"]) == (1, 3)
    assert scores_of(world, capsys, masks=tmp_path / "masks")["accuracy"]["mean"] < 1
    assert scores_of(world, capsys) == scores_of(world, capsys, "--infer", "soft_cut")


def test_evaluating_in_tiles(world, capsys):
    tiles = ["--tile=10", "--overlap=16"]
    whole = scores_of(world, capsys, "--infer=max_flow")
    assert scores_of(world, capsys, "--infer=max_flow", *tiles, "--combine=joint") == whole
    # Without a head a pixel sees three kernels far, less than half of the overlap.
    assert scores_of(world, capsys, "--infer=none", *tiles) == scores_of(world, capsys, "--infer=none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cut.pt", "--infer", "graph_cut"], "infer"),
        (["three.pt", "--infer", "max_flow"], "max_flow: expected scores of one or two channels, got 3; use"),
        (["plain.pt", "--infer", "max_flow"], "network: expected one with a head"),
        (["cut.pt", "--edges", "contrast"], "--edges: expected together with --infer, got contrast alone"),
        (["plain.pt", "--infer=none", "--tile=0"], "tile: expected one number >= 1"),
    ],
)
def test_errors_are_one_line_before_anything_is_written(world, tmp_path, arguments, message, capsys):
    network, *others = arguments
    command = ["predict", str(world / network), str(world / "images"), "--output", str(tmp_path / "out")]
    capsys.readouterr()
    assert main([*command, *others]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not (tmp_path / "out").exists()
