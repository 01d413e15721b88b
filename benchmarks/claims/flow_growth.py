"""How time and memory of one gradient of the linear flow grow with pixels and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.claims.growth import slope
from benchmarks.families import num_pixels
from benchmarks.flow_memory import probe
from benchmarks.flow_problem import make_task, ours
from benchmarks.harness import Contender, summary, take_turns
from benchmarks.options import Options
from benchmarks.problem import Outcome

TITLE = "One gradient of the linear flow up to 2048² × 6 and 128³ × 3: exponent at most 1.1"
EXPONENT = 1.1
# Below so many numbers in V, bookkeeping looks like memory that grows.
MEMORY_CLEAR_FROM = 1_000_000
CONTENDER = "flowcut, convolution"
PLANE, PLANE_LABELS, PLANE_WINDOW = (128, 256, 512, 1024, 2048), 6, 5
SPACE, SPACE_LABELS, SPACE_WINDOW = (32, 48, 64, 96, 128), 3, 3
LABELS, LABELS_SIDE = (2, 4, 8, 16, 32), 512

# Shape, labels, window.
Case = tuple[tuple[int, ...], int, int]


def run(options: Options) -> dict[str, Any]:
    """Pixels in the plane and in space, then labels."""
    plane, space = _sides(PLANE, options), _sides(SPACE, options)
    side = min(LABELS_SIDE, options.side(LABELS_SIDE))
    cases: dict[str, list[Case]] = {
        "pixels, 2-D": [((n, n), PLANE_LABELS, PLANE_WINDOW) for n in plane],
        "pixels, 3-D": [((n, n, n), SPACE_LABELS, SPACE_WINDOW) for n in space],
        "labels": [((side, side), labels, PLANE_WINDOW) for labels in LABELS],
    }
    return {"axes": [{"name": name, **_grow(some, options)} for name, some in cases.items()]}


def _sides(sides: Sequence[int], options: Options) -> list[int]:
    # The smallest stays whatever is asked for, so that there always is a row.
    within = [side for side in sides if options.size is None or side <= options.size]
    return within or [min(options.side(sides[0]), sides[0])]


def _grow(cases: Sequence[Case], options: Options) -> dict[str, Any]:
    contenders = [Contender(str(case), "", _runner(*case), {}) for case in cases]
    for contender in contenders:
        contender.run()
    take_turns(contenders, options.effort)
    rows = [
        {
            "shape": list(shape), "labels": labels, "window": window, "seconds": summary(contender.seconds),
            "memory": _memory(shape, labels, window),
        }
        for (shape, labels, window), contender in zip(cases, contenders, strict=True)
    ]  # fmt: skip
    return {"rows": rows, **_judge(rows)}


def _runner(shape: tuple[int, ...], labels: int, window: int) -> Callable[[], Outcome]:
    task = make_task(shape, labels, window)

    def run() -> Outcome:
        value, gradient = ours(task)
        return Outcome(value.numpy(), np.empty(0), gradient.numpy())

    return run


def _memory(shape: tuple[int, ...], labels: int, window: int) -> dict[str, Any] | None:
    if labels * num_pixels(shape) < MEMORY_CLEAR_FROM:
        return None
    return probe(CONTENDER, shape, labels, window)


def _judge(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    clear = [row for row in rows if row["memory"]]
    exponents = {
        "time": slope([_size(row) for row in rows], [row["seconds"]["median"] for row in rows]),
        "memory": slope([_size(row) for row in clear], [row["memory"]["extra_bytes"] for row in clear]),
    }
    known = [value for value in exponents.values() if value is not None]
    return {"exponents": exponents, "holds": all(value <= EXPONENT for value in known) if known else None}


def _size(row: dict[str, Any]) -> int:
    return int(row["labels"]) * num_pixels(tuple(row["shape"]))


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The exponents, then the sizes."""
    holds = {True: "yes", False: "no", None: "–"}
    fits = [
        [
            axis["name"], *(_number(axis["exponents"][key]) for key in ("time", "memory")),
            holds[axis["holds"]],
        ]
        for axis in result["axes"]
    ]  # fmt: skip
    header = ["size", "labels", "window", "ms, median (quartiles)", "ns per pixel and label", "MiB"]
    body = [_line(row) for axis in result["axes"] for row in axis["rows"]]
    return [
        ("Exponents", ["what grows", "time ~ n^", "memory ~ n^", f"≤ {EXPONENT}"], fits),
        ("One gradient with respect to the weights, m = 5, rank 3, single precision", header, body),
    ]


def _line(row: dict[str, Any]) -> list[str]:
    low, middle, high = (1e3 * row["seconds"][key] for key in ("q1", "median", "q3"))
    return [
        "×".join(map(str, row["shape"])),
        str(row["labels"]),
        "×".join([str(row["window"])] * len(row["shape"])),
        f"{middle:.3g} ({low:.3g}–{high:.3g})",
        f"{1e6 * middle / _size(row):.0f}",
        f"{row['memory']['extra_bytes'] / 2**20:.0f}" if row["memory"] else "–",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
