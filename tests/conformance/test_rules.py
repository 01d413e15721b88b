"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flowcut as fc

_SOURCE = Path(fc.__file__).parent
_FILES = sorted(_SOURCE.rglob("*.py"))
_ROOMS = ("core", "kernels", "linear", "cut", "flow", "joint")
_EXTRAS = ("PIL", "skimage", "torchmetrics", "segmentation_models_pytorch", "lightning", "tensorboard",
           "matplotlib", "gradio", "rich", "pyamg", "cvxopt",
           "cv2", "tifffile", "torchvision", "monai", "nibabel",
           "cvxpy", "cvxpylayers", "diffcp")  # fmt: skip


def _imports(file: Path) -> set[str]:
    """Full names of what a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _users(*packages: str) -> list[Path]:
    return [f for f in _FILES if any(n.split(".")[0] in packages for n in _imports(f))]


def test_numba_and_triton_live_in_kernels() -> None:
    users = _users("numba", "llvmlite", "triton")
    assert len(users) > 3  # the search finds what is there
    assert {f.relative_to(_SOURCE).parts[0] for f in users} == {"kernels"}


def test_derivatives_live_in_one_adjoint_file_a_room() -> None:
    written = [f for f in _FILES if "autograd.Function" in f.read_text().replace("``autograd.Function``", "")]
    imported = [f for f in _FILES if "torch.autograd.Function" in _imports(f)]
    assert imported or written
    assert {f.name for f in imported + written} == {"adjoint.py"}


def test_our_own_code_is_not_imported_inside_functions() -> None:
    late = []
    for file in _FILES:
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                    late += [f"{file.name}:{node.lineno}" for n in names if n.split(".")[0] == "flowcut"]
    assert not late


def test_importing_flowcut_imports_no_extra() -> None:
    program = f"import sys, flowcut; print([m for m in {_EXTRAS!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_named() -> None:
    program = """
import sys
for name in ("torchmetrics", "PIL", "skimage", "segmentation_models_pytorch"):
    sys.modules[name] = None  # what Python does for "known not to be there"
import flowcut
try:
    flowcut.metrics
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert "pip install 'flowcut[vision]'" in done.stdout


@pytest.mark.parametrize("name", fc.__all__)
def test_every_public_name_is_documented_with_an_example(name: str) -> None:
    value = getattr(fc, name)
    text = inspect.getdoc(value) or ""
    assert text
    assert value.__module__.startswith("flowcut.")
    if not (isinstance(value, type) and issubclass(value, Exception)):
        assert "Examples\n--------" in text
        assert ">>>" in text


def _modules() -> list[str]:
    names = ["flowcut"]
    for room in _ROOMS:
        package = importlib.import_module(f"flowcut.{room}")
        names += [package.__name__]
        names += [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return names


@pytest.mark.parametrize("module", _modules())
def test_examples_in_docstrings_are_true(module: str) -> None:
    torch.manual_seed(0)
    failed, _ = doctest.testmod(
        importlib.import_module(module), extraglobs={"torch": torch, "fc": fc}, optionflags=doctest.ELLIPSIS
    )
    assert not failed
