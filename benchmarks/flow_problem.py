"""Problems of the linear assignment flow, a truth that no Krylov space takes part in, and the contenders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import flowcut as fc
from benchmarks.flow_peers import BEYOND, EAGER, Task, arnoldi, euler, padded
from flowcut.core.neighborhood import Neighborhood

RANK = 3
# T ||A|| of one Taylor step is at most TAYLOR_STEP / 2, and what the series leaves out 0.5^19 / 19!.
TAYLOR_STEP, TAYLOR_TERMS = 1.0, 18

Gradients = Callable[[Task], tuple[Tensor, Tensor]]


def make_task(
    shape: tuple[int, ...],
    labels: int,
    window: int,
    rho: float = 0.5,
    time: float = 5.0,
    steps: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Noise: distances in [0, 1], weights on the simplex away from its middle, a cotangent N(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    inside = Neighborhood.window(len(shape), window).inside(shape)
    weights = torch.empty(1, len(inside), *shape, dtype=dtype).normal_(generator=generator)
    weights = weights.masked_fill_(~inside, -torch.inf).softmax(dim=1)
    evidence = torch.empty(1, labels, *shape, dtype=dtype).uniform_(-1 / rho, 0, generator=generator)
    cotangent = torch.empty(1, labels, *shape, dtype=dtype).normal_(generator=generator)
    return Task(weights, evidence, cotangent, time, steps)


def in_double(task: Task) -> Task:
    """The same numbers in double precision, the weights once more brought to sum one."""
    weights = task.weights.double()
    return task._replace(
        weights=weights / weights.sum(dim=1, keepdim=True),
        evidence=task.evidence.double(),
        cotangent=task.cotangent.double(),
    )


def ours(task: Task, gradient: str = "convolution", rank: int | None = RANK) -> tuple[Tensor, Tensor]:
    """Y and dL/dOmega by :func:`flowcut.integrate_linear_flow`, rho = 1 as the evidence has it already."""
    weights = task.weights.detach().requires_grad_()
    y = fc.integrate_linear_flow(
        -task.evidence,
        weights,
        1.0,
        task.time,
        task.steps,
        rank=rank,
        gradient=gradient,  # type: ignore[arg-type]
    )
    y.backward(task.cotangent)
    assert weights.grad is not None
    return y.detach(), weights.grad


def taylor(task: Task) -> tuple[Tensor, Tensor]:
    r"""Y and dL/dOmega by autograd through Taylor steps, exact up to rounding in double precision.

    From dY/dt = A Y + b, all derivatives at the start of a step of length h follow:

        Y(t + h) = Y(t) + \sum_{j >= 1} h^j / j! A^{j-1} (b + A Y(t)).

    Rows of Omega sum to one and ||R_S|| <= 1/2 in the maximum norm, so h ||A|| <= h / 2. Nothing is shared
    with the package but the definition: products are in slices, no Krylov space, no low rank.
    """
    weights = task.weights.detach().requires_grad_()
    product = padded(weights)
    s = product(task.evidence).softmax(dim=1)
    y, count = torch.zeros_like(s), max(1, round(task.time / TAYLOR_STEP))
    h = task.time / count

    def apply(x: Tensor) -> Tensor:
        z = product(x)
        return s * (z - (s * z).sum(dim=1, keepdim=True))

    for _ in range(count):
        term = h * (s - 1 / s.shape[1] + apply(y))
        total = term
        for j in range(2, TAYLOR_TERMS + 1):
            term = h / j * apply(term)
            total = total + term
        y = y + total
    y.backward(task.cotangent)
    assert weights.grad is not None
    return y.detach(), weights.grad


def relative_error(found: Tensor, exact: Tensor) -> float:
    """In the Euclidean norm; NaN and infinity count as infinite."""
    error = float((found.double() - exact.double()).norm() / exact.double().norm())
    return error if error < float("inf") else float("inf")


def contenders(compiler: bool) -> dict[str, Gradients]:
    """Everybody who has a gradient to offer, ours first.

    Parameters
    ----------
    compiler
        Whether to ask TorchInductor too, which takes up to half a minute a window.
    """
    found: dict[str, Gradients] = {
        f"flowcut, {name}": partial(ours, gradient=name) for name in ("convolution", "paper")
    }
    found |= {f"Euler, {name}": partial(euler, formulation) for name, formulation in EAGER.items()}
    found |= {
        f"Euler, {name}": partial(euler, formulation)
        for name, formulation in BEYOND.items()
        if compiler or name != "torch.compile"
    }
    found["Euler, flowcut's products"] = partial(ours, gradient="autograd-euler")
    found["Arnoldi, padded"] = partial(arnoldi, padded)
    found["Arnoldi, flowcut's products"] = partial(ours, gradient="autograd-arnoldi")
    return found
