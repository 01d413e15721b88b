"""Conjugate gradients as one operation: the whole loop, its certificate and its verdict.

    grid_cg(edges, leak, rhs, offsets, rtol, max_steps, check, on_failure)
    graph_cg(edge_index, edges, leak, rhs, rtol, max_steps, check, on_failure)
        -> x, error_bound, residual, steps, result

Each right-hand side (item and channel) stops by itself, when its true residual, evaluated in double
precision, has ||b - A x|| <= rtol ||b||. ``check`` names the argument behind the right-hand
side; all values are then checked and refused with a word. Empty (in backward passes, where
infinities are the gradient scaler's business) lets NaN through as NaN.

Shapes: edges (N, G, K, *spatial), leak (N or 1, 1 or C, *spatial), rhs and x (N, C, *spatial);
error_bound and residual (N, C) float64, steps and result (N, C) int64.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowcut.core.checks import check_edge_values, check_finite, check_leak_values
from flowcut.core.neighborhood import Neighborhood
from flowcut.core.results import Result, report_failure
from flowcut.kernels.cg_reference import jacobi_cg
from flowcut.kernels.graph import graph_product
from flowcut.kernels.graph_cg_cpu import solve_graph
from flowcut.kernels.grid import grid_product
from flowcut.kernels.grid_cpu import rows_view
from flowcut.kernels.grounded import check_grounded, grid_ties
from flowcut.kernels.layout import common_type, offsets_from_flat, rows_and_columns
from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.solve_cpu import BOUND, RESIDUAL, STATUS, STEPS, Plan, solve_image
from flowcut.kernels.threads import run_items, strip_count

Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def check_grid(edges: Tensor, leak: Tensor, rhs: Tensor | None, offsets: list[int], check: str) -> None:
    """Check all values of a system on a grid; ``check`` names the right-hand side, "" skips.

    Without a right-hand side the matrix alone is checked.

    Raises
    ------
    ValueError
        A value is not finite or negative where it may not be, or a piece is without confidence.
    """
    if not check:
        return
    spatial = tuple(leak.shape[2:])
    table = offsets_from_flat(offsets, len(spatial))
    # First: a bad confidence makes the right-hand side bad as well.
    bare = check_leak_values("confidence", leak)
    if rhs is not None:
        check_finite(check, rhs)
    check_edge_values(edges, Neighborhood(table).inside(spatial, edges.device))
    if bare and edges.numel():
        i, j, place = grid_ties(spatial, table)
        check_grounded(i, j, edges.flatten(2).cpu()[..., place], leak.flatten(2).cpu())


def _grid_cg_fake(
    edges: Tensor, leak: Tensor, rhs: Tensor, offsets: list[int], rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    return solved_like(rhs)


def solved_like(rhs: Tensor) -> Solved:
    """Empty tensors of the shapes a solver returns."""
    x = torch.empty_like(rhs, memory_format=torch.contiguous_format)
    real = [rhs.new_empty(rhs.shape[:2], dtype=torch.float64) for _ in range(2)]
    whole = [rhs.new_empty(rhs.shape[:2], dtype=torch.int64) for _ in range(2)]
    return x, real[0], real[1], whole[0], whole[1]


def _grid_cg_reference(
    edges: Tensor, leak: Tensor, rhs: Tensor, offsets: list[int], rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    """Plain-PyTorch ``grid_cg``, all items at once, in double precision."""
    check_grid(edges, leak, rhs, offsets, check)
    w, d = edges.double(), leak.double()
    offsets = list(offsets)
    # The incident ties of a pixel: what the Laplacian adds to the diagonal.
    table = offsets_from_flat(offsets, rhs.ndim - 2)
    diagonal = d + incident(w, table)
    x, *report = jacobi_cg(lambda p: grid_product(w, d, p, offsets), diagonal, d, rhs, rtol, max_steps)
    report[3] = _verdict(report[3], check)
    report_failure(report[3], report[1], on_failure)
    return (x, *report)  # type: ignore[return-value]


def incident(edges: Tensor, offsets: tuple[tuple[int, ...], ...]) -> Tensor:
    """Sum of the ties of each pixel: (N, G, K, *spatial) -> (N, G, *spatial)."""
    total = edges.new_zeros((*edges.shape[:2], *edges.shape[3:]))
    spatial = tuple(edges.shape[3:])
    for k, offset in enumerate(offsets):
        neighborhood = Neighborhood((offset,))
        own = torch.where(neighborhood.inside(spatial, edges.device)[0], edges[:, :, k], 0)
        axes = tuple(range(2, 2 + len(spatial)))
        total = total + own + torch.roll(own, offset, axes)
    return total


def _grid_cg_cpu(
    edges: Tensor, leak: Tensor, rhs: Tensor, offsets: list[int], rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    """``grid_cg`` by Numba: a batch spreads over threads by item, one large image by strips."""
    spatial = tuple(rhs.shape[2:])
    if check and check_leak_values("confidence", leak):
        check_grid(edges, leak, rhs, offsets, check)
    dtype = common_type(edges, leak, rhs)
    x = torch.empty(rhs.shape, dtype=dtype)
    report = np.zeros((*rhs.shape[:2], 4))
    plan = Plan(spatial, offsets_from_flat(offsets, len(spatial)))
    if rhs.numel():
        e, d, b, out = (
            rows_view(t.to(dtype), lead, spatial) for t, lead in ((edges, 3), (leak, 2), (rhs, 2), (x, 2))
        )
        operators = max(e.shape[1], d.shape[1])
        tasks = rhs.shape[0] * operators
        rows, width = rows_and_columns(spatial)
        strips = min(rows, strip_count(rows * width)) if tasks < 2 * torch.get_num_threads() else 1

        def solve(task: int) -> None:
            n, c = divmod(task, operators)
            own = slice(c, c + 1) if operators > 1 else slice(None)
            solve_image(
                e[n, c % e.shape[1]], d[n % d.shape[0], c % d.shape[1]], b[n, own], out[n, own],
                report[n, own], plan, rtol, max_steps, strips,
            )  # fmt: skip

        if strips > 1:
            for task in range(tasks):
                solve(task)
        else:
            run_items(solve, tasks)
    bound, residual, steps, result = _read_report(report)
    if check and bool((result > 1).any()):
        check_grid(edges, leak, rhs, offsets, check)
    result = _verdict(result, check)
    report_failure(result, residual, on_failure)
    value = x.to(rhs.dtype)
    # Half precision is solved in single, and the bound holds for what is returned.
    bound = bound if value.dtype == dtype else bound + cast_change(x, value)
    return value, bound, residual, steps, result


def _read_report(report: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    table = torch.from_numpy(report)
    bound, residual = table[..., BOUND].clone(), table[..., RESIDUAL].clone()
    return bound, residual, table[..., STEPS].long(), table[..., STATUS].long()


def _verdict(result: Tensor, check: str) -> Tensor:
    """Checked values are finite: a solve of them that is not has overflowed, and says so."""
    return result.clamp(max=int(Result.NOT_CONVERGED)) if check else result


def _graph_cg_fake(
    edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    return solved_like(rhs)


def check_graph(edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor | None, check: str) -> None:
    """As :func:`check_grid`, on a graph."""
    if not check:
        return
    bare = check_leak_values("confidence", leak)
    if rhs is not None:
        check_finite(check, rhs)
    check_edge_values(edges, torch.ones(edges.shape[2:], dtype=torch.bool, device=edges.device))
    if bare and edges.shape[0]:
        check_grounded(edge_index[0].cpu(), edge_index[1].cpu(), edges.cpu(), leak.cpu())


def _graph_cg_reference(
    edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    """Plain-PyTorch ``graph_cg``, all items at once, in double precision."""
    check_graph(edge_index, edges, leak, rhs, check)
    w, d = edges.double(), leak.double()
    ends = w.new_zeros((*w.shape[:2], leak.shape[-1]))
    diagonal = d + ends.index_add(-1, edge_index[0], w).index_add(-1, edge_index[1], w)
    x, *report = jacobi_cg(lambda p: graph_product(edge_index, w, d, p), diagonal, d, rhs, rtol, max_steps)
    report[3] = _verdict(report[3], check)
    report_failure(report[3], report[1], on_failure)
    return (x, *report)  # type: ignore[return-value]


def _graph_cg_cpu(
    edge_index: Tensor, edges: Tensor, leak: Tensor, rhs: Tensor, rtol: float, max_steps: int,
    check: str, on_failure: str,
) -> Solved:  # fmt: skip
    """``graph_cg`` by Numba, in double precision, one right-hand side a thread."""
    check_graph(edge_index, edges, leak, rhs, check)
    x = torch.empty(rhs.shape, dtype=torch.float64)
    report = np.zeros((*rhs.shape[:2], 4))
    index, w, d, b = (
        t.detach().contiguous().numpy() for t in (edge_index, edges.double(), leak.double(), rhs.double())
    )
    out, channels = x.numpy(), rhs.shape[1]

    def solve(image: int) -> None:
        n, c = divmod(image, channels)
        own = d[n % d.shape[0], c % d.shape[1]]
        solve_graph(
            index,
            w[n, c % w.shape[1]],
            own,
            b[n, c],
            out[n, c],
            report[n, c],
            np.empty((4, len(own))),
            rtol,
            max_steps,
        )

    if rhs.numel():
        run_items(solve, rhs.shape[0] * channels)
    bound, residual, steps, result = _read_report(report)
    result = _verdict(result, check)
    report_failure(result, residual, on_failure)
    value = x.to(rhs.dtype)
    return value, bound + cast_change(x, value), residual, steps, result


def cast_change(x: Tensor, value: Tensor) -> Tensor:
    """The largest change a cast made, per item and channel: (N, C) float64."""
    change = (x - value.to(x.dtype)).abs().flatten(2)
    return change.amax(dim=2).double() if change.shape[2] else x.new_zeros(x.shape[:2], dtype=torch.float64)


grid_cg = operation("grid_cg", _grid_cg_reference, _grid_cg_fake)
grid_cg.register_kernel("cpu", _grid_cg_cpu)
fold_batches(grid_cg, tensors=3)

graph_cg = operation("graph_cg", _graph_cg_reference, _graph_cg_fake)
graph_cg.register_kernel("cpu", _graph_cg_cpu)
fold_batches(graph_cg, tensors=4, batched=(1, 2, 3))
