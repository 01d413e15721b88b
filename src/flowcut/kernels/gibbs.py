r"""Gibbs sampling of labelings: many sweeps are one operation.

    gibbs_sweeps(labels, unary, pairs, weights, tables, colours, temperatures, thin, seed, sweep)

draws the label of every node from its law given the others, softmax(-costs / T), one colour after the other.
Nodes of one colour share no tie, so they are drawn at once. The number for node i of chain m in sweep s is
counter_uniforms(seed, LABELS, m, s, i): the state of a run is its labels and the number of its sweeps.

Shapes: labels (M, n) of any integer type; unary (N or 1, n, J); pairs (E, 2) int64; weights (N or 1, E);
tables (N or 1, E or 1, J, J), or (1, 1, 0, 0) for cost 1 where labels differ; colours (n,) int64;
temperatures (D thin,), one a sweep; N = M or 1. Costs and temperatures are float64. The first sweep has
number ``sweep``. Returns (D, M, n) of the type of labels: the state after every ``thin`` sweeps.
"""

from __future__ import annotations

from torch import Tensor

from flowcut.kernels.gibbs_cpu import gibbs_cpu
from flowcut.kernels.gibbs_reference import gibbs_reference
from flowcut.kernels.operation import operation


def _fake(
    labels: Tensor, unary: Tensor, pairs: Tensor, weights: Tensor, tables: Tensor, colours: Tensor,
    temperatures: Tensor, thin: int, seed: int, sweep: int,
) -> Tensor:  # fmt: skip
    return labels.new_empty((temperatures.shape[0] // thin, *labels.shape))


gibbs_sweeps = operation("gibbs_sweeps", gibbs_reference, _fake)
gibbs_sweeps.register_kernel("cpu", gibbs_cpu)
