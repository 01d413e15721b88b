"""The command line's manners: help, one line for each error, exit code 2, nothing heavy loaded for it."""

import os
import subprocess
import sys

import pytest

from flowcut.apps.main import discover, main

HEAVY = ("lightning", "torchmetrics", "skimage", "PIL", "segmentation_models_pytorch", "tensorboard", "rich")


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def error_of(arguments, capsys):
    """The one line an erroneous call prints; its exit code is 2 and standard output stays empty."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("flowcut: error: ")
    return err.removeprefix("flowcut: error: ").rstrip("\n")


def test_commands_are_found_one_file_each():
    assert set(discover()) >= {"train", "predict", "evaluate", "demo"}


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, command in discover().items():
        assert name in out
        assert command.help in out


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "demo"])
def test_help_of_a_command(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: flowcut {name}")
    assert "--json" in out


def test_no_command_is_an_error_with_the_list(capsys):
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("flowcut 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'unknown command "trian"; did you mean "train"?'),
        (["--verison"], 'unknown option --verison; did you mean "--version"?'),
        (["train", "--optimizer.lrr", "1"], 'unknown option --optimizer.lrr; did you mean "--optimizer.lr"?'),
        (["train", "--optimizer.lr", "fast"], "optimizer.lr: expected float, got 'fast'"),
        (["train", "--optimizer.lr=-1"], "optimizer.lr: expected a finite number > 0, got -1.0"),
        (["train", "a.yaml", "b.yaml"], "unexpected argument: b.yaml"),
        (["train", "no.yaml"], "no.yaml: expected a readable recipe, got: No such file or directory"),
        (["train"], "dataset.images: expected a folder (--dataset.images DIR), got nothing"),
        (["train", "--images", "no", "--masks", "no"], "images: expected a folder, got no"),
        (["train", "--dataset.kind=texture_mosaic", "--images", "a"], "--images: expected only with folders"),
        (
            ["train", "--data", "x"],
            "--data: expected only with dataset.kind weizmann_horses or drive",
        ),
        (["train", "--dataset.kind=texture_mosaic", "--training.device=tpu"], "training.device: expected"),
        (["predict", "no.pt", "no"], "no.pt: expected a flowcut checkpoint, found no such file"),
        (["predict"], "checkpoint"),
        (["evaluate", "no.pt", "--images", "x"], "no.pt"),
        (["demo", "--size", "0"], "dataset.size"),
        (["demo", "--epochs", "0"], "training.epochs"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_a_recipe_is_named_with_the_nearest(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text("training: {epoch: 3}\n")
    expected = f'{path}: unknown key "training.epoch"; did you mean "training.epochs"?'
    assert error_of(["train", str(path)], capsys) == expected


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("FLOWCUT_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown command"):
        main(["trian"])


def test_help_and_mistakes_load_nothing_heavy():
    code = (
        "import sys; from flowcut.apps.main import main\n"
        "codes = [main(['--help']), main(['train', '--help']), main(['train', '--x'])]\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert codes == [0, 0, 2], codes\n"
        "assert not loaded, loaded\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("lightning", "train", ["train", "--dataset.kind=texture_mosaic"]),
        ("skimage", "vision", ["predict", "a.pt", "b"]),
    ],
)
def test_a_missing_extra_says_what_to_install(package, extra, arguments, tmp_path):
    # A finder that knows nothing of the package: what an environment without it looks like.
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from flowcut.apps.main import main
sys.exit(main({arguments!r}))
"""
    done = run_python(code)
    assert done.returncode == 2
    assert f"pip install 'flowcut[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_installed_command_exits_with_2():
    command = os.path.join(os.path.dirname(sys.executable), "flowcut")
    if not os.path.exists(command):
        pytest.skip("flowcut is not installed as a command beside this Python")
    done = subprocess.run([command, "trian"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'flowcut: error: unknown command "trian"; did you mean "train"?\n'
