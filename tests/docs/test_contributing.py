"""The worked recipes of CONTRIBUTING.md run and do what they say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

import flowcut as fc
from tests.truths.dense import dense_matrix, dense_soft_cut
from tests.zoo.entry import SolverEntry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
OFFSETS = fc.Neighborhood.edges(2, 2).offsets


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """The blocks as one module; a file, because Numba keeps what it compiles beside its source."""
    path = tmp_path_factory.mktemp("contributing") / "contributing_recipes.py"
    path.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def problem():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
    edges = torch.rand(2, 1, 4, 4, 5, generator=g, dtype=torch.float64)
    return scores, edges


def test_the_solver_solves_and_differentiates(recipes):
    scores, edges = problem()
    solver = recipes.Jacobi(rtol=1e-13)
    truth = dense_soft_cut(scores, edges, torch.ones(1, 1, 4, 5, dtype=torch.float64), OFFSETS)
    solution = fc.solve(fc.GridOperator(edges), scores, solver)
    torch.testing.assert_close(solution.value, truth, rtol=0, atol=1e-11)
    assert ((solution.value - truth).abs().flatten(2).amax(dim=2) <= solution.error_bound).all()
    leaves = [t.clone().requires_grad_() for t in (scores[:1, :1, :2, :2], edges[:1, :, :, :2, :2])]
    assert torch.autograd.gradcheck(lambda s, e: fc.soft_cut(s, e, solver=solver), leaves)


def test_the_solver_s_zoo_entry(recipes):
    line = re.search(r"^  (entry = SolverEntry\(.*\))$", TEXT, re.MULTILINE)[1]
    names = {"SolverEntry": SolverEntry, "Jacobi": recipes.Jacobi}
    exec(line, names)
    scores, edges = problem()
    solution = fc.solve(fc.GridOperator(edges), scores, names["entry"].hasty, on_failure="ignore")
    assert not solution.success
    with pytest.raises(fc.NotConvergedError):
        fc.solve(fc.GridOperator(edges), scores, names["entry"].hasty, on_failure="raise")


def test_the_layer_takes_a_step(recipes):
    scores, edges = problem()
    one = torch.ones(1, 1, 4, 5, dtype=torch.float64)
    truth = dense_soft_cut(scores, 0.3 * edges, one, OFFSETS)
    found = recipes.Diffuse(0.3)(scores, edges)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="time: expected"):
        recipes.diffuse(scores, edges, -1.0)


def test_the_kernel_sums_ties(recipes):
    _, edges = problem()
    offsets = [o for offset in OFFSETS for o in offset]
    zero = torch.zeros(4, 5, dtype=torch.float64)
    truth = torch.stack([dense_matrix(e[0], zero, OFFSETS).diag().reshape(1, 4, 5) for e in edges])
    torch.testing.assert_close(recipes.grid_degree(edges, offsets), truth)
    torch.testing.assert_close(recipes.degree_reference(edges, offsets), truth)
    mapped = torch.vmap(lambda e: recipes.grid_degree(e, offsets))(edges[:, None])
    torch.testing.assert_close(mapped[:, 0], truth)
    torch.library.opcheck(recipes.grid_degree, (edges, offsets))


def test_named_files_exist():
    text = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    named = re.findall(r"`((?:flowcut|tests|docs|benchmarks|experiments|\.ci)/[\w./-]+)`", text)
    planned = {"tests/zoo/jacobi.py"}
    for name in set(named) - planned:
        path = ROOT / "src" / name if name.startswith("flowcut/") else ROOT / name
        assert path.exists(), name


def test_packages_are_those_of_the_import_contract():
    rows = re.findall(r"^\| `(flowcut\.\w+)` \|", TEXT, re.MULTILINE)
    contract = re.search(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[1]
    assert rows == re.findall(r"flowcut\.\w+", contract)[::-1]
