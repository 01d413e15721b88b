"""Expansion moves: enumeration of every move, energies that never rise, real stereo energies, refusals."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowcut.core.edges import edges_from_axes
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.expansion import alpha_expansion, solve_alpha_expansion
from flowcut.cut.expansion_move import read_costs
from flowcut.cut.max_flow import max_flow
from flowcut.joint.energy import PottsEnergy

_DATA = Path(os.environ.get("FLOWCUT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mrf"
_WHERE = {
    "path": ((7,), Neighborhood.edges(1)),
    "4-neighbours": ((2, 3), Neighborhood.edges(2)),
    "8-neighbours": ((2, 3), Neighborhood.edges(2, 2)),
    "26-neighbours": ((2, 2, 2), Neighborhood.edges(3, 3)),
    "graph": ((6,), Graph(torch.tensor([[0, 1, 2, 3, 3, 0, 0], [1, 2, 0, 4, 4, 5, 3]]), 6)),
}
_LEVELS = torch.arange(4.0, dtype=torch.float64)
_TABLES = {
    "Potts": None,
    "truncated line": (_LEVELS[:, None] - _LEVELS).abs().clamp(max=2),
    "truncated square": (_LEVELS[:, None] - _LEVELS).square().clamp(max=5),
}


def _problem(
    name: str, seed: int, items: int = 2, labels: int = 4
) -> tuple[Tensor, Tensor, Neighborhood | Graph]:
    spatial, where = _WHERE[name]
    g = torch.Generator().manual_seed(seed)
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    unary = torch.randint(0, 8, (items, labels, *spatial), generator=g).double()
    return unary, torch.randint(0, 4, (items, *ties), generator=g).double(), where


def _true_energy(unary: Tensor, edges: Tensor, table: Tensor | None, where, labels: Tensor) -> Tensor:
    """By the energies of the joint room, which know nothing of cuts."""
    return PottsEnergy(unary, edges, table, where).energy(labels)


@pytest.mark.parametrize("table", _TABLES.values(), ids=_TABLES)
@pytest.mark.parametrize("name", _WHERE)
def test_no_expansion_makes_the_result_cheaper(name: str, table: Tensor | None) -> None:
    for seed in range(4):
        unary, edges, where = _problem(name, seed)
        found = solve_alpha_expansion(unary, edges, table, where)
        assert found.labels.dtype == torch.int64
        assert found.converged.all()
        assert (found.history.diff(dim=0) <= 0).all()
        assert torch.equal(found.history[-1], found.energy)
        assert torch.equal(found.energy, _true_energy(unary, edges, table, where, found.labels))
        assert torch.equal(found.history[0], _true_energy(unary, edges, table, where, unary.argmin(dim=1)))
        if table is _TABLES["truncated square"]:
            continue  # moves are not the best of their kind
        assert (found.truncated == 0).all()
        for n, label in itertools.product(range(2), range(4)):
            best = _best_expansion(unary[n : n + 1], edges[n : n + 1], table, where, found.labels[n], label)
            assert best >= found.energy[n]


def _best_expansion(unary: Tensor, edges: Tensor, table, where, labels: Tensor, label: int) -> float:
    """Least energy among all 2^n expansions, by enumeration."""
    count = labels.numel()
    switch = torch.tensor(list(itertools.product((False, True), repeat=count))).reshape(-1, *labels.shape)
    moved = torch.where(switch, label, labels)
    return float(_true_energy(unary, edges, table, where, moved).min())


@pytest.mark.parametrize("name", _WHERE)
def test_one_move_is_the_best_of_its_kind(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    for table in (None, _TABLES["truncated line"]):
        unary, edges, where = _problem(name, 7, items=1)
        costs = read_costs(unary, edges, table, where)
        for label in range(4):
            labels = torch.randint(4, (1, *unary.shape[2:]), generator=g)
            switch, dearer = costs.best_switch(labels, label)
            moved = torch.where(switch, label, labels)
            assert dearer.item() == 0
            best = _best_expansion(unary, edges, table, where, labels[0], label)
            assert costs.energy(moved).item() == best


def test_a_truncated_move_never_does_harm() -> None:
    g = torch.Generator().manual_seed(0)
    table, total, falls = _TABLES["truncated square"], 0, 0
    for seed in range(30):
        unary, edges, where = _problem("8-neighbours", seed)
        costs = read_costs(unary, edges, table, where)
        labels = torch.randint(4, (2, *unary.shape[2:]), generator=g)
        switch, dearer = costs.best_switch(labels, seed % 4)
        before, after = costs.energy(labels), costs.energy(torch.where(switch, seed % 4, labels))
        assert (after <= before).all()
        total, falls = total + int(dearer.sum()), falls + int((after < before).sum())
    assert total > 20
    assert falls > 20
    unary = torch.randint(0, 30, (2, 4, 12, 12), generator=g).double()
    found = solve_alpha_expansion(unary, torch.ones(1, 2, 12, 12), table)
    assert (found.truncated > 0).all()
    assert (found.history.diff(dim=0) <= 0).all()


def test_rounding_is_no_truncation() -> None:
    rows = [[0, 0.7, 0.1, 0.8], [0.7, 0, 0.8, 0.1], [0.1, 0.8, 0, 0.7], [0.8, 0.1, 0.7, 0]]
    table = torch.tensor(rows, dtype=torch.float64)
    # V[a, c] > V[a, b] + V[b, c], by rounding alone.
    assert (table.unsqueeze(1) > table.unsqueeze(2) + table.unsqueeze(0)).any()
    unary, edges, where = _problem("8-neighbours", 1)
    assert (solve_alpha_expansion(unary, edges, table, where).truncated == 0).all()


def test_two_labels_are_one_cut() -> None:
    for name in _WHERE:
        unary, edges, where = _problem(name, 3, labels=2)
        found = solve_alpha_expansion(unary, edges, None, where)
        mask = max_flow(unary[:, :1] - unary[:, 1:], edges, where)
        assert torch.equal(found.energy, _true_energy(unary, edges, None, where, mask.long()))


def test_within_twice_the_least_for_potts() -> None:
    for name in ("4-neighbours", "graph"):
        unary, edges, where = _problem(name, 5, items=3, labels=3)
        found = solve_alpha_expansion(unary, edges, None, where)
        every = torch.tensor(list(itertools.product(range(3), repeat=6))).reshape(-1, *unary.shape[2:])
        for n in range(3):
            energies = _true_energy(unary[n : n + 1], edges[n : n + 1], None, where, every)
            least = energies.min()
            smooth = least - unary[n].gather(0, every[energies.argmin()].unsqueeze(0)).sum()
            assert least <= found.energy[n] <= least + smooth


def test_a_batch_is_a_loop_and_edges_can_be_shared() -> None:
    unary, edges, where = _problem("8-neighbours", 1, items=5)
    for ties in (edges, edges[:1], edges[:1].unsqueeze(1)):
        whole = solve_alpha_expansion(unary, ties, _TABLES["truncated line"], where)
        for n in range(5):
            own = ties[n : n + 1] if len(ties) > 1 else ties
            one = solve_alpha_expansion(unary[n : n + 1], own, _TABLES["truncated line"], where)
            assert torch.equal(whole.labels[n], one.labels[0])
            assert whole.energy[n] == one.energy[0]
    assert torch.equal(alpha_expansion(unary, edges), solve_alpha_expansion(unary, edges, None, where).labels)


def test_where_to_begin_and_when_to_stop() -> None:
    unary, edges, where = _problem("8-neighbours", 1)
    start = torch.randint(4, (2, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    before = start.clone()
    none = solve_alpha_expansion(unary, edges, None, where, start, max_cycles=0)
    assert torch.equal(none.labels, start.long())
    assert not none.converged.any()
    assert none.history.shape == (1, 2)
    assert solve_alpha_expansion(unary, edges, None, where, start, max_cycles=1).history.shape == (5, 2)
    done = solve_alpha_expansion(unary, edges, None, where, start)
    assert torch.equal(solve_alpha_expansion(unary, edges, None, where, done.labels).labels, done.labels)
    assert torch.equal(start, before)


def test_a_checked_picture_in_single_precision() -> None:
    """Noisy squares of three labels come out clean."""
    g = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 24, 24, dtype=torch.int64)
    truth[:, 8:, :12], truth[:, 12:, 12:] = 1, 2
    scores = torch.nn.functional.one_hot(truth, 3).movedim(-1, 1) + 0.6 * torch.randn(
        1, 3, 24, 24, generator=g
    )
    unary, edges = -scores, torch.ones(1, 4, 24, 24)
    noisy, clean = unary.argmin(dim=1), alpha_expansion(unary, edges)
    assert (noisy != truth).float().mean() > 0.1
    assert (clean != truth).float().mean() < 0.01


def test_nan_outside_is_ignored_and_gradients_stop() -> None:
    unary = torch.randn(1, 3, 4, 5, requires_grad=True)
    edges = torch.rand(1, 4, 4, 5)
    bad = torch.where(Neighborhood.edges(2, 2).inside((4, 5)), edges, float("nan"))
    found = solve_alpha_expansion(unary, bad.requires_grad_())
    assert torch.equal(found.labels, alpha_expansion(unary, edges))
    assert not found.energy.requires_grad


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 2), (1, 1, 2, 2), (1, 3, 1, 1)])
def test_empty_one_label_one_pixel(shape) -> None:
    unary = torch.arange(float(np.prod(shape))).reshape(shape).flip(1)
    found = solve_alpha_expansion(unary, torch.ones(shape[0], 2, *shape[2:]))
    assert found.labels.shape == (shape[0], *shape[2:])
    assert found.converged.all()
    assert (found.labels == shape[1] - 1).all()


_UNARY, _EDGES = torch.zeros(1, 3, 2, 2), torch.ones(1, 2, 2, 2)
_EYE, _ONES = torch.eye(3), torch.ones(3, 3)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "unary: expected finite values, got nan", {"unary": _UNARY * float("nan")}),
        (ValueError, "unary: expected at least one label", {"unary": _UNARY[:, :0]}),
        (TypeError, "unary: expected a floating-point tensor", {"unary": _UNARY.long()}),
        (ValueError, "edges: expected finite values >= 0", {"edges": -_EDGES}),
        (ValueError, r"edges: expected shape \(1, 2, 2, 2\)", {"edges": torch.ones(1, 3, 2, 2, 2)}),
        (ValueError, r"pairwise: expected shape \(3, 3\), got \(2, 3\)", {"pairwise": torch.ones(2, 3)}),
        (ValueError, "pairwise: expected finite", {"pairwise": _ONES * float("inf")}),
        (ValueError, r"pairwise: expected values >= 0, got -1.* \(0, 0\)", {"pairwise": -_ONES}),
        (ValueError, "pairwise: expected a zero diagonal, got 1", {"pairwise": _EYE}),
        (ValueError, "pairwise: expected a symmetric table", {"pairwise": _ONES.triu(1)}),
        (TypeError, "pairwise: expected a floating-point", {"pairwise": _ONES.long()}),
        (TypeError, "initial: expected an integer tensor", {"initial": torch.zeros(1, 2, 2)}),
        (TypeError, "initial: expected an integer tensor, got list", {"initial": [0]}),
        (ValueError, r"initial: expected shape \(1, 2, 2\)", {"initial": torch.zeros(2, 2).long()}),
        (
            ValueError,
            "initial: expected labels 0 to 2, got",
            {"initial": 3 * torch.eye(2).int()[None]},
        ),
        (ValueError, "max_cycles: expected a number >= 0", {"max_cycles": -1}),
    ],
)
def test_bad_inputs(error, message: str, arguments) -> None:
    with pytest.raises(error, match=message) as caught:
        alpha_expansion(**{"unary": _UNARY, "edges": _EDGES, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not _DATA.is_dir(), reason="no MRF energies; set FLOWCUT_DATA to the folder with mrf/")
@pytest.mark.parametrize("name", ["tsukuba", "venus"])
def test_stereo(name: str) -> None:
    reference = json.loads((_DATA / "reference.json").read_text())[f"stereo_{name}"]
    data = np.load(_DATA / "stereo" / name / "energy.npz")
    unary, wv, wh, table = (
        torch.from_numpy(data[k].astype(np.float64)) for k in ("unary", "wv", "wh", "pairwise")
    )
    found = solve_alpha_expansion(unary.movedim(-1, 0)[None], edges_from_axes([wv, wh])[None], table)
    assert found.history[0].item() == reference["energy_wta"]
    assert found.energy.item() <= 1.001 * reference["energy_expansion"]
    assert found.converged.all()
    assert (found.history.diff(dim=0) <= 0).all()
    assert (found.truncated.item() == 0) == reference["metric"]
