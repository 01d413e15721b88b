"""Total variation: the certificate on many problems, other solvers, minimum cuts, options, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.max_flow import max_flow
from flowcut.cut.total_variation import TotalVariation, solve_total_variation, total_variation
from tests.zoo.total_variation import incidence, minimise

_KINDS = ["reals", "bytes", "contrast", "zeros", "strong", "levels"]


def _values(kind: str, scores: bool, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=g, dtype=torch.float64)
    if kind == "bytes":
        return (255 * uniform).round() if scores else (40 * uniform).floor()
    if kind == "contrast":
        return 1e3 * (uniform - 0.5) if scores else 10 ** (8 * uniform - 4)
    if kind == "levels":
        return (3 * uniform).floor() if scores else (uniform > 0.5).double() / 2
    if kind == "zeros" and not scores:
        return uniform * (torch.rand(shape, generator=g) < 0.5)
    return 1e6 * uniform if kind == "strong" and not scores else uniform


def _problem(seed: int) -> tuple[Tensor, Tensor, Neighborhood | Graph]:
    """One of hundreds: kind, graphs, 1 to 3 axes, all connectivities, edges shared or not."""
    g = torch.Generator().manual_seed(seed)
    kind, axes = _KINDS[seed % 6], seed // 6 % 4
    where: Neighborhood | Graph
    if axes == 0:
        nodes = int(torch.randint(1, 40, (1,), generator=g))
        index = torch.randint(nodes, (2, 3 * nodes), generator=g)
        where = Graph(index[:, index[0] != index[1]], nodes)
        spatial, ties = (nodes,), (len(where),)
    else:
        largest = (60, 9, 4)[axes - 1]
        spatial = tuple(int(v) for v in torch.randint(1, largest + 1, (axes,), generator=g))
        where = Neighborhood.edges(axes, 1 + seed // 24 % axes)
        ties = (len(where), *spatial)
    groups = 1 + seed % 2
    return _values(kind, True, (2, 2, *spatial), g), _values(kind, False, (2, groups, *ties), g), where


def _listed(where: Neighborhood | Graph, spatial: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Both pixels (in the flat picture) of all ties inside, and their places in flat edges."""
    if isinstance(where, Graph):
        return (*where.edge_index, torch.arange(len(where)))
    pixels = {p: i for i, p in enumerate(itertools.product(*map(range, spatial)))}
    found = []
    for k, offset in enumerate(where.offsets):
        for here, i in pixels.items():
            there = tuple(a + b for a, b in zip(here, offset, strict=True))
            if there in pixels:
                found.append((i, pixels[there], k * len(pixels) + i))
    return tuple(torch.tensor(found, dtype=torch.int64).reshape(-1, 3).T)


def _check(scores: Tensor, edges: Tensor, where: Neighborhood | Graph) -> None:
    """Feasible; z = x - div f; full downhill; constant blocks; and value = bound, computed apart."""
    solution = solve_total_variation(scores, edges, where)
    i, j, ties = _listed(where, tuple(scores.shape[2:]))
    for n, c in itertools.product(range(2), range(2)):
        x, z, block = (t[n, c].flatten() for t in (scores, solution.value, solution.blocks))
        w, f = edges[n, c % edges.shape[1]].flatten()[ties], solution.flow[n, c].flatten()[ties]
        left = x.index_add(0, i, -f).index_add(0, j, f)
        largest = float(w.max()) if len(w) else 0.0
        slack = 1e-12 * float(x.max() - x.min()) + 1e-15 * min(largest, len(x) * float(x.max() - x.min()))
        torch.testing.assert_close(z, left, rtol=0, atol=10 * slack)
        assert (f.abs() <= w).all()
        step = z[i] - z[j]
        down = (block[i] != block[j]) & (w > 0)
        assert (f.abs() == w)[down].all()
        assert (f.sign() == step.sign())[down & (step.abs() > slack)].all()  # rounding may make them equal
        assert (step == 0)[(block[i] == block[j])].all()
        first = torch.stack([(block == b).nonzero()[0, 0] for b in range(int(block.max()) + 1)])
        assert (first.diff() > 0).all()
        assert torch.equal(z[first][block], z)
        value = 0.5 * (z - x).square().sum() + (w * step.abs()).sum()
        bound = 0.5 * x.square().sum() - 0.5 * left.square().sum()
        torch.testing.assert_close(value, bound, rtol=1e-9, atol=1e-9)
        assert 0 <= solution.gap[n, c] <= 100 * len(x) * slack * (slack + largest * 1e-15)


@pytest.mark.parametrize("block", range(4))
def test_certificate(block: int) -> None:
    for seed in range(96 * block, 96 * block + 96):
        _check(*_problem(seed))


def test_a_quadratic_program_agrees() -> None:
    for connectivity, shape in ((1, (4, 4)), (2, (3, 4)), (3, (2, 3, 3))):
        where = Neighborhood.edges(len(shape), connectivity)
        g = torch.Generator().manual_seed(connectivity)
        scores = torch.randn(1, 1, *shape, generator=g, dtype=torch.float64)
        edges = 0.5 * torch.rand(1, len(where), *shape, generator=g, dtype=torch.float64)
        d, inside = incidence(where, shape)
        truth = minimise(scores.flatten().numpy(), d, edges[0, inside].numpy())
        ours = total_variation(scores, edges).flatten()
        torch.testing.assert_close(ours, torch.from_numpy(truth), rtol=0, atol=1e-9)


def test_one_axis_by_hand() -> None:
    scores = torch.tensor([[[0.0, 1.0, 9.0, 10.0]]])
    edges = torch.tensor([[[0.25, 2.0, 5.0, float("nan")]]])
    # 0 rises by 0.25; 1 loses that and gains 2 from above; 9 and 10 become one block that loses 2.
    solution = solve_total_variation(scores.double(), edges)
    assert solution.value[0, 0].tolist() == [0.25, 2.75, 8.5, 8.5]
    assert solution.blocks.tolist() == [[[0, 1, 2, 2]]]


def test_constant_no_edges_and_huge_edges() -> None:
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 5, 6, generator=g, dtype=torch.float64)
    edges = torch.rand(2, 2, 5, 6, generator=g, dtype=torch.float64)
    for value in (0.0, 0.1, -1e30):
        constant = torch.full_like(noise, value)
        solution = solve_total_variation(constant, edges)
        assert torch.equal(solution.value, constant)
        assert not solution.blocks.any()
        assert not solution.gap.any()
    torch.testing.assert_close(total_variation(noise, 0 * edges), noise, rtol=0, atol=1e-15)
    assert solve_total_variation(noise, 0 * edges).blocks[0, 0].flatten().tolist() == list(range(30))
    edges[:, 0, 2] = 0  # two pieces that do not touch
    for size in (1e3, 1e8, 1e300):
        solution = solve_total_variation(noise, size * edges.clamp(min=0.01) * (edges > 0))
        for rows in (slice(0, 3), slice(3, 5)):
            mean = noise[:, :, rows].mean(dim=(2, 3), keepdim=True).expand(-1, -1, rows.stop - rows.start, 6)
            torch.testing.assert_close(solution.value[:, :, rows], mean, rtol=0, atol=1e-12)
        assert (solution.error_bound < 1e-10).all()


@pytest.mark.parametrize("shift", [1e-8, 1.0, 1e8])
def test_scale_and_offset_do_not_matter(shift: float) -> None:
    scores, edges, where = _problem(12)
    expected = total_variation(scores, edges, where)
    torch.testing.assert_close(total_variation(shift * scores, shift * edges, where), shift * expected)
    moved = total_variation((scores + shift).round(decimals=3), edges, where) - shift
    torch.testing.assert_close(
        moved, total_variation(scores.round(decimals=3), edges, where), rtol=0, atol=2e-8
    )


def test_what_is_above_zero_is_a_minimum_cut() -> None:
    for seed in range(0, 96, 6):  # real numbers: no ties
        scores, edges, where = _problem(seed)
        scores = scores[:, :1] - scores[:, :1].mean()
        z = total_variation(scores, edges[:, :1], where)
        assert torch.equal(z[:, 0] > 0, max_flow(scores, edges[:, :1], where))


def test_items_and_channels_are_solved_apart() -> None:
    scores, edges, where = _problem(19)
    whole = total_variation(scores, edges, where)
    for n, c in itertools.product(range(2), range(2)):
        own = edges[n : n + 1, c % edges.shape[1]][:, None]
        assert torch.equal(total_variation(scores[n : n + 1, c : c + 1], own, where)[0, 0], whole[n, c])


@pytest.mark.parametrize("seed", [6, 12, 18, 0])
def test_the_iteration_finds_the_same(seed: int) -> None:
    scores, edges, where = _problem(seed)
    exact = solve_total_variation(scores, edges, where)
    found = solve_total_variation(scores, edges, where, method="iterative", max_steps=800)
    difference = (found.value - exact.value).flatten(2).norm(dim=2)
    assert (difference <= found.error_bound + 1e-12).all()
    deviation = (scores - scores.flatten(2).mean(dim=2)[(..., *(None,) * (scores.ndim - 2))]).flatten(2)
    assert (found.error_bound <= 1.001e-6 * deviation.norm(dim=2) + 1e-12).all()
    # What it cannot prove goes to the exact method.
    hasty = solve_total_variation(scores, edges, where, method="iterative", max_steps=1, tolerance=1e-14)
    fallen = hasty.steps == 0
    assert fallen.any()
    assert torch.equal(hasty.value[fallen], exact.value[fallen])
    assert torch.equal(hasty.blocks[fallen], exact.blocks[fallen])


def test_alternating_comes_near_and_refinement_is_exact() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 2, 8, 9, generator=g, dtype=torch.float64)
    edges = 0.5 * torch.rand(2, 2, 8, 9, generator=g, dtype=torch.float64)
    exact = solve_total_variation(scores, edges)
    bounds = []
    for steps in (1, 5, 35, 400):
        plain = solve_total_variation(scores, edges, method="alternating", max_steps=steps)
        assert ((plain.value - exact.value).flatten(2).norm(dim=2) <= plain.error_bound).all()
        inside = Neighborhood.edges(2).inside((8, 9))
        assert (plain.flow.abs() <= edges[:, None])[:, :, inside].all()
        bounds.append(float(plain.error_bound.max()))
    assert bounds == sorted(bounds, reverse=True)
    refined = solve_total_variation(scores, edges, method="alternating", refine="isotonic", max_steps=400)
    torch.testing.assert_close(refined.value, exact.value, rtol=0, atol=1e-12)
    assert torch.equal(refined.blocks, exact.blocks)
    # Along one axis one round is exact.
    line = total_variation(scores[:, :, 0], edges[:, 1:, 0], method="alternating", max_steps=1)
    torch.testing.assert_close(line, total_variation(scores[:, :, 0], edges[:, 1:, 0]), rtol=0, atol=1e-12)


def test_types() -> None:
    scores, edges = torch.randn(2, 1, 4, 5), torch.rand(2, 2, 4, 5)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        solution = solve_total_variation(scores.to(dtype), edges.to(dtype))
        assert solution.value.dtype == dtype
        assert solution.flow.dtype == solution.gap.dtype == torch.float64
        # The bound speaks of the rounded value.
        exact = total_variation(scores.to(dtype).double(), edges.to(dtype).double())
        assert (solution.value - exact).flatten(1).norm(dim=1).le(solution.error_bound[:, 0] + 1e-12).all()


def test_empty_and_module() -> None:
    for shape in ((0, 1, 4, 5), (2, 1, 0, 5), (2, 0, 4, 5)):
        scores = torch.zeros(shape, requires_grad=True)
        edges = torch.zeros((shape[0], 2, *shape[2:]), requires_grad=True)
        for method in ("exact", "iterative", "alternating"):
            out = total_variation(scores, edges, method=method)
            assert out.shape == shape
            out.sum().backward()
    head = TotalVariation(method="alternating", refine="isotonic", max_steps=3)
    scores, edges = torch.randn(1, 1, 4, 5), torch.rand(1, 2, 4, 5)
    expected = total_variation(scores, edges, method="alternating", refine="isotonic", max_steps=3)
    assert torch.equal(head(scores, edges), expected)
    assert "alternating" in repr(head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "fast"}, "method: expected one of"),
        ({"gradient": "all"}, "gradient: expected one of"),
        ({"refine": "isotonic"}, "refine: expected None for method 'exact'"),
        ({"refine": "more", "method": "alternating"}, "refine: expected one of"),
        ({"max_steps": 0}, "max_steps: expected a number >= 1"),
        ({"tolerance": 0.0}, "tolerance: expected a number > 0"),
        (
            {"neighborhood": Neighborhood(((1, 1), (0, 1))), "method": "alternating"},
            "method: expected ties along",
        ),
        ({"scores": torch.zeros(4, 5)}, r"scores: expected shape \(N, C"),
        ({"scores": torch.full((2, 1, 4, 5), float("nan"))}, "scores: expected finite values, got nan"),
        ({"scores": torch.full((2, 1, 4, 5), float("inf"))}, "scores: expected finite values, got inf"),
        ({"edges": torch.zeros(2, 3, 2, 4, 5)}, r"edges: expected shape \(2, 2, 4, 5\)"),
        ({"edges": -torch.ones(2, 2, 4, 5)}, "edges: expected finite values >= 0 inside the picture, got -1"),
        ({"edges": torch.full((2, 2, 4, 5), float("nan"))}, "edges: expected finite .* got nan"),
    ],
)
def test_refusals(change, message) -> None:
    arguments = {"scores": torch.zeros(2, 1, 4, 5), "edges": torch.ones(2, 2, 4, 5), **change}
    with pytest.raises(ValueError, match=message):
        total_variation(**arguments)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="scores: expected a floating-point tensor"):
        total_variation(torch.zeros(1, 1, 3).long(), torch.zeros(1, 1, 3))
    with pytest.raises(TypeError, match="edges: expected a floating-point tensor"):
        total_variation(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3).long())
