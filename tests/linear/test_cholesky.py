"""Analysed once per shape, factored once per image, freed with its handle."""

from __future__ import annotations

import gc

import pytest
import torch

import flowcut as fc
from flowcut.linear import auto, cholesky, pardiso, registry
from flowcut.linear.pattern import Pattern
from flowcut.linear.superlu import SuperLUAnalysis

needs_pardiso = pytest.mark.skipif(not pardiso.available(), reason="PARDISO (extra exact) is not installed")


def _random(spatial=(13, 11), items=2, channels=3, contrast=1.0):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(items, channels, *spatial, generator=g, dtype=torch.float64)
    return scores, (contrast * torch.randn(items, len(spatial), *spatial, generator=g).double()).exp()


@pytest.fixture
def factorings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for every factorisation made."""
    made: list[object] = []
    for kind in (pardiso.PardisoAnalysis, SuperLUAnalysis):
        original = kind.factor

        def counted(self, data, threads, original=original):
            made.append(self)
            return original(self, data, threads)

        monkeypatch.setattr(kind, "factor", counted)
    return made


@pytest.mark.parametrize("backend", ["superlu", pytest.param("pardiso", marks=needs_pardiso)])
def test_one_analysis_a_shape_and_one_factorisation_an_image(factorings, backend: str) -> None:
    scores, edges = _random()
    scores.requires_grad_(), edges.requires_grad_()
    for _ in range(2):
        x = fc.soft_cut(scores, edges, solver=fc.Cholesky(backend))
        grads = torch.autograd.grad(x.square().sum(), (scores, edges), create_graph=True)
        sum(g.square().sum() for g in grads).backward()
    # Two images, twice; forward, adjoint, double backward and three channels cost nothing more.
    assert len(factorings) == 4
    assert len({id(analysis) for analysis in factorings}) == 1


@needs_pardiso
def test_backends_agree() -> None:
    scores, edges = _random((31, 17), contrast=3.0)
    a, b = (fc.soft_cut(scores, edges, solver=fc.Cholesky(k)) for k in ("pardiso", "superlu"))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_factors_live_as_long_as_their_graph() -> None:
    gc.collect()
    before = registry.count()
    scores, edges = _random()
    x = fc.soft_cut(scores.requires_grad_(), edges, solver=fc.Cholesky())
    assert registry.count() == before + 1
    x.sum().backward()
    del x
    gc.collect()
    assert registry.count() == before


@needs_pardiso
def test_many_factors_of_one_shape_at_once() -> None:
    """More than one engine holds, each with its own values; slots are used again afterwards."""
    scores, edges = _random((5, 4), items=70, channels=1)
    x = fc.soft_cut(scores, edges, solver=fc.Cholesky("pardiso"))
    y = fc.soft_cut(scores, edges, solver=fc.CG(rtol=1e-13))
    torch.testing.assert_close(x, y, rtol=0, atol=1e-10)
    for n in range(70):
        assert torch.equal(
            fc.soft_cut(scores[n : n + 1], edges[n : n + 1], solver=fc.Cholesky("pardiso")), x[n : n + 1]
        )


def test_same_bits_for_any_number_of_threads() -> None:
    scores, edges = _random((40, 50), contrast=2.0)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(fc.soft_cut(scores, edges, solver=fc.Cholesky()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_repeated_ties_of_a_graph_add_up() -> None:
    graph = fc.Graph(torch.tensor([[0, 1, 0], [1, 0, 2]]), 3)
    once = fc.Graph(torch.tensor([[0, 0], [1, 2]]), 3)
    scores = torch.randn(1, 1, 3, dtype=torch.float64)
    for solver in (fc.Cholesky(), fc.CG(rtol=1e-13)):
        x = fc.soft_cut(scores, torch.tensor([[1.0, 2.0, 4.0]]).double(), neighborhood=graph, solver=solver)
        y = fc.soft_cut(scores, torch.tensor([[3.0, 4.0]]).double(), neighborhood=once, solver=solver)
        torch.testing.assert_close(x, y)


def test_pattern_is_the_sorted_upper_triangle() -> None:
    i, j = torch.tensor([2, 0, 1]).numpy(), torch.tensor([0, 1, 2]).numpy()
    pattern = Pattern(i, j, 3)
    assert pattern.indptr.tolist() == [0, 3, 5, 6]
    assert pattern.indices.tolist() == [0, 1, 2, 1, 2, 2]
    values = pattern.values(torch.tensor([1.0, 2.0, 4.0]).double().numpy(), torch.ones(3).double().numpy())
    assert values.tolist() == [4, -2, -1, 7, -4, 6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.Cholesky(backend="klu"), "backend: .*klu"),
        (lambda: fc.Cholesky(threads=0), "threads: .*0"),
        (lambda: fc.CG(rtol=0), "rtol: .*0"),
        (lambda: fc.CG(max_steps=0), "max_steps: .*0"),
        (lambda: fc.Auto(rtol=2), "rtol: .*2"),
        (lambda: fc.Auto(max_steps=-1), "max_steps: .*-1"),
        (lambda: fc.ThesisCG(atol=-1), "atol: .*-1"),
        (lambda: fc.ThesisCG(max_steps=0), "max_steps: .*0"),
    ],
)
def test_settings_that_mean_nothing(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_without_pardiso_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pardiso, "available", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'flowcut\[exact\]'"):
        fc.Cholesky("pardiso")
    scores, edges = _random((4, 4))
    assert torch.isfinite(fc.soft_cut(scores, edges, solver=fc.Cholesky())).all()


def test_a_state_that_is_gone_is_named() -> None:
    handle = registry.keep(object())
    copied = handle.clone()
    del handle
    gc.collect()
    with pytest.raises(RuntimeError, match="cannot be copied or saved"):
        registry.find(copied)


@pytest.mark.parametrize("name", ["cholesky_factor", "cholesky_solve", "auto_init", "auto_solve"])
def test_operations_pass_opcheck(name: str) -> None:
    scores, edges = _random((3, 4))
    leak, offsets = torch.ones(1, 1, 3, 4).double(), [1, 0, 0, 1]
    matrix = (edges[:, None], leak, None, offsets, "scores")
    tests = ("test_schema", "test_faketensor")
    if name == "cholesky_factor":
        torch.library.opcheck(cholesky.cholesky_factor, (*matrix, "auto", 1), test_utils=("test_faketensor",))
    elif name == "auto_init":
        torch.library.opcheck(auto.auto_init, matrix, test_utils=("test_faketensor",))
    elif name == "cholesky_solve":
        handle = cholesky.cholesky_factor(*matrix, "auto", 1)
        arguments = (handle, edges[:, None], leak, scores, None, offsets, "scores", "warn")
        torch.library.opcheck(cholesky.cholesky_solve, arguments, test_utils=tests)
    else:
        handle = auto.auto_init(*matrix)
        arguments = (handle, edges[:, None], leak, scores, None, offsets, 1e-6, 100, "scores", "warn")
        torch.library.opcheck(auto.auto_solve, arguments, test_utils=tests)
