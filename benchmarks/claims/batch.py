"""A training batch in single precision against the same conjugate gradients in PyTorch slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import torch_slices
from benchmarks.compare import Duel, duel_rows, seconds_rows
from benchmarks.families import make_family
from benchmarks.harness import TOLERANCES, Contender, take_turns
from benchmarks.options import Options
from benchmarks.problem import ACCURACY, Outcome, Problem, errors, is_accurate, solve_truth
from flowcut.cut.soft_cut import soft_cut
from flowcut.linear.cg import CG

TITLE = "32×1×256×256, softplus weights: 8 times faster than the same CG written in PyTorch slices"
TARGET = 8.0
ITEMS = 32
# Small enough for the cache of many processors, large enough that calls do not dominate.
CHUNK = 8
FAMILY = "soft3"
CHECKED = (0, 10, 21, 31)

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Tensors]


def run(options: Options) -> dict[str, Any]:
    """Everyone at one tolerance: the loosest at which all are accurate."""
    side = options.side(256)
    scores, edges = make_family(FAMILY, (side, side), batch=ITEMS)
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(scores.shape, generator=generator)
    batch = (scores, edges, cotangent)
    for rtol in TOLERANCES:
        runs = _runs(rtol)
        found = {name: _errors(batch, run) for name, run in runs.items()}
        if all(is_accurate(error) for error in found.values()):
            break
    else:
        return {"size": list(scores.shape), "refused": "no tolerance makes everyone accurate"}
    contenders = [
        Contender(name, f"rtol={rtol:.0e}", _timed(run, batch), found[name]) for name, run in runs.items()
    ]
    take_turns(contenders, options.effort)
    rows = [contender.row() for contender in contenders]
    families = [
        {"family": f"{FAMILY} / slices, {kind}", "rows": rows, "duel": _duel(kind, rows)}
        for kind in ("whole batch", f"{CHUNK} items at a time")
    ]
    return {"size": list(scores.shape), "rtol": rtol, "families": families}


def _duel(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return Duel("flowcut CG".__eq__, lambda name: kind in name, TARGET).judge(rows)


def _runs(rtol: float) -> dict[str, Run]:
    runs: dict[str, Run] = {"flowcut CG": _ours(rtol)}
    for jacobi in (False, True):
        scaling = "Jacobi" if jacobi else "plain"
        for kind, items in (("whole batch", ITEMS), (f"{CHUNK} items at a time", CHUNK)):
            runs[f"slices, {scaling}, {kind}"] = _slices(rtol, jacobi, items)
    return runs


def _ours(rtol: float) -> Run:
    def run(scores: torch.Tensor, edges: torch.Tensor, cotangent: torch.Tensor) -> Tensors:
        s, w = scores.detach().requires_grad_(), edges.detach().requires_grad_()
        value = soft_cut(s, w, solver=CG(rtol=rtol))
        value.backward(cotangent)
        assert s.grad is not None
        assert w.grad is not None
        return value.detach(), s.grad, w.grad

    return run


def _slices(rtol: float, jacobi: bool, items: int) -> Run:
    def run(scores: torch.Tensor, edges: torch.Tensor, cotangent: torch.Tensor) -> Tensors:
        parts = [
            torch_slices.forward_backward(*part, rtol, jacobi)[:3]
            for part in zip(*(t.split(items) for t in (scores, edges, cotangent)), strict=True)
        ]
        value, grad_scores, grad_edges = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return value, grad_scores, grad_edges

    return run


def _timed(run: Run, batch: Tensors) -> Callable[[], Outcome]:
    def timed() -> Outcome:
        return Outcome(*(tensor.numpy() for tensor in run(*batch)))

    return timed


def _errors(batch: Tensors, run: Run) -> dict[str, float]:
    """Largest errors over some items, each against its own direct solution."""
    values = run(*batch)
    worst: dict[str, float] = {}
    for n in CHECKED:
        scores, edges, cotangent = (tensor[n : n + 1] for tensor in batch)
        truth = _truth(Problem(f"{FAMILY} item {n}", tuple(scores.shape[2:]), scores, edges, cotangent))
        found = errors(Outcome(values[0][n, 0].numpy(), values[1][n, 0].numpy(), values[2][n].numpy()), truth)
        worst = {key: float(np.fmax(worst.get(key, 0.0), error)) for key, error in found.items()}
    return worst


def _truth(problem: Problem) -> Any:
    key = (problem.name, problem.shape)
    if key not in _TRUTHS:
        _TRUTHS[key] = solve_truth(problem)
    return _TRUTHS[key]


_TRUTHS: dict[tuple[str, tuple[int, ...]], Any] = {}


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Against the whole batch at once, and against chunks that fit the cache."""
    if "refused" in result:
        return [(f"{TITLE}: {result['refused']}", [], [])]
    size = "×".join(map(str, result["size"]))
    heading = f"{size}, float32, forward + backward, relative residual {result['rtol']:.0e}"
    once = [{**result["families"][0], "family": FAMILY}]
    return [
        (heading, *duel_rows(result["families"])),
        (f"Seconds, errors at most {ACCURACY:g} (median)", *seconds_rows(once)),
    ]
