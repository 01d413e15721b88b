"""Checkpoints: the same network back, nothing executed, everything else refused."""

import itertools
import pickle
import zipfile

import pytest
import torch

from flowcut.vision.checkpoints import FORMAT, VERSION, load_checkpoint, save_checkpoint
from flowcut.vision.networks import build_network

CONFIG = {"network": "BasicCnn", "arguments": {"width": 4}, "head": None}
CUT = {**CONFIG, "head": {"name": "SoftCut", "solver": {"name": "CG", "rtol": 1e-4}}}

FLOW = {**CONFIG, "head": {"name": "LinearAssignmentFlow", "window": 3, "rho": 0.5, "time": 2.0}}


@pytest.mark.parametrize("config", [CONFIG, CUT, FLOW])
def test_the_same_network_comes_back(tmp_path, config):
    network = build_network(config)
    save_checkpoint(tmp_path / "a.pt", network, config)
    loaded, found = load_checkpoint(tmp_path / "a.pt")
    assert found == config
    assert not loaded.training
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(images), network.eval()(images))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_names_and_shapes_of_version_0_1_are_kept():
    layers = {"score_layers": (3, 4, 4, 1), "edge_layers": (3, 4, 4, 4, 2)}
    expected = {}
    for layer, channels in layers.items():
        for i, (before, after) in enumerate(itertools.pairwise(channels)):
            expected[f"{layer}.{2 * i}.weight"] = (after, before, 3, 3)
            expected[f"{layer}.{2 * i}.bias"] = (after,)
    state = build_network(CUT).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x, protocol=2))])
def test_code_in_a_file_is_not_executed(tmp_path, save):
    content = {"format": FORMAT, "version": VERSION, "config": CONFIG, "state": Trap(tmp_path / "sprung")}
    save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: not a flowcut checkpoint") as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
    # The trap does work where code may be executed.
    torch.load(tmp_path / "a.pt", weights_only=False) if save is torch.save else pickle.loads(
        (tmp_path / "a.pt").read_bytes()
    )
    assert (tmp_path / "sprung").exists()


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(FileNotFoundError, match="found no such file"):
        load_checkpoint(path)
    torch.save({"state_dict": {"a": torch.zeros(3)}}, tmp_path / "other.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("a", "b")
    for content in (b"", b"words", bytes(range(256)), (tmp_path / "zip.pt").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: not a flowcut checkpoint") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    for content in ({"state_dict": {"a": torch.zeros(3)}}, [1, 2], torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(ValueError, match="it carries no format mark"):
            load_checkpoint(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_file(tmp_path, kept):
    path = tmp_path / "a.pt"
    save_checkpoint(path, build_network(CONFIG), CONFIG)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=f"^{path}: not a flowcut checkpoint, or damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": VERSION + 1}, "expected a flowcut checkpoint of version 1"),
        ({"version": "1"}, "got version '1'"),
        ({"config": 3}, "damaged flowcut checkpoint, without configuration"),
        ({"state": None}, "damaged flowcut checkpoint, without configuration"),
        ({"config": {"network": "os.system"}}, "does not know .*'os.system'"),
        ({"state": {}}, "weights do not fit"),
        ({"config": {**CONFIG, "arguments": {"width": 5}}}, "weights do not fit .*has shape"),
    ],
)
def test_wrong_content(tmp_path, change, message):
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": CONFIG,
        "state": build_network(CONFIG).state_dict(),
    }
    torch.save({**content, **change}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [CUT, {**CONFIG, "arguments": {"width": 5}}, {**CONFIG, "arguments": {"width": torch.tensor(4)}}],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, config):
    with pytest.raises(ValueError, match=r"^config: expected") as caught:
        save_checkpoint(tmp_path / "a.pt", build_network(CONFIG), config)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_checkpoint(tmp_path / "nowhere" / "a.pt", build_network(CONFIG), CONFIG)
