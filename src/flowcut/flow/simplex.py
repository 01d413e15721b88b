r"""The geometry of the probability simplex with the Fisher-Rao metric (LAF (2.1)-(2.4), RAF (1)).

Everything acts on the label axis, ``dim=1`` of (N, J, *spatial). Points p, q are assignments; u, v are
tangent vectors, which sum to zero over the labels; z is any vector. The boundary is safe: entries below
the smallest normal number of the type count as zero, and no function gives NaN there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def barycenter(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """The assignment that prefers no label, 1 / J everywhere (LAF (2.3)).

    Parameters
    ----------
    shape
        (N, J, *spatial).
    dtype, device
        Of the result.

    Examples
    --------
    >>> barycenter((1, 4, 2)).unique().tolist()
    [0.25]
    """
    return torch.full(shape, 1 / shape[1], dtype=dtype, device=device)


def barycenter_like(p: Tensor) -> Tensor:
    """The :func:`barycenter` with the shape, type and device of ``p``."""
    return barycenter(tuple(p.shape), p.dtype, p.device)


def project_tangent(z: Tensor) -> Tensor:
    """The part of z that sums to zero over the labels: z - mean(z).

    Examples
    --------
    >>> project_tangent(torch.tensor([[1.0, 2.0, 6.0]])).tolist()
    [[-2.0, -1.0, 3.0]]
    """
    return z - z.mean(dim=1, keepdim=True)


def replicator(p: Tensor, z: Tensor) -> Tensor:
    """R_p z = (Diag(p) - p p^T) z, the differential of the softmax (LAF (2.4a)).

    Parameters
    ----------
    p
        (N, J, *spatial) on the simplex.
    z
        Any vector of that shape.

    Returns
    -------
    Tensor
        A tangent vector.

    Examples
    --------
    >>> replicator(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])).tolist()
    [[0.25, -0.25]]
    """
    return p * (z - (p * z).sum(dim=1, keepdim=True))


def lifting_map(p: Tensor, z: Tensor) -> Tensor:
    r"""exp_p(z) = p e^z / <p, e^z> = Exp_p(R_p z) = softmax(z + log p) (RAF, section 2.1).

    The last form fails for derivatives where p = 0. So the first is evaluated, shifted by
    M = max_j (z_j + log p_j) over the labels with p_j > 0: p e^{z - M} lies in [0, 1] and is 1
    somewhere, hence nothing overflows and the sum is not zero. M cancels, also in derivatives.

    Parameters
    ----------
    p
        (N, J, *spatial) on the simplex; zeros stay zero.
    z
        Any finite vector of that shape; constants per pixel do not matter.

    Examples
    --------
    >>> lifting_map(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1e4]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    info = torch.finfo(p.dtype)
    with torch.no_grad():
        support = torch.where(p >= info.tiny, p.clamp_min(info.tiny).log() + z, -torch.inf)
        shift = support.amax(dim=1, keepdim=True)
    # Where p = 0 the exponent is not bounded by the shift. One below the largest float's logarithm.
    ceiling = torch.log(torch.tensor(info.max, dtype=torch.float64)).item() - 1
    lifted = p * (z - shift).clamp_max(ceiling).exp()
    return lifted / lifted.sum(dim=1, keepdim=True)


def exp_map(p: Tensor, v: Tensor) -> Tensor:
    r"""Exp_p(v) = p e^{v / p} / <p, e^{v / p}> (LAF (2.4b)).

    On a face of the simplex (p_j = 0) tangent vectors have v_j = 0, and v_j / p_j is read as 0.

    Parameters
    ----------
    p
        (N, J, *spatial) on the simplex.
    v
        Tangent vector of that shape.

    Examples
    --------
    >>> exp_map(torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2)).tolist()
    [[0.5, 0.5]]
    """
    info = torch.finfo(p.dtype)
    inside = p >= info.tiny
    with torch.no_grad():
        # d(v/p)/dp = -v/p^2 overflows before v/p does. There the softmax is saturated and its zero
        # derivative must not meet that infinity.
        steep = inside & ~torch.isfinite(v / p / p)
    divisor = torch.where(inside, torch.where(steep, p.detach(), p), 1)
    ratio = torch.where(inside, v / divisor, 0).clamp(-info.max / 4, info.max / 4)
    return lifting_map(p, ratio)


def inverse_exp(p: Tensor, q: Tensor) -> Tensor:
    r"""Exp_p^{-1}(q) = R_p log(q / p) (LAF (2.4c)).

    p_j log p_j vanishes with p_j; a q_j = 0, which is infinitely far from the interior in this chart,
    is read as the smallest normal number of the type.

    Parameters
    ----------
    p, q
        (N, J, *spatial) on the simplex.

    Returns
    -------
    Tensor
        Tangent vector.

    Examples
    --------
    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.2, 0.8]])
    >>> exp_map(p, inverse_exp(p, q)).round(decimals=6).tolist()[0] == q.tolist()[0]
    True
    """
    tiny = torch.finfo(p.dtype).tiny
    return replicator(p, q.clamp_min(tiny).log() - p.clamp_min(tiny).log())


def fisher_rao_metric(p: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """<u / p, v>: the inner product of tangent vectors at p (RAF (1)).

    Returns
    -------
    Tensor
        (N, *spatial). Labels with p_j = 0 add nothing if u_j v_j = 0 and infinity otherwise.

    Examples
    --------
    >>> u = torch.tensor([[0.1, -0.1]])
    >>> fisher_rao_metric(torch.tensor([[0.5, 0.5]]), u, u).item()
    0.04...
    """
    inside = p > 0
    outside = torch.where(u * v == 0, 0.0, torch.inf).to(p.dtype)
    return torch.where(inside, u / torch.where(inside, p, 1) * v, outside).sum(dim=1)


def fisher_rao_distance(p: Tensor, q: Tensor) -> Tensor:
    r"""Length of the shortest path between p and q, at most pi.

    p -> 2 sqrt(p) maps the simplex isometrically into the sphere of radius 2, so the distance is
    2 arccos <sqrt p, sqrt q> = 4 arcsin(|sqrt p - sqrt q| / 2). The second form keeps its digits where
    p is close to q, and so does sqrt p - sqrt q = (p - q) / (sqrt p + sqrt q).

    Parameters
    ----------
    p, q
        (N, J, *spatial) on the simplex.

    Returns
    -------
    Tensor
        (N, *spatial). Where p = q the derivative is 0. A label with p_j = 0 or q_j = 0 adds p_j + q_j
        to |sqrt p - sqrt q|^2 and is differentiated as that: the other part has no finite slope.

    Examples
    --------
    >>> fisher_rao_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item()
    3.14159...
    """
    both = (p > 0) & (q > 0)
    roots = torch.where(both, p, 1).sqrt() + torch.where(both, q, 1).sqrt()
    square = torch.where(both, ((p - q) / roots).square(), p + q).sum(dim=1)
    apart = square > 0
    chord = torch.where(apart, square, 1).sqrt()
    return torch.where(apart, 4 * torch.asin(chord / 2), 0)


def entropy(p: Tensor) -> Tensor:
    """-sum_j p_j log p_j with 0 log 0 = 0, (N, *spatial), in nats.

    The derivative, -1 - log p_j, is cut off where p_j reaches the smallest normal number.

    Examples
    --------
    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [-0.0, 0.693...]
    """
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(dim=1)
