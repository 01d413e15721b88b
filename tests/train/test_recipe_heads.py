"""Every head that a recipe names: made, trained one step, saved and loaded."""

from typing import get_args, get_type_hints

import pytest
import torch

from flowcut.train.build import build_loss, network_config, start_network
from flowcut.train.fit import fit
from flowcut.train.recipe import DataRecipe, LossRecipe, NetworkRecipe, TrainingRecipe
from flowcut.vision.checkpoints import load_checkpoint, save_checkpoint
from flowcut.vision.infer import INFERENCE, with_inference
from tests.train.helpers import tiny_recipe

HEADS = [head for head in get_args(get_type_hints(NetworkRecipe)["head"]) if head != "none"]
SIZE = (24, 32)


def lively(network, classes):
    """Scores of both signs and edges weaker than their differences, as after some training.

    At the start scores are within some hundredths and edges 1: total variation and cuts then make one block
    of the picture, whose edges have no gradient.
    """
    final = network.score_layers[-1] if hasattr(network, "score_layers") else network.score_head[0]
    ties = network.edge_layers[-1] if hasattr(network, "edge_layers") else network.edge_head[0]
    with torch.no_grad():
        final.weight *= 60
        final.bias -= network.eval().raw_parts(torch.rand(2, 3, *SIZE))[0].mean(dim=(0, 2, 3))
        if network.ties.name == "edges":
            ties.bias -= 2.5
    return network.train()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["basic_cnn", "two_head_unet"])
@pytest.mark.parametrize("head", HEADS)
def test_one_step_reaches_every_parameter(head, kind, classes):
    torch.manual_seed(0)
    recipe = NetworkRecipe(kind, width=6, decoder_channels=(16, 16, 8, 8, 8), head=head)
    data = DataRecipe(kind="paired_folder", num_classes=classes)
    network = lively(start_network(network_config(recipe, data)), classes)
    images, target = torch.rand(2, 3, *SIZE), torch.randint(0, classes, (2, *SIZE))
    build_loss(LossRecipe(), classes)(network(images), target).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("head", HEADS)
def test_a_trained_head_comes_back_from_its_file_and_can_be_exchanged(tmp_path, head):
    torch.manual_seed(0)
    config = network_config(NetworkRecipe(width=4, head=head), DataRecipe())
    network = start_network(config).eval()
    save_checkpoint(tmp_path / "a.pt", network, config)
    loaded, images = load_checkpoint(tmp_path / "a.pt")[0], torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
        assert torch.equal(with_inference(loaded, head)(images), network(images))
        for other in INFERENCE:
            assert with_inference(loaded, other)(images).isfinite().all()


@pytest.mark.parametrize("head", ["random_walker", "perturbed"])
def test_training_with_another_head_end_to_end(tmp_path, head):
    recipe = tiny_recipe(
        network=NetworkRecipe(width=4, head=head, samples=4),
        training=TrainingRecipe(epochs=3, batch_size=4, device="cpu"),
    )
    result = fit(recipe, tmp_path / "run", progress=False, say=None)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.metrics["test"]["iou"]["count"] == 3


def test_a_perturbed_training_that_was_resumed_gets_the_noise_it_would_have_had(tmp_path):
    recipe = tiny_recipe(
        network=NetworkRecipe(width=4, head="perturbed", samples=2),
        training=TrainingRecipe(epochs=3, batch_size=4, device="cpu"),
    )
    whole = fit(recipe, tmp_path / "whole", progress=False, say=None)

    def interrupt(line):
        if line.startswith("epoch 2/"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(recipe, tmp_path / "parts", progress=False, say=interrupt)
    parts = fit(recipe, tmp_path / "parts", resume=True, progress=False, say=None)
    states = [torch.load(r.run.last, weights_only=True)["state_dict"] for r in (whole, parts)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    # Two steps an epoch.
    assert int(states[0]["network.head.calls"]) == 6


def test_words_and_settings_arrive():
    data = DataRecipe()
    cut = start_network(network_config(NetworkRecipe(head="perturbed", samples=4, sigma=0.5), data)).head.cut
    assert (cut.fn, cut.samples, cut.sigma, cut.on) == ("max_flow", 4, (0.5,), "scores")
    several = DataRecipe(kind="paired_folder", num_classes=4)
    cut = start_network(network_config(NetworkRecipe(head="perturbed"), several)).head.cut
    assert (cut.fn, cut.on) == ("alpha_expansion", "both")
    walker = start_network(network_config(NetworkRecipe(head="random_walker", rtol=1e-3), data)).head
    assert walker.solver.rtol == 1e-3
