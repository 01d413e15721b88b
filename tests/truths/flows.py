"""Assignment flows written down entry by entry, with dense matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from tests.truths.dense import Offsets, grid_ties


def window_offsets(ndim: int, size: int) -> Offsets:
    reach = range(-(size // 2), size // 2 + 1)
    return tuple(itertools.product(reach, repeat=ndim))


def dense_omega(values: Tensor, offsets: Offsets) -> Tensor:
    """(n, n) of one item: entry [i, i + offset k] is values[k, i]; values (K, *spatial)."""
    spatial = tuple(values.shape[1:])
    n = values[0].numel()
    matrix = values.new_zeros(n, n)
    ties = grid_ties(spatial, offsets)
    if not ties:
        return matrix
    entries = torch.stack([values[(k, *pixel)] for k, pixel, _, _ in ties])
    i, j = torch.tensor([tie[2:] for tie in ties]).T
    return matrix.index_put((i, j), entries, accumulate=True)


def literal_similarity(w: Tensor, distances: Tensor, omega: Tensor, rho: float) -> Tensor:
    """S(W) by LAF (2.5b) as it is printed; w, distances (n, J), omega (n, n)."""
    return _similarity(w, distances, omega, rho, lambda i: omega[i].sum())


def extended_similarity(w: Tensor, distances: Tensor, omega: Tensor, rho: float) -> Tensor:
    """The same for rows of omega that sum to one, with the sum written as the number 1.

    Derivatives in directions that leave the simplex depend on how (2.5b) is continued there.
    """
    return _similarity(w, distances, omega, rho, lambda i: 1.0)


def _similarity(w, distances, omega, rho, total):
    lifted = w * torch.exp(-distances / rho)
    likelihood = lifted / lifted.sum(dim=1, keepdim=True)
    rows = []
    for i, p in enumerate(w):
        r = torch.diag(p) - torch.outer(p, p)
        # sum_k omega_ik R_p log(L_k / p)
        tangent = sum(omega[i, k] * (r @ torch.log(likelihood[k])) for k in range(len(w)))
        tangent = tangent - total(i) * (r @ torch.log(p))
        e = p * torch.exp(tangent / p)
        rows.append(e / e.sum())
    return torch.stack(rows)


def replicate(w: Tensor, z: Tensor) -> Tensor:
    """R_W z by matrices; (n, J)."""
    return torch.stack([(torch.diag(p) - torch.outer(p, p)) @ y for p, y in zip(w, z, strict=True)])


def euler(w: Tensor, field: Callable[[Tensor], Tensor], step: float, steps: int) -> Tensor:
    """W <- W e^{h F} / <W, e^{h F}> on the simplex, the geometric Euler method; (n, J)."""
    for _ in range(steps):
        w = w * torch.exp(step * field(w))
        w = w / w.sum(dim=1, keepdim=True)
    return w


def dense_linear_flow(
    distances: Tensor, weights: Tensor, rho: float, time: float, logits: Tensor | None = None
) -> Tensor:
    """The logits that LAF (2.8) moves from W_0 = softmax(logits), by one dense exponential an item.

    dV/dt = R_{W_0}(S(W_0) + dS_{W_0} V) with dS as a Jacobian of (2.5b), written for V on T_0; back to logits
    by V / W_0, centred. Double precision, window of side 3.
    """
    offsets = window_offsets(distances.ndim - 2, round(weights.shape[1] ** (1 / (distances.ndim - 2))))
    start = torch.zeros_like(distances) if logits is None else logits
    return (
        torch.stack(
            [
                _one_linear_flow(d, dense_omega(w, offsets), rho, time, z)
                for d, w, z in zip(distances, weights, start, strict=True)
            ]
        )
        if len(distances)
        else distances.clone() * weights.sum()
    )


def _one_linear_flow(d: Tensor, omega: Tensor, rho: float, time: float, logits: Tensor) -> Tensor:
    labels, n = d.shape[0], omega.shape[0]
    w0 = logits.flatten(1).T.softmax(dim=1)  # (n, J)
    evidence = w0.log() - d.flatten(1).T / rho
    s = (omega @ evidence).softmax(dim=1)
    r_s = torch.diag_embed(s) - s[:, :, None] * s[:, None, :]
    r_w = torch.diag_embed(w0) - w0[:, :, None] * w0[:, None, :]
    # (2.9): V_i' = R_{W_0,i} (S_i + R_{S_i} sum_k omega_ik V_k / W_{0,k}), pixel by pixel as in the paper
    blocks = torch.einsum("ijm,iml,ik,kl->ijkl", r_w, r_s, omega, 1 / w0)
    b = torch.einsum("ijm,im->ij", r_w, s).reshape(-1, 1)
    generator = torch.cat([blocks.reshape(n * labels, n * labels), b], dim=1)
    generator = torch.nn.functional.pad(generator, (0, 0, 0, 1))
    v = torch.linalg.matrix_exp(time * generator)[:-1, -1].reshape(n, labels)
    y = v / w0
    return (y - y.mean(dim=1, keepdim=True)).T.reshape(d.shape)
