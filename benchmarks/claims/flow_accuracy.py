"""Errors of the low-rank gradients of the linear flow over dimension, rank and time, in both forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.flow_peers import Task
from benchmarks.flow_problem import in_double, make_task, ours, relative_error, taylor
from benchmarks.options import Options

TITLE = "Gradient of the linear flow, 32², 3 labels: the convolution form keeps its accuracy for long times"
TIMES = (5, 10, 20, 40)
DIMENSIONS = (3, 5, 8, 10)
FORMS = ("convolution", "paper")
SIDE, LABELS, WINDOW, RHO = 32, 3, 3, 0.2
TRUTH = (
    "autograd through Taylor steps of length 1 and order 18 in float64, products in slices: "
    "no Krylov space takes part in it"
)


def run(options: Options) -> dict[str, Any]:
    """All combinations; the size asked for can only make the picture smaller."""
    side = min(options.side(SIDE), SIDE)
    rows = []
    for time in TIMES:
        task = in_double(make_task((side, side), LABELS, WINDOW, rho=RHO, time=float(time)))
        exact = taylor(task)[1]
        rows += _rows(task, exact, time)
    return {
        "size": [side, side], "labels": LABELS, "window": WINDOW, "rho": RHO, "truth": TRUTH, "rows": rows
    }  # fmt: skip


def _rows(task: Task, exact: torch.Tensor, time: int) -> list[dict[str, Any]]:
    single = Task(task.weights.float(), task.evidence.float(), task.cotangent.float(), task.time, task.steps)
    return [
        {
            "time": time,
            "form": form,
            "dtype": str(given.weights.dtype).removeprefix("torch."),
            "dim": dim,
            # The last rank keeps everything.
            "errors": [
                relative_error(ours(given._replace(steps=dim), form, rank)[1], exact)
                for rank in range(1, dim + 1)
            ],
        }
        for given in (task, single)
        for form in FORMS
        for dim in DIMENSIONS
    ]


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Over m with all factors, in double and single precision; then over the rank."""
    against = f"(truth: {result['truth']})"
    found = []
    for dtype in ("float64", "float32"):
        rows = [row for row in result["rows"] if row["dtype"] == dtype]
        found.append((f"Relative error over m, all factors kept, {dtype} {against}", *_over_dim(rows)))
    rows = [row for row in result["rows"] if row["dtype"] == "float64"]
    found.append(("Relative error over the rank, float64", *_over_rank(rows)))
    return found


def _over_dim(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["T, form", *(f"m = {dim}" for dim in DIMENSIONS)]
    errors = {(row["time"], row["form"], row["dim"]): row["errors"][-1] for row in rows}
    body = [
        [f"{time}, {form}", *(_number(errors[time, form, dim]) for dim in DIMENSIONS)]
        for time in TIMES
        for form in FORMS
    ]
    return header, body


def _over_rank(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["T, form, m", *(f"r = {rank}" for rank in range(1, max(DIMENSIONS) + 1))]
    body = []
    for row in rows:
        cells = [_number(error) for error in row["errors"]]
        blank = ["–"] * (max(DIMENSIONS) - len(cells))
        body.append([f"{row['time']}, {row['form']}, {row['dim']}", *cells, *blank])
    return header, body


def _number(error: float | str) -> str:
    # What is not finite is saved as a word.
    return "not finite" if isinstance(error, str) or error == float("inf") else f"{error:.0e}"
