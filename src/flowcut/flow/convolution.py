r"""The gradient of the linear flow as a convolution: the default, and better conditioned than the paper's.

Y(T) = \int_0^T e^{(T-s) A} b ds, so for g = dL/dY(T)

    dL = \int_0^T <mu(s), dA Y(s) + db> ds,      mu(s) = e^{(T-s) A^T} g,
    M = \int_0^T mu(s) Y(s)^T ds,      m = \int_0^T mu(s) ds.

mu lies in the Krylov space of (A^T, g): mu(s) ~ gamma P e^{(T-s) G} e_1; and Y in the forward one, which is
used again: Y(s) ~ beta Q s phi(s H) e_1. With K = [[H, e_1], [0, 0]], e^{s K} e_{m+1} = (s phi(s H) e_1, 1),
so one small exponential holds everything (block-triangular, Van Loan 1978):

    expm(T [[G, e_1 e_{m+1}^T], [0, K^T]]) = [[., X], [0, .]],
    X = \int_0^T e^{(T-s) G} e_1 (e^{s K} e_{m+1})^T ds,
    M ~ gamma beta P X[:, :m] Q^T,      m ~ gamma P X[:, m].

The paper propagates g to time 0 and back again, e^{-s B}, which multiplies errors by up to e^T; here every
exponential runs forwards. It takes m products beside the m of the solution; the paper's form about 3 m.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.flow.factors import SmallFactors, truncate
from flowcut.flow.krylov import Options, krylov_space, pad
from flowcut.flow.linearization import Linearization
from flowcut.kernels.krylov_reference import Krylov, square


def convolution_factors(
    flow: Linearization, forward: Krylov, grad: Tensor, time: float, options: Options
) -> tuple[Krylov, SmallFactors]:
    """The transposed Krylov space from g, and M and m in it."""
    adjoint = krylov_space(flow, grad, options, time, transpose=True)
    g, h = square(adjoint.hessenberg, adjoint.steps), square(forward.hessenberg, forward.steps)
    x = adjoint.start[:, None, None] * _convolution(g, h, time)
    left, right = truncate(forward.start[:, None, None] * x[:, :, :-1], options.rank)
    return adjoint, SmallFactors(left, right, pad(x[:, :, -1:]))


def _convolution(g: Tensor, h: Tensor, time: float) -> Tensor:
    r"""X = \int_0^T e^{(T-s) G} e_1 (e^{s K} e_{m+1})^T ds, (N, m, m + 1)."""
    items, m = g.shape[:2]
    k = torch.nn.functional.pad(h, (0, 1, 0, 1))
    corner = torch.zeros(m + 1, m + 1, dtype=g.dtype, device=g.device)
    corner[0, m] = 1
    link = torch.zeros(m, m + 1, dtype=g.dtype, device=g.device)
    link[0, m] = 1
    top = torch.cat([g, link.expand(items, -1, -1)], dim=2)
    bottom = torch.cat([g.new_zeros(items, m + 1, m), (k + corner).mT], dim=2)
    return torch.linalg.matrix_exp(time * torch.cat([top, bottom], dim=1))[:, :m, m:]
