"""What an entry of the zoo says about a solver or a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flowcut.joint.chains import Chains
from flowcut.linear.solver import Solver

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class SolverEntry:
    """A solver at a setting that is accurate to ``tolerance`` in double precision."""

    name: str
    solver: Solver
    tolerance: float = 1e-10
    graphs: bool = True
    # Solvers whose failure can be provoked by asking for too few steps.
    hasty: Solver | None = None


@dataclass(frozen=True)
class Layer:
    """A differentiable function of tensors.

    Attributes
    ----------
    call
        The functional form.
    module
        The same as a module without parameters.
    make
        ``make(items, spatial, dtype)``: valid inputs; item axis first in every tensor.
    twin
        The same mathematics by dense linear algebra or plain formulas, in double precision.
    spatial
        Pictures to try, the first one for derivatives.
    item_axis
        False where the output is no longer one entry an item (a loss averaged over the batch).
    singular
        Inputs that must be refused, with what the error has to say.
    """

    name: str
    call: Callable[..., Tensor]
    module: Callable[[], nn.Module]
    make: Callable[[int, tuple[int, ...], torch.dtype], Inputs]
    twin: Callable[..., Tensor]
    spatial: tuple[tuple[int, ...], ...]
    item_axis: bool = True
    tolerance: dict[torch.dtype, float] = field(
        default_factory=lambda: {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 5e-2}
    )
    singular: tuple[tuple[Callable[[], Inputs], str], ...] = ()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler of labelings.

    Attributes
    ----------
    call
        ``call(energy, chains, draws, thin, burn_in, initial, seed)``.
    thin
        Sweeps after which draws of a small, weakly tied model hardly depend on each other.
    attractive
        True where it takes ties >= 0 without tables only.
    """

    name: str
    call: Callable[..., Chains]
    thin: int
    attractive: bool = False

    def __str__(self) -> str:
        return self.name


def generator(*seed: Any) -> torch.Generator:
    """A random stream that depends on the arguments alone."""
    return torch.Generator().manual_seed(abs(hash(tuple(seed))) % 2**31)
