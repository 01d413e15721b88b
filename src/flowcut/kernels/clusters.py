r"""Cluster samplers of Potts models with ties w >= 0: many sweeps are one operation.

Draw a bond on every tie between equal labels with probability 1 - exp(-w). Given the bonds, the labels of
different clusters (connected by bonds) are independent and each has the law softmax(-sum of its unary costs)
(Swendsen, Wang 1987; Edwards, Sokal 1988).

    swendsen_wang_sweeps(labels, unary, pairs, weights, draws, thin, seed, sweep)

draws them all anew in every sweep, and

    wolff_steps(labels, unary, pairs, weights, draws, thin, seed, sweep)

takes the cluster of one random node a step, proposes one of the other labels and accepts it with probability
min(1, exp(-change of the unary costs)); without a field always (Wolff 1989). That is reversible: a cluster C
of equal labels grows with a probability that depends on its label only by the ties to equal labels around it,
none of which may have bound, prod exp(-w), and this factor is what the ties contribute to p, turned round.

Shapes: labels (M, n) of any integer type; unary (N or 1, n, J) and weights (N or 1, E), float64; pairs (E, 2)
int64; N = M or 1. Bond e of chain m in sweep s belongs to counter_uniforms(seed, BONDS, m, s, e), the label
of a cluster to (LABELS, m, s, its smallest node); a step of Wolff's takes the three numbers (SITES, m, s, 0)
to (SITES, m, s, 2). The first sweep has number ``sweep``. Returns (draws, M, n) of the type of labels: the
state after every ``thin`` sweeps or steps.
"""

from __future__ import annotations

from torch import Tensor

from flowcut.kernels.clusters_cpu import swendsen_wang_cpu, wolff_cpu
from flowcut.kernels.clusters_reference import swendsen_wang_reference, wolff_reference
from flowcut.kernels.operation import operation


def _fake(
    labels: Tensor,
    unary: Tensor,
    pairs: Tensor,
    weights: Tensor,
    draws: int,
    thin: int,
    seed: int,
    sweep: int,
) -> Tensor:
    return labels.new_empty((draws, *labels.shape))


swendsen_wang_sweeps = operation("swendsen_wang_sweeps", swendsen_wang_reference, _fake)
swendsen_wang_sweeps.register_kernel("cpu", swendsen_wang_cpu)

wolff_steps = operation("wolff_steps", wolff_reference, _fake)
wolff_steps.register_kernel("cpu", wolff_cpu)
