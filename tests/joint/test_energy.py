"""Energies against plain loops over pixels and ties, and against sums over all labelings."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import FlatEnergy, flatten_energy
from flowcut.joint.ising import IsingEnergy
from tests.truths.dense import grid_ties

TRIANGLE = Graph(torch.tensor([[0, 3, 1, 0, 0], [1, 1, 2, 2, 1]]), 4)  # tie 0-1 stands twice


class Case(NamedTuple):
    """Where the pixels are and which of them touch."""

    spatial: tuple[int, ...]
    where: Neighborhood | Graph
    inferred: bool = False

    @property
    def ties(self) -> tuple[int, ...]:
        """Shape of the weights of one energy."""
        count = len(self.where)
        return (count,) if isinstance(self.where, Graph) else (count, *self.spatial)

    def list(self) -> list[tuple[tuple[int, ...], int, int]]:
        """Index into the weights, and both ends, of every tie."""
        if isinstance(self.where, Graph):
            return [((e,), int(i), int(j)) for e, (i, j) in enumerate(self.where.edge_index.T)]
        return [((k, *pixel), i, j) for k, pixel, i, j in grid_ties(self.spatial, self.where.offsets)]


CASES = {
    "line": Case((4,), Neighborhood.edges(1), True),
    "4-neighbours": Case((2, 3), Neighborhood.edges(2), True),
    "8-neighbours": Case((2, 3), Neighborhood.edges(2, 2), True),
    "6-neighbours": Case((2, 1, 3), Neighborhood.edges(3), True),
    "own": Case((2, 3), Neighborhood(((-1, 1), (0, 2), (0, -1), (5, 0)))),
    "graph": Case((4,), TRIANGLE),
    "no ties": Case((3,), Graph(torch.empty(2, 0, dtype=torch.int64), 3)),
    "one pixel": Case((1, 1), Neighborhood.edges(2), True),
}
TABLES = ["none", "shared", "own"]


def _parts(case: Case, tables: str, n: int = 1, j: int = 3, shared: bool = False, seed: int = 0) -> dict:
    """Random costs; ``shared``: ties and tables of one energy for all n."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    m, ties = 1 if shared else n, case.ties
    pairwise = {
        "none": None,
        "shared": draw(j, j),
        "own": draw(m, *ties[:1], j, j, *ties[1:]) if len(ties) > 1 else draw(m, j, j, *ties),
    }[tables]
    return {
        "unary": draw(n, j, *case.spatial),
        "edges": draw(m, *ties),
        "pairwise": pairwise,
        "neighborhood": None if case.inferred else case.where,
        "constant": draw(n),
    }


def _looped(case: Case, parts: dict, item: int, labels: tuple[int, ...]) -> Tensor:
    """E of one labeling, by (RAF (11)) as it is printed."""

    def pick(value: Tensor) -> Tensor:
        return value[item % len(value)]

    unary, edges, pairwise = pick(parts["unary"]).flatten(1), pick(parts["edges"]), parts["pairwise"]
    total = pick(parts["constant"]).clone()
    for i, label in enumerate(labels):
        total = total + unary[label, i]
    for index, i, j in case.list():
        a, b = labels[i], labels[j]
        if pairwise is None:
            cost = float(a != b)
        elif pairwise.ndim == 2:
            cost = pairwise[a, b]
        elif isinstance(case.where, Graph):
            cost = pick(pairwise)[(a, b, *index)]
        else:
            cost = pick(pairwise)[(index[0], a, b, *index[1:])]
        total = total + edges[index] * cost
    return total


def _all_labelings(spatial: tuple[int, ...], labels: int = 3) -> Tensor:
    every = list(itertools.product(range(labels), repeat=math.prod(spatial)))
    return torch.tensor(every).reshape(-1, *spatial)


def _few_labelings(case: Case, count: int = 12, labels: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(labels, (count, *case.spatial), generator=g)


def _random_assignments(count: int, energy: PottsEnergy) -> Tensor:
    g = torch.Generator().manual_seed(2)
    return torch.randn(count, *energy.shape, generator=g, dtype=torch.float64).softmax(dim=1)


def _products(assignments: Tensor) -> Tensor:
    """Probability of every labeling where the pixels of S (J, *spatial) draw independently."""
    law = torch.ones(1, dtype=assignments.dtype)
    for row in assignments.flatten(1).T:  # the last pixel's label changes fastest
        law = torch.outer(law, row).flatten()
    return law


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_energy_is_the_double_loop(case: Case, tables: str) -> None:
    parts = _parts(case, tables)
    labels = _few_labelings(case)
    truth = torch.stack([_looped(case, parts, 0, tuple(a.flatten().tolist())) for a in labels])
    torch.testing.assert_close(PottsEnergy(**parts).energy(labels), truth)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("case", [CASES["8-neighbours"], CASES["graph"]], ids=["grid", "graph"])
def test_batches_are_their_items(case: Case, tables: str, shared: bool) -> None:
    parts = _parts(case, tables, n=3, shared=shared)
    labels = _few_labelings(case, 3)
    energy = PottsEnergy(**parts)
    truth = torch.stack([_looped(case, parts, m, tuple(a.flatten().tolist())) for m, a in enumerate(labels)])
    torch.testing.assert_close(energy.energy(labels), truth)
    same = torch.stack([_looped(case, parts, m, tuple(labels[0].flatten().tolist())) for m in range(3)])
    torch.testing.assert_close(energy.energy(labels[:1]), same)
    torch.testing.assert_close(energy[-1].energy(labels[2:]), truth[2:])
    s = _random_assignments(3, energy)
    for m in range(3):
        alone = energy[m]
        torch.testing.assert_close(energy.mean_field_energy(s)[m], alone.mean_field_energy(s[m : m + 1])[0])
        torch.testing.assert_close(energy.local_costs(s)[m], alone.local_costs(s[m : m + 1])[0])
        # One S for all energies.
        torch.testing.assert_close(energy.local_costs(s[:1])[m], alone.local_costs(s[:1])[0])
        flat, one = flatten_energy(energy), flatten_energy(alone)
        torch.testing.assert_close(flat.unary[m], one.unary[0])
        torch.testing.assert_close(flat.full_tables()[0 if shared else m], one.full_tables()[0])


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_mean_field_energy_is_the_mean_over_all_labelings(case: Case, tables: str) -> None:
    """RAF (17), by enumeration of the product law."""
    energy = PottsEnergy(**_parts(case, tables))
    s = _random_assignments(2, energy)
    costs = energy.energy(_all_labelings(case.spatial))
    truth = torch.stack([_products(one) @ costs for one in s])
    torch.testing.assert_close(energy.mean_field_energy(s), truth)
    vertices = torch.nn.functional.one_hot(_few_labelings(case), 3).movedim(-1, 1).double()
    torch.testing.assert_close(energy.mean_field_energy(vertices), energy.energy(_few_labelings(case)))


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_local_costs_are_the_derivative_and_the_conditional_costs(case: Case, tables: str) -> None:
    energy = PottsEnergy(**_parts(case, tables))
    s = _random_assignments(2, energy).requires_grad_()
    (slope,) = torch.autograd.grad(energy.mean_field_energy(s).sum(), s)
    torch.testing.assert_close(energy.local_costs(s), slope)
    labels = _few_labelings(case, 1)
    local = energy.local_costs(torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).double()).flatten(2)
    for i in range(math.prod(case.spatial)):
        flips = labels.repeat(3, *(1,) * len(case.spatial))
        flips.flatten(1)[:, i] = torch.arange(3)
        costs = energy.energy(flips)
        torch.testing.assert_close(local[0, :, i] - local[0, 0, i], costs - costs[0])


@pytest.mark.parametrize("case", [CASES["4-neighbours"], CASES["graph"]], ids=["grid", "graph"])
def test_scores_without_ties_are_read_by_sigmoid_and_softmax(case: Case) -> None:
    """exp(-E) over its sum; scores as in flowcut.soft_cut."""
    g = torch.Generator().manual_seed(3)
    for channels in (1, 3):
        scores = 2 * torch.randn(1, channels, *case.spatial, generator=g, dtype=torch.float64)
        energy = PottsEnergy.from_scores(scores, torch.zeros(1, *case.ties).double(), case.where)
        labels = energy.num_labels
        law = (-energy.energy(_all_labelings(case.spatial, labels))).softmax(dim=0)
        p = torch.cat([1 - scores.sigmoid(), scores.sigmoid()], dim=1) if channels == 1 else scores.softmax(1)
        torch.testing.assert_close(law, _products(p[0]))
        assert labels == max(2, channels)
    assert (PottsEnergy.from_scores(scores[:, :1], torch.zeros(1, *case.ties), case.where).unary >= 0).all()


@pytest.mark.parametrize("case", [CASES["8-neighbours"], CASES["graph"]], ids=["grid", "graph"])
def test_most_likely_labeling_of_scores_is_the_cut(case: Case) -> None:
    """min over labelings of -sum s_i m_i + sum w |m_i - m_j|, up to a constant."""
    g = torch.Generator().manual_seed(4)
    scores = torch.randn(1, 1, *case.spatial, generator=g, dtype=torch.float64)
    edges = torch.rand(1, *case.ties, generator=g, dtype=torch.float64)
    every = _all_labelings(case.spatial, 2)
    m = every.flatten(1).double()
    cut = -(m @ scores.flatten())
    for index, i, j in case.list():
        cut = cut + edges[(0, *index)] * (m[:, i] - m[:, j]).abs()
    energy = PottsEnergy.from_scores(scores, edges, case.where).energy(every)
    torch.testing.assert_close(energy, cut + scores.clamp(min=0).sum())


@pytest.mark.parametrize("case", [CASES["own"], CASES["graph"], CASES["6-neighbours"]], ids=str)
def test_ising_energy_in_spins(case: Case) -> None:
    """-sum h s - sum c s s'."""
    g = torch.Generator().manual_seed(5)
    h = torch.randn(2, 1, *case.spatial, generator=g, dtype=torch.float64)
    for items in (1, 2):
        c = torch.randn(items, *case.ties, generator=g, dtype=torch.float64)
        energy = IsingEnergy(h, c, case.where)
        every = _all_labelings(case.spatial, 2)[::7]
        s = 2 * every.flatten(1).double() - 1
        for n in range(2):
            truth = -(s @ h[n].flatten())
            for index, i, j in case.list():
                truth = truth - c[(n % items, *index)] * s[:, i] * s[:, j]
            torch.testing.assert_close(energy[n].energy(every), truth)
            colder = energy.at_temperature(0.5)[n].energy(every)
            torch.testing.assert_close(colder, 2 * truth)


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("case", [CASES["8-neighbours"], CASES["graph"]], ids=["grid", "graph"])
def test_flat_energies_are_the_same_numbers(case: Case, tables: str) -> None:
    """Sums over the lists of nodes and ties."""
    for shared in (False, True):
        energy = PottsEnergy(**_parts(case, tables, n=2, shared=shared))
        flat = flatten_energy(energy)
        assert isinstance(flat, FlatEnergy)
        assert flat.pairs.tolist() == sorted_ties(case)
        labels = _few_labelings(case, 2)
        rows = labels.flatten(1)
        whole = flat.full_tables()
        for n, alpha in enumerate(rows):
            total = flat.constant[n % len(flat.constant)]
            total = total + flat.unary[n, torch.arange(len(alpha)), alpha].sum()
            table = whole[n % len(whole)]
            a, b = alpha[flat.pairs].T
            total = total + table[torch.arange(len(table)), a, b].sum()
            torch.testing.assert_close(total, energy.energy(labels)[n])
    assert flatten_energy(energy.to(torch.float32)).unary.dtype == torch.float64


def sorted_ties(case: Case) -> list[list[int]]:
    """Both ends of every tie, offset by offset."""
    return [[i, j] for index, i, j in sorted(case.list(), key=lambda tie: tie[0])]


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("where", [Neighborhood(((-1, 1), (0, -1))), TRIANGLE], ids=["grid", "graph"])
def test_gradients_in_the_costs(where: Neighborhood | Graph, tables: str) -> None:
    case = Case((4,) if isinstance(where, Graph) else (2, 2), where)
    parts = _parts(case, tables, n=2)
    given = {name: value for name, value in parts.items() if isinstance(value, Tensor)}
    labels = _few_labelings(case, 2)
    s = _random_assignments(2, PottsEnergy(**parts))

    def values(*costs: Tensor) -> tuple[Tensor, ...]:
        energy = PottsEnergy(**{**parts, **dict(zip(given, costs, strict=True))}).at_temperature(0.7)
        flat = flatten_energy(energy[1])
        picked = energy.energy(labels), energy.mean_field_energy(s), energy.local_costs(s)
        return *picked, flat.full_tables(), flat.unary

    assert torch.autograd.gradcheck(values, tuple(v.requires_grad_() for v in given.values()))


@pytest.mark.parametrize("tables", TABLES)
def test_ties_that_leave_the_picture_have_no_influence(tables: str) -> None:
    """Not even where NaN or infinity stands there; their gradient is zero."""
    case = CASES["own"]
    parts = _parts(case, tables)
    inside = case.where.inside(case.spatial)
    for bad in (math.nan, math.inf):
        edges = torch.where(inside, parts["edges"], bad).requires_grad_()
        changed = {**parts, "edges": edges}
        if tables == "own":
            mask = inside[:, None, None]
            changed["pairwise"] = torch.where(mask, parts["pairwise"], bad).requires_grad_()
        labels = _few_labelings(case)
        energy = PottsEnergy(**changed)
        torch.testing.assert_close(energy.energy(labels), PottsEnergy(**parts).energy(labels))
        s = _random_assignments(1, energy)
        (energy.energy(labels).sum() + energy.mean_field_energy(s).sum()).backward()
        assert (edges.grad[0][~inside] == 0).all()
        assert torch.isfinite(edges.grad).all()
        if tables == "own":
            assert torch.isfinite(changed["pairwise"].grad).all()


def test_other_ways_to_give_the_same_energy() -> None:
    case = CASES["4-neighbours"]
    parts = _parts(case, "none")
    labels = _few_labelings(case)
    truth = PottsEnergy(**parts).energy(labels)
    grouped = {**parts, "edges": parts["edges"].unsqueeze(1)}  # as in flowcut.soft_cut, one group
    torch.testing.assert_close(PottsEnergy(**grouped).energy(labels), truth)
    unequal = 1 - torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(PottsEnergy(**{**parts, "pairwise": unequal}).energy(labels), truth)
    whole = unequal.reshape(1, 1, 3, 3, 1, 1) * parts["edges"][:, :, None, None]
    torch.testing.assert_close(
        PottsEnergy(**{**parts, "edges": None, "pairwise": whole}).energy(labels), truth
    )
    for index in (torch.int32, torch.uint8):
        torch.testing.assert_close(PottsEnergy(**parts).energy(labels.to(index)), truth)
    on_graph = Graph(torch.tensor(sorted_ties(case)).T, 6)
    weights = torch.stack([parts["edges"][(0, *k)] for k, _, _ in sorted(case.list())])[None]
    flat = PottsEnergy(parts["unary"].flatten(2), weights, None, on_graph, parts["constant"])
    torch.testing.assert_close(flat.energy(labels.flatten(1)), truth)
    with_group = PottsEnergy(parts["unary"].flatten(2), weights[None], None, on_graph, parts["constant"])
    torch.testing.assert_close(with_group.energy(labels.flatten(1)), truth)


def test_types_and_temperature() -> None:
    case = CASES["4-neighbours"]
    parts = _parts(case, "shared", n=2)
    energy = PottsEnergy(**parts)
    assert (energy.items, energy.num_labels, energy.spatial, energy.shape) == (2, 3, (2, 3), (3, 2, 3))
    single = energy.to(torch.float32)
    assert single.dtype == single.edges.dtype == single.pairwise.dtype == torch.float32
    labels = _few_labelings(case, 2)
    torch.testing.assert_close(single.energy(labels).double(), energy.energy(labels), rtol=0, atol=1e-5)
    torch.testing.assert_close(energy.at_temperature(4.0).energy(labels), energy.energy(labels) / 4)
    mixed = PottsEnergy(**{**parts, "edges": parts["edges"].float()})
    assert mixed.dtype == mixed.edges.dtype == torch.float64
    assert energy.device == torch.device("cpu")


def test_nothing_to_do() -> None:
    energy = PottsEnergy(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2))
    assert energy.energy(torch.zeros(0, 2, 2, dtype=torch.int64)).shape == (0,)
    assert energy.mean_field_energy(torch.zeros(0, 2, 2, 2)).shape == (0,)
    assert energy.local_costs(torch.zeros(0, 2, 2, 2)).shape == (0, 2, 2, 2)
    empty = PottsEnergy(torch.zeros(1, 2, 0, 2), torch.ones(1, 2, 0, 2), constant=3.0)
    assert empty.energy(torch.zeros(2, 0, 2, dtype=torch.int64)).tolist() == [3.0, 3.0]
    assert flatten_energy(empty).pairs.shape == (0, 2)


UNARY, EDGES = torch.zeros(2, 3, 2, 4), torch.ones(2, 2, 2, 4)
PATH = Graph(torch.tensor([[0, 1], [1, 2]]), 3)


def _with(value: Tensor, bad: float) -> Tensor:
    value = value.clone()
    value[(0,) * value.ndim] = bad
    return value


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"unary": UNARY.long()}, TypeError, "unary: expected a floating-point tensor, got torch.int64"),
        ({"unary": UNARY.tolist()}, TypeError, "unary: expected a tensor, got list"),
        ({"unary": UNARY[0, 0]}, ValueError, r"unary: expected shape \(N, J, \*spatial\).*got \(2, 4\)"),
        ({"unary": UNARY[:, :1]}, ValueError, r"unary: .*J >= 2 labels, got \(2, 1, 2, 4\)"),
        ({"unary": _with(UNARY, math.nan)}, ValueError, "unary: expected finite values, got nan at index"),
        ({"unary": _with(UNARY, math.inf)}, ValueError, "unary: expected finite values, got inf at index"),
        ({"edges": None}, ValueError, "edges: expected weights, or pairwise tables .*got neither"),
        ({"edges": EDGES.long()}, TypeError, "edges: .*floating-point.*int64"),
        ({"edges": EDGES.tolist()}, TypeError, "edges: expected a tensor, got list"),
        ({"edges": EDGES[:, :1]}, ValueError, "edges: expected 2, 4 channels for 2 spatial axes"),
        (
            {"edges": EDGES[..., :3]},
            ValueError,
            r"edges: expected shape \(1 or 2, 2, 2, 4\), got \(2, 2, 2, 3\)",
        ),
        ({"edges": torch.ones(3, 2, 2, 4)}, ValueError, r"edges: expected shape .*got \(3, 2, 2, 4\)"),
        ({"edges": torch.ones(2, 3, 2, 2, 4)}, ValueError, r"edges: expected shape .*got \(2, 3, 2, 2, 4\)"),
        ({"edges": torch.tensor(1.0)}, ValueError, "edges: expected 2, 4 channels"),
        ({"edges": _with(EDGES, math.nan)}, ValueError, "edges: expected finite values, got nan at index"),
        ({"edges": _with(EDGES, -math.inf)}, ValueError, "edges: expected finite values, got -inf"),
        ({"pairwise": torch.ones(3, 3).long()}, TypeError, "pairwise: .*int64"),
        ({"pairwise": [[0.0] * 3] * 3}, TypeError, "pairwise: expected a tensor, got list"),
        ({"pairwise": torch.ones(2, 2)}, ValueError, r"pairwise: expected shape \(3, 3\) or .*got \(2, 2\)"),
        (
            {"pairwise": torch.ones(1, 2, 3, 2, 2, 4)},
            ValueError,
            r"pairwise: .* or \(1 or 2, 2, 3, 3, 2, 4\), got \(1, 2, 3, 2, 2, 4\)",
        ),
        ({"pairwise": torch.ones(3, 2, 3, 3, 2, 4)}, ValueError, "pairwise: expected shape"),
        ({"pairwise": torch.tensor(1.0)}, ValueError, r"pairwise: expected shape .*got \(\)"),
        ({"pairwise": _with(torch.ones(3, 3), math.nan)}, ValueError, "pairwise: expected finite .*nan"),
        ({"pairwise": _with(torch.ones(1, 2, 3, 3, 2, 4), math.inf)}, ValueError, "pairwise: .*got inf"),
        (
            {"neighborhood": Neighborhood.edges(3)},
            ValueError,
            "neighborhood: expected offsets of 2 axes, got 3",
        ),
        (
            {"neighborhood": Neighborhood.edges(2, 2)},
            ValueError,
            r"edges: expected shape \(1 or 2, 4, 2, 4\)",
        ),
        ({"neighborhood": Neighborhood.window(2, 3)}, ValueError, "neighborhood: .*tied to itself"),
        ({"neighborhood": PATH}, ValueError, r"unary: expected shape \(N, J, 3\) for this graph"),
        ({"unary": torch.zeros(1, 2, 4), "neighborhood": PATH}, ValueError, "unary: expected shape .*3"),
        (
            {"unary": torch.zeros(1, 2, 3), "edges": torch.ones(1, 3), "neighborhood": PATH},
            ValueError,
            r"edges: expected shape \(1, 2\), got \(1, 3\)",
        ),
        ({"constant": torch.ones(3)}, ValueError, r"constant: expected a number or shape \(2,\)"),
        ({"constant": torch.ones(2, 1)}, ValueError, "constant: expected a number or shape"),
        ({"constant": math.inf}, ValueError, "constant: expected finite values, got inf"),
    ],
)
def test_bad_costs_get_one_clear_line(change, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        PottsEnergy(**{"unary": UNARY, "edges": EDGES, **change})
    assert "\n" not in str(caught.value)


def test_edges_to_missing_nodes() -> None:
    with pytest.raises(ValueError, match="edge_index: expected nodes 0 to 2, got 0 to 3"):
        Graph(torch.tensor([[0, 1], [1, 3]]), 3)


LABELS = torch.zeros(2, 2, 4, dtype=torch.int64)
ASSIGNED = torch.full((2, 3, 2, 4), 1 / 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda e: e.energy(LABELS.float()),
            TypeError,
            "labels: expected an integer tensor, got torch.float32",
        ),
        (lambda e: e.energy(LABELS.tolist()), TypeError, "labels: expected an integer tensor, got list"),
        (
            lambda e: e.energy(LABELS[..., :3]),
            ValueError,
            r"labels: expected shape \(2, 2, 4\), got \(2, 2, 3\)",
        ),
        (lambda e: e.energy(LABELS.repeat(2, 1, 1)), ValueError, r"labels: expected shape \(2, 2, 4\)"),
        (lambda e: e[0].energy(LABELS[:, 0]), ValueError, r"labels: expected shape \(M, 2, 4\)"),
        (lambda e: e.energy(LABELS[:0]), ValueError, "labels: expected shape"),
        (lambda e: e.energy(LABELS + 3), ValueError, "labels: expected 0 to 2, got 3 to 3"),
        (lambda e: e.energy(LABELS - 1), ValueError, "labels: expected 0 to 2, got -1 to -1"),
        (lambda e: e.mean_field_energy(ASSIGNED.long()), TypeError, "assignments: .*int64"),
        (
            lambda e: e.mean_field_energy(ASSIGNED[:, :2]),
            ValueError,
            r"assignments: expected shape \(2, 3, 2, 4\)",
        ),
        (lambda e: e.local_costs(ASSIGNED[0]), ValueError, r"assignments: expected shape .*got \(3, 2, 4\)"),
        (lambda e: e.at_temperature(0.0), ValueError, "temperature: expected a finite number > 0, got 0.0"),
        (lambda e: e.at_temperature(-1), ValueError, "temperature: .*got -1"),
        (lambda e: e.at_temperature(math.nan), ValueError, "temperature: .*got nan"),
        (lambda e: e.at_temperature(math.inf), ValueError, "temperature: .*got inf"),
        (lambda e: e[2], IndexError, "item: expected -2 to 1, got 2"),
        (lambda e: e.from_scores(LABELS[None], EDGES), TypeError, "scores: .*int64"),
        (
            lambda e: e.from_scores(torch.zeros(2, 4), EDGES),
            ValueError,
            r"scores: expected shape \(N, C, \*spatial\)",
        ),
        (lambda e: IsingEnergy(UNARY, EDGES), ValueError, r"field: expected shape \(N, 1, \*spatial\)"),
        (lambda e: IsingEnergy(LABELS[:, None], EDGES), TypeError, "field: .*int64"),
        (lambda e: IsingEnergy(UNARY[:, :1], EDGES.long()), TypeError, "couplings: .*int64"),
        (lambda e: IsingEnergy(_with(UNARY[:, :1], math.nan), EDGES), ValueError, "expected finite values"),
    ],
)
def test_bad_requests_get_one_clear_line(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(PottsEnergy(UNARY, EDGES))
    assert "\n" not in str(caught.value)
