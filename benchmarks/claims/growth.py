"""How time and memory grow with the picture, for a fixed number of iterations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.families import num_pixels
from benchmarks.harness import Contender, summary, take_turns
from benchmarks.memory_probe import make_inputs, probe
from benchmarks.options import Options
from benchmarks.problem import Outcome
from flowcut.cut.soft_cut import soft_cut
from flowcut.linear.cg import CG
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve

TITLE = "Growth from 128² to 4096² and 32³ to 160³: exponent at most 1.1, at most 12 arrays of memory"
SIDES = {2: (128, 256, 512, 1024, 2048, 4096), 3: (32, 48, 64, 96, 128, 160)}
STEPS = 20
UNREACHABLE = 1e-30
EXPONENT = 1.1
ARRAYS = 12.0
# Below this many pixels, a few hundred kilobytes of bookkeeping look like whole arrays.
MEMORY_CLEAR_FROM = 500_000


def fixed_steps(
    scores: torch.Tensor, edges: torch.Tensor, cotangent: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Forward and backward with exactly so many iterations each: nothing reaches the tolerance."""
    s, w = scores.detach().requires_grad_(), edges.detach().requires_grad_()
    value = soft_cut(s, w, solver=CG(rtol=UNREACHABLE, max_steps=steps), on_failure="ignore")
    value.backward(cotangent)
    assert s.grad is not None
    assert w.grad is not None
    return value.detach(), s.grad, w.grad


def steps_taken(shape: tuple[int, ...]) -> int:
    """Iterations of the forward solve, as the solver counts them."""
    scores, edges, _ = make_inputs(shape)
    solver = CG(rtol=UNREACHABLE, max_steps=STEPS)
    return int(solve(GridOperator(edges), scores, solver, on_failure="ignore").stats.steps)


def run(options: Options) -> dict[str, Any]:
    """Two and three axes; time in this process, memory in a fresh one for every size."""
    result: dict[str, Any] = {"steps": STEPS, "axes": []}
    for ndim, sides in SIDES.items():
        # The smallest size stays whatever is asked for, so that there always is a row.
        within = [side for side in sides if options.size is None or side <= options.size]
        shapes = [(side,) * ndim for side in within or [min(options.side(sides[0]), sides[0])]]
        contenders = [Contender(str(shape[0]), f"{STEPS} steps", _runner(shape), {}) for shape in shapes]
        for contender in contenders:
            contender.run()
        take_turns(contenders, options.effort)
        memory = [probe(shape, STEPS) for shape in shapes]
        rows = [
            {"shape": list(shape), "seconds": summary(c.seconds), "steps": steps_taken(shape), "memory": m}
            for shape, c, m in zip(shapes, contenders, memory, strict=True)
        ]
        result["axes"].append({"ndim": ndim, "rows": rows, **_judge(rows)})
    return result


def _runner(shape: tuple[int, ...]) -> Callable[[], Outcome]:
    inputs = make_inputs(shape)

    def run() -> Outcome:
        return Outcome(*(tensor.numpy() for tensor in fixed_steps(*inputs, STEPS)))

    return run


def slope(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Exponent of a power law through the points, by least squares of the logarithms."""
    if len(sizes) < 2 or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _judge(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    pixels = [num_pixels(tuple(row["shape"])) for row in rows]
    seconds = [row["seconds"]["median"] for row in rows]
    steps = [slope(pixels[i : i + 2], seconds[i : i + 2]) for i in range(len(rows) - 1)]
    large = [row for row, count in zip(rows, pixels, strict=True) if count >= MEMORY_CLEAR_FROM]
    arrays = [row["memory"]["arrays"] for row in large]
    exponents = {
        "time": slope(pixels, seconds),
        "memory": slope(
            [num_pixels(tuple(row["shape"])) for row in large],
            [row["memory"]["extra_bytes"] for row in large],
        ),
    }
    known = [value for value in exponents.values() if value is not None]
    return {
        "exponents": exponents,
        "time_exponent_between_sizes": steps,
        "most_arrays": max(arrays, default=None),
        "exponent_holds": all(value <= EXPONENT for value in known) if known else None,
        "memory_holds": max(arrays) <= ARRAYS if arrays else None,
    }


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Sizes, then the fitted exponents."""
    header = ["size", "ms, median (quartiles)", "ns per pixel and step", "arrays beyond inputs and outputs"]
    body, fits = [], []
    for axes in result["axes"]:
        for row in axes["rows"]:
            low, middle, high = (1e3 * row["seconds"][key] for key in ("q1", "median", "q3"))
            pixels = num_pixels(tuple(row["shape"]))
            each = 1e6 * middle / (pixels * 2 * result["steps"])
            arrays = f"{row['memory']['arrays']:.1f}" if pixels >= MEMORY_CLEAR_FROM else "–"
            size = "×".join(map(str, row["shape"]))
            body.append([size, f"{middle:.3g} ({low:.3g}–{high:.3g})", f"{each:.2f}", arrays])
        exponents = [_number(axes["exponents"][key]) for key in ("time", "memory")]
        holds = {True: "yes", False: "no", None: "–"}
        verdicts = [holds[axes["exponent_holds"]], holds[axes["memory_holds"]]]
        fits.append([f"{axes['ndim']}-D", *exponents, _number(axes["most_arrays"]), *verdicts])
    fit_header = ["axes", "time ~ n^", "memory ~ n^", "most arrays", f"≤ {EXPONENT}", f"≤ {ARRAYS:g} arrays"]
    return [
        (f"Forward + backward with {result['steps']} iterations each", header, body),
        ("Exponents", fit_header, fits),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
