"""RAF's embedding theorem, lemmas and dualities, entry by entry over all labelings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.couplings import ConvolutionCouplings, DenseCouplings
from flowcut.flow.integrators import GeometricEuler, integrate
from flowcut.flow.s_flow import s_flow
from flowcut.flow.simplex import entropy, lifting_map, project_tangent, replicator
from flowcut.flow.stopping import IntegralWithin
from flowcut.joint.embedding import (
    all_labelings,
    dual_value,
    embed,
    embed_tangent,
    embedded_field,
    energy_vector,
    marginalize,
)
from flowcut.joint.energy import PottsEnergy

SHAPES = [(2, 4), (3, 3), (3, 2, 2), (4, 1), (2, 1, 2, 2)]
Omega = Callable[[Tensor], Tensor]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _points(m: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return _draw(m, *shape, seed=seed).softmax(dim=1)


def _is_product(law: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(M,) bool: the product of the marginals is the law itself."""
    return (embed(marginalize(law, shape)) - law).abs().amax(dim=1) < 1e-12


def _matrix(shape: tuple[int, ...]) -> Tensor:
    """Q as a matrix (N, J n), labels first as in our tensors."""
    count = math.prod(shape)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
    return embed_tangent(basis).mT


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_maps_entry_by_entry(shape: tuple[int, ...]) -> None:
    """RAF (4a), (4b), and the sums over labelings that give marginals."""
    s, v = _points(2, shape), _draw(2, *shape, seed=1)
    every = list(itertools.product(range(shape[0]), repeat=math.prod(shape[1:])))
    assert all_labelings(shape).flatten(1).tolist() == [list(alpha) for alpha in every]
    law, lifted = embed(s), embed_tangent(v)
    sums = torch.zeros(2, shape[0], len(every[0]), dtype=torch.float64)
    for m in range(2):
        rows, tangents = s[m].flatten(1), v[m].flatten(1)
        for index, alpha in enumerate(every):
            torch.testing.assert_close(law[m, index], math.prod(rows[a, i] for i, a in enumerate(alpha)))
            torch.testing.assert_close(lifted[m, index], sum(tangents[a, i] for i, a in enumerate(alpha)))
            for i, a in enumerate(alpha):
                sums[m, a, i] += lifted[m, index]
    torch.testing.assert_close(marginalize(lifted, shape).flatten(2), sums)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_marginalization_is_the_adjoint_and_the_inverse(shape: tuple[int, ...]) -> None:
    s, v = _points(3, shape), _draw(3, *shape, seed=1)
    p = _draw(3, len(all_labelings(shape)), seed=2)
    torch.testing.assert_close(
        (embed_tangent(v) * p).sum(dim=1), (v * marginalize(p, shape)).flatten(1).sum(dim=1)
    )
    torch.testing.assert_close(marginalize(embed(s), shape), s)
    torch.testing.assert_close(embed(s).sum(dim=1), torch.ones(3, dtype=torch.float64))
    if shape[0] > 1:  # tangent vectors stay tangent
        total = embed_tangent(project_tangent(v)).sum(dim=1)
        torch.testing.assert_close(total, torch.zeros_like(total))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lemma_1(shape: tuple[int, ...]) -> None:
    """T(exp_S(V)) = exp_T(S)(QV) (RAF (8)), and (9) at the barycenter."""
    s, v = _points(3, shape), 3 * _draw(3, *shape, seed=1)
    torch.testing.assert_close(embed(lifting_map(s, v)), lifting_map(embed(s), embed_tangent(v)))
    torch.testing.assert_close(embed(v.softmax(dim=1)), embed_tangent(v).softmax(dim=1))


def test_vertices_are_labelings() -> None:
    every = all_labelings((3, 3))
    vertices = torch.nn.functional.one_hot(every, 3).mT.double()
    assert torch.equal(embed(vertices), torch.eye(27, dtype=torch.float64))


def test_lemma_2_products_are_not_convex() -> None:
    """Half of each of two labelings is a product only where these differ at one pixel at most."""
    shape = (3, 3)
    every, corners = all_labelings(shape), torch.eye(27, dtype=torch.float64)
    for a, b in itertools.combinations(range(27), 2):
        half = (corners[a] + corners[b])[None] / 2
        assert bool(_is_product(half, shape)) == (int((every[a] != every[b]).sum()) == 1)
    p, q = embed(_points(2, shape))[:, None]
    for share in (0.25, 0.5, 0.75):
        assert not _is_product(share * p + (1 - share) * q, shape)


def test_lemma_2_products_are_flat_in_logarithms() -> None:
    shape = (3, 3)
    p, q = embed(_points(2, shape))[:, None]
    for share in (-1.0, 0.25, 0.75, 2.0):
        assert _is_product((share * p.log() + (1 - share) * q.log()).softmax(dim=1), shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lemma_2_dimension(shape: tuple[int, ...]) -> None:
    """n (J - 1), of img Q on tangent vectors and of img T at any point."""
    count = math.prod(shape)
    dimension = math.prod(shape[1:]) * (shape[0] - 1)
    tangents = project_tangent(torch.eye(count, dtype=torch.float64).reshape(count, *shape))
    assert int(torch.linalg.matrix_rank(embed_tangent(tangents))) == dimension
    jacobian = torch.func.jacrev(lambda v: embed(v.softmax(dim=1))[0])(_draw(1, *shape))
    assert int(torch.linalg.matrix_rank(jacobian.flatten(1))) == dimension


def _omegas(shape: tuple[int, ...]) -> dict[str, Omega]:
    """Linear operators on assignments (M, J, n), none of them symmetric."""
    labels, pixels = shape
    matrix = _draw(pixels, pixels, seed=3)
    dense = _draw(pixels * labels, pixels * labels, seed=4)
    kernel = _draw(labels, labels, 3, seed=5)

    def full(s: Tensor) -> Tensor:  # RAF (3): labels and pixels, on row-stacked S
        rows = s.mT.flatten(1) @ dense.mT
        return rows.reshape(len(s), pixels, labels).mT

    return {
        "pixels": DenseCouplings(matrix[None]).apply,
        "labels too": full,
        "convolution": ConvolutionCouplings(kernel).prepared((1, *shape), torch.float64).apply,
    }


@pytest.mark.parametrize("name", ["pixels", "labels too", "convolution"])
@pytest.mark.parametrize("shape", [(2, 4), (3, 3)], ids=str)
def test_embedding_theorem_along_a_flow(shape: tuple[int, int], name: str) -> None:
    """d/dt T(S(t)) = R_p[Q Omega Q^T p] (RAF (5)): the left side by the chain rule, by torch."""
    omega = _omegas(shape)[name]

    def field(v: Tensor) -> Tensor:
        return omega(v.softmax(dim=1))

    logits = _draw(2, *shape)
    for _ in range(6):
        slope = field(logits)
        p, left = torch.autograd.functional.jvp(lambda v: embed(v.softmax(dim=1)), logits, slope)
        torch.testing.assert_close(left, embedded_field(p, omega, shape), rtol=0, atol=1e-13)
        assert left.abs().max() > 1e-6
        logits = integrate(field, logits, GeometricEuler(0.1), time=0.3).logits


@pytest.mark.parametrize("name", ["pixels", "labels too", "convolution"])
def test_embedding_theorem_integrated_in_both_spaces(name: str) -> None:
    """SciPy solves (5) over all labelings; our S-flow, embedded, arrives at the same law."""
    shape, time = (3, 3), 0.8
    omega = _omegas(shape)[name]
    logits = _draw(1, *shape)
    small = integrate(lambda v: omega(v.softmax(dim=1)), logits, AdaptiveRKMK(1e-12, 1e-12, 5), time).logits

    def right_hand_side(_: float, p):
        return embedded_field(torch.from_numpy(p)[None], omega, shape)[0].numpy()

    start = embed(logits.softmax(dim=1))[0].numpy()
    large = solve_ivp(right_hand_side, (0, time), start, method="DOP853", rtol=1e-12, atol=1e-14)
    truth = torch.from_numpy(large.y[:, -1])[None]
    torch.testing.assert_close(embed(small.softmax(dim=1)), truth, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (4, 2)], ids=str)
def test_the_pseudo_inverse_is_another_flow(shape: tuple[int, int]) -> None:
    """Read literally, Q^+ in (5) slows the flow by J^(n-1) if labels do not interact, else changes it."""
    labels, pixels = shape
    p = embed(_points(1, shape))
    inverse = torch.linalg.pinv(_matrix(shape))
    s = (inverse @ p[0]).reshape(1, *shape)
    shifted = labels ** (1 - pixels) * (marginalize(p, shape) - (1 - 1 / pixels) / labels)
    torch.testing.assert_close(s, shifted)
    literal = {name: replicator(p, embed_tangent(omega(s))) for name, omega in _omegas(shape).items()}
    right = {name: embedded_field(p, omega, shape) for name, omega in _omegas(shape).items()}
    slower = float(labels) ** (pixels - 1)
    torch.testing.assert_close(slower * literal["pixels"], right["pixels"])
    for name in ("labels too", "convolution"):
        a, b = literal[name].flatten(), right[name].flatten()
        cosine = float(a @ b / (a.norm() * b.norm()))
        assert cosine < 0.999  # no factor makes them equal
        assert (slower * a - b).norm() > 0.05 * b.norm()


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_theorem_1_limits_are_integral(labels: int, correlated: bool) -> None:
    """Omega = max(Z + Z^T, 0) + epsilon I, Z normal, n = 5."""
    m, n, epsilon = 200, 5, 1e-3
    z = _draw(m, n * n, seed=labels)
    if correlated:
        z = 0.2 + 0.3 * z @ _draw(n * n, n * n, seed=9) / n
    z = z.reshape(m, n, n)
    omega = (z + z.mT).clamp_min(0) + epsilon * torch.eye(n, dtype=torch.float64)
    growing = GeometricEuler(0.1, growth=1.1, max_steps=400)
    s = s_flow(_points(m, (labels, n)), DenseCouplings(omega), None, growing, IntegralWithin(1e-6))
    law = embed(s)
    assert (law.amax(dim=1) >= 1 - 1e-5).all()  # a unit vector of the large simplex
    reached = all_labelings((labels, n))[law.argmax(dim=1)]
    assert torch.equal(reached, s.argmax(dim=1))
    assert len(reached.unique(dim=0)) > 10
    # Their mean, P of (7), is no product though every draw is one.
    assert not _is_product(law.mean(dim=0, keepdim=True), (labels, n))


def test_moments_of_a_mixture() -> None:
    """RAF (24), (25) and (17): what is linear in P needs only S."""
    shape = (3, 2, 2)
    s, phi = _points(50, shape), _draw(1, *shape, seed=1)
    p = embed(s).mean(dim=0)
    torch.testing.assert_close(marginalize(p[None], shape)[0], s.mean(dim=0))
    torch.testing.assert_close(p @ embed_tangent(phi)[0], (s * phi).flatten(1).sum(dim=1).mean())
    energy = _energy((2, 2), Neighborhood.edges(2, 2), "own")
    torch.testing.assert_close(p @ energy_vector(energy), energy.mean_field_energy(s).mean())


def test_entropy_of_a_product() -> None:
    """RAF (16): -H(T(M)) = <T(M), Q log M> = <M, log M>."""
    s = _points(4, (3, 2, 2))
    direct = -entropy(embed(s))
    torch.testing.assert_close(direct, (embed(s) * embed_tangent(s.log())).sum(dim=1))
    torch.testing.assert_close(direct, (s * s.log()).flatten(1).sum(dim=1))


def _energy(spatial: tuple[int, ...], where: Neighborhood | Graph, tables: str, j: int = 3) -> PottsEnergy:
    ties = (len(where),) if isinstance(where, Graph) else (len(where), *spatial)
    each = (j, j, *ties) if isinstance(where, Graph) else (ties[0], j, j, *ties[1:])
    table = {"none": None, "shared": _draw(j, j, seed=2), "own": _draw(1, *each, seed=2)}[tables]
    return PottsEnergy(_draw(1, j, *spatial), _draw(1, *ties, seed=1), table, where, constant=0.4)


@pytest.mark.parametrize("tables", ["none", "shared", "own"])
@pytest.mark.parametrize(
    ("spatial", "where"),
    [
        ((2, 3), Neighborhood.edges(2, 2)),
        ((4,), Neighborhood(((1,), (-2,)))),
        ((4,), Graph(torch.tensor([[0, 3, 1, 0], [1, 1, 2, 1]]), 4)),
    ],
    ids=["grid", "own", "graph"],
)
def test_energy_vector(spatial: tuple[int, ...], where: Neighborhood | Graph, tables: str) -> None:
    """RAF (13) against (11), labeling by labeling."""
    energy = _energy(spatial, where, tables)
    torch.testing.assert_close(energy_vector(energy), energy.energy(all_labelings(energy.shape)))


def test_duality() -> None:
    """RAF (15): the supremum is the left side, attained at the Gibbs law only."""
    energies = energy_vector(_energy((2, 2), Neighborhood.edges(2), "own"))
    supremum = (-energies).exp().mean().log()
    best = (-energies).softmax(dim=0)
    torch.testing.assert_close(dual_value(best[None], energies)[0], supremum)
    others = torch.cat([(3 * _draw(20, len(energies))).softmax(dim=1), torch.eye(len(energies)).double()])
    values = dual_value(others, energies)
    gap = torch.special.xlogy(others, others / best).sum(dim=1)
    torch.testing.assert_close(values, supremum - gap)
    assert (values < supremum).all()
    logits = (-energies).clone().requires_grad_()
    (slope,) = torch.autograd.grad(dual_value(logits.softmax(dim=0)[None], energies).sum(), logits)
    torch.testing.assert_close(slope, torch.zeros_like(slope))
    # (14b) with its sign put right: KL(P || P*) = -H(P) + <P, E> + log Z
    relative = -entropy(others) + others @ energies + (-energies).logsumexp(dim=0)
    torch.testing.assert_close(relative, gap)


def test_gradients() -> None:
    s = _points(2, (3, 2, 2)).requires_grad_()
    p = _draw(2, 81, seed=1).softmax(dim=1).requires_grad_()
    assert torch.autograd.gradcheck(embed, s)
    assert torch.autograd.gradcheck(embed_tangent, s)
    assert torch.autograd.gradcheck(lambda x: marginalize(x, (3, 2, 2)), p)
    assert torch.autograd.gradcheck(lambda x: embedded_field(x, torch.sin, (3, 2, 2)), p)
    unary = _draw(1, 3, 2).requires_grad_()
    weights = _draw(1, 1, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, w: energy_vector(PottsEnergy(u, w)), (unary, weights))


def test_one_label_no_pixel_no_item() -> None:
    assert embed(torch.ones(2, 1, 4)).tolist() == [[1.0], [1.0]]
    assert all_labelings((1, 40)).shape == (1, 40)
    assert embed(torch.ones(2, 3, 0)).tolist() == [[1.0], [1.0]]
    assert marginalize(torch.ones(2, 1), (3, 0)).shape == (2, 3, 0)
    assert embed(torch.ones(0, 2, 3)).shape == embed_tangent(torch.ones(0, 2, 3)).shape == (0, 8)
    assert marginalize(torch.ones(0, 8), (2, 3)).shape == (0, 2, 3)
    assert embed(torch.full((1, 2, 16), 0.5)).shape == (1, 1 << 16)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: all_labelings((2, 17)),
            ValueError,
            r"at most 65536 labelings, got 2\^17; take fewer pixels",
        ),
        (lambda: embed(torch.ones(1, 3, 11)), ValueError, r"got 3\^11"),
        (lambda: embed_tangent(torch.ones(1, 2, 1000, 1000)), ValueError, r"got 2\^1000000"),
        (lambda: embed(torch.ones(1, 2, 3).long()), TypeError, "assignments: .*int64"),
        (lambda: embed(torch.ones(2, 3)), ValueError, r"assignments: expected shape \(M, J, \*spatial\)"),
        (lambda: embed_tangent(torch.ones(1, 0, 3)), ValueError, "vectors: expected shape"),
        (
            lambda: marginalize(torch.ones(1, 7), (2, 3)),
            ValueError,
            r"law: expected shape \(M, 8\), got \(1, 7\)",
        ),
        (lambda: marginalize(torch.ones(8), (2, 3)), ValueError, r"law: expected shape \(M, 8\), got \(8,\)"),
        (lambda: marginalize(torch.ones(1, 8).long(), (2, 3)), TypeError, "law: .*int64"),
        (lambda: embedded_field(torch.ones(1, 7), torch.sin, (2, 3)), ValueError, "law: expected shape"),
        (lambda: energy_vector(torch.ones(1)), TypeError, "energy: expected a PottsEnergy, got Tensor"),
        (
            lambda: energy_vector(PottsEnergy(torch.zeros(2, 2, 3), torch.ones(1, 1, 3))),
            ValueError,
            "energy: expected one energy, got 2",
        ),
        (
            lambda: energy_vector(PottsEnergy(torch.zeros(1, 2, 17), torch.ones(1, 1, 17))),
            ValueError,
            "at most 65536 labelings",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
