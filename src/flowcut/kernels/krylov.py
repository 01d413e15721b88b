"""Krylov spaces of A = R_S Omega as one operation: products, orthogonalisation, stopping.

    flow_arnoldi:  A Q_m = Q_{m+1} H from a start vector, or the same for A^T
    flow_combine:  sum_j c_jg basis_j for every column g of coefficients c
    flow_contract: d / d Omega and d / d (Omega evidence) of a loss, from factors

flow_contract takes the factors of M = sum_g alpha_g beta_g^T as columns: alpha = left_basis ``left``,
with one more column for the mean m; beta = right_basis ``right``, A beta = right_basis ``images``. With
a_g = alpha_g - <S, alpha_g> at every pixel (derivation: flowcut/flow/factors.py),

    gamma = sum_g (a_g (A beta_g) - S <1, a_g (A beta_g)>) + R_S m
    gradient_k(i) = sum_g <S a_g(i), beta_g(i + k)> + <gamma(i), evidence(i + k)>

Shapes: weights, gradient (N, K, *spatial); similarity S, start, evidence, gamma (N, J, *spatial); bases
(N, m + 1, J, places) in the layout of :mod:`flowcut.kernels.flat`; left (N, m + 1, G + 1), right and images
(N, m + 1, G) float64; for the rest see :class:`flowcut.kernels.krylov_reference.Krylov`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.kernels.contract_cpu import combine_cpu, contract_cpu
from flowcut.kernels.flat import flat_length, pack_reference, unpack_reference
from flowcut.kernels.krylov_cpu import arnoldi_cpu
from flowcut.kernels.krylov_reference import arnoldi, combine, contract, replicate
from flowcut.kernels.layout import common_type, offsets_from_flat
from flowcut.kernels.operation import fold_batches, operation
from flowcut.kernels.window import window_product, window_product_transpose, window_weight_gradient

Arrays = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _arnoldi_reference(
    weights: Tensor, similarity: Tensor, start: Tensor, offsets: list[int], dim: int, transpose: bool,
    time: float, tolerance: float,
) -> Arrays:  # fmt: skip
    dtype = common_type(weights, similarity, start)
    w, s, v = weights.to(dtype), similarity.to(dtype), start.to(dtype)

    def apply(x: Tensor) -> Tensor:
        if transpose:
            return window_product_transpose(w, replicate(s, x), offsets)
        return replicate(s, window_product(w, x, offsets))

    found = arnoldi(apply, v, dim, time, tolerance)
    packed = pack_reference(found.basis, offsets_from_flat(list(offsets), start.ndim - 2))
    return packed, *found[1:]


def _arnoldi_fake(
    weights: Tensor, similarity: Tensor, start: Tensor, offsets: list[int], dim: int, transpose: bool,
    time: float, tolerance: float,
) -> Arrays:  # fmt: skip
    items, spatial = start.shape[0], tuple(start.shape[2:])
    dtype = common_type(weights, similarity, start)
    table = offsets_from_flat(list(offsets), len(spatial))
    numbers = start.new_empty(items, dtype=torch.float64)
    return (
        start.new_empty((items, dim + 1, start.shape[1], flat_length(spatial, table)), dtype=dtype),
        numbers.new_empty(items, dim + 1),
        numbers.new_empty(items, dim + 1, dim),
        numbers,
        numbers.new_empty(items, dtype=torch.int64),
        torch.empty_like(numbers),
    )


flow_arnoldi = operation("flow_arnoldi", _arnoldi_reference, _arnoldi_fake)
flow_arnoldi.register_kernel("cpu", arnoldi_cpu)
fold_batches(flow_arnoldi, tensors=3)


def _combine_reference(basis: Tensor, coefficients: Tensor, spatial: list[int], offsets: list[int]) -> Tensor:
    table = offsets_from_flat(list(offsets), len(spatial))
    images = unpack_reference(basis, tuple(spatial), table)
    return combine(images, coefficients)


def _combine_fake(basis: Tensor, coefficients: Tensor, spatial: list[int], offsets: list[int]) -> Tensor:
    return basis.new_empty((basis.shape[0], coefficients.shape[2], basis.shape[2], *spatial))


flow_combine = operation("flow_combine", _combine_reference, _combine_fake)
flow_combine.register_kernel("cpu", combine_cpu)
fold_batches(flow_combine, tensors=2)


def _contract_reference(
    similarity: Tensor, evidence: Tensor, left_basis: Tensor, left: Tensor, right_basis: Tensor,
    right: Tensor, images: Tensor, offsets: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    spatial = list(similarity.shape[2:])
    alpha = _combine_reference(left_basis, left, spatial, offsets)
    beta = _combine_reference(right_basis, right, spatial, offsets)
    u = _combine_reference(right_basis, images, spatial, offsets)

    def correlate(x: Tensor, y: Tensor) -> Tensor:
        return window_weight_gradient(x, y, offsets)

    return contract(similarity, evidence, alpha[:, :-1], alpha[:, -1], beta, u, correlate)


def _contract_fake(
    similarity: Tensor, evidence: Tensor, left_basis: Tensor, left: Tensor, right_basis: Tensor,
    right: Tensor, images: Tensor, offsets: list[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    spatial = similarity.shape[2:]
    dtype = common_type(similarity, evidence, left_basis, right_basis)
    gradient = similarity.new_empty(
        (similarity.shape[0], len(offsets) // len(spatial), *spatial), dtype=dtype
    )
    return gradient, similarity.new_empty(similarity.shape, dtype=dtype)


flow_contract = operation("flow_contract", _contract_reference, _contract_fake)
flow_contract.register_kernel("cpu", contract_cpu)
fold_batches(flow_contract, tensors=7)
