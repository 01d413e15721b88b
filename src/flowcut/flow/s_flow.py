r"""The S-flow dS/dt = R_S(Omega S) (RAF (2), (3)).

In logits v = log S, up to a constant of each pixel, it reads dv/dt = Omega softmax(v) (see
:mod:`flowcut.flow.integrators`). For two labels the difference u of their logits obeys
du/dt = Omega tanh(u / 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_floating
from flowcut.core.results import OnFailure
from flowcut.flow.couplings import Couplings
from flowcut.flow.integrators import GeometricEuler, integrate
from flowcut.flow.start import checked_logits, fit_start, logits_of
from flowcut.flow.steps import Integrated, Integrator
from flowcut.flow.stopping import EntropyBelow, Stop


def s_flow(
    initial: Tensor | None,
    couplings: Couplings,
    time: float | None = None,
    integrator: Integrator | None = None,
    until: Stop | None = None,
    initial_logits: Tensor | None = None,
    on_failure: OnFailure = "warn",
) -> Tensor:
    """Integrate dS/dt = R_S(Omega S) for many samples of Omega at once.

    Differentiable in the start and the couplings, through the steps taken. With symmetric couplings
    >= 0 and a positive diagonal, almost every start converges to vertices of the simplex: one label for
    every pixel (RAF, Theorem 1).

    Parameters
    ----------
    initial
        (M or 1, J, *spatial): S(0) on the simplex, sample axis first; zeros are read as the smallest
        number of the type. None where ``initial_logits`` are given.
    couplings
        :class:`flowcut.DenseCouplings`, :class:`flowcut.WindowCouplings` or
        :class:`flowcut.ConvolutionCouplings`.
    time
        How long, > 0. With ``until`` the latest time.
    integrator
        Default ``GeometricEuler(0.1)``. ``GeometricEuler(0.1, growth=1.1)`` reaches the limit of
        slow pixels in some 90 steps.
    until
        Stop a sample earlier. Default ``EntropyBelow(1e-3)`` if there is no ``time``.
    initial_logits
        (M or 1, J, *spatial), finite: S(0) is their softmax.
    on_failure
        What to do when ``until`` is not met: "warn", "raise" or "ignore".

    Returns
    -------
    Tensor
        (M, J, *spatial) of the type of the start: S.

    Raises
    ------
    TypeError
        An integer tensor was given.
    ValueError
        Shapes do not fit, a value is not finite, the start is off the simplex, or it is given twice
        or not at all.
    NotConvergedError
        With ``on_failure="raise"``.

    Examples
    --------
    Two pixels that attract each other agree on the label that is preferred on the whole:

    >>> from flowcut.flow.couplings import DenseCouplings
    >>> start = torch.tensor([[[0.9, 0.4], [0.1, 0.6]]])
    >>> attract = DenseCouplings(torch.ones(1, 2, 2))
    >>> s_flow(start, attract).round().tolist()
    [[[1.0, 1.0], [0.0, 0.0]]]
    """
    if (initial is None) == (initial_logits is None):
        both = "neither" if initial is None else "both"
        raise ValueError(f"initial: expected assignments or initial_logits, got {both}")
    if initial is not None:
        check_floating("initial", initial)
        _check_rank("initial", initial)
        start, dtype = logits_of(initial, _common_type(initial, couplings)), initial.dtype
    else:
        assert initial_logits is not None
        start, dtype = initial_logits, initial_logits.dtype
    found = integrate_s_flow(start, couplings, time, integrator, until, on_failure)
    return found.logits.softmax(dim=1).to(dtype)


def integrate_s_flow(
    initial_logits: Tensor,
    couplings: Couplings,
    time: float | None = None,
    integrator: Integrator | None = None,
    until: Stop | None = None,
    on_failure: OnFailure = "warn",
) -> Integrated:
    """:func:`s_flow` from logits to logits, with the time and steps it took.

    Parameters
    ----------
    initial_logits, couplings, time, integrator, until, on_failure
        As in :func:`s_flow`.

    Returns
    -------
    Integrated
        In the type of the computation; log S is ``logits.log_softmax(dim=1)``, also where S underflows.

    Raises
    ------
    TypeError, ValueError, NotConvergedError
        As in :func:`s_flow`.

    Examples
    --------
    >>> from flowcut.flow.couplings import DenseCouplings
    >>> couplings = DenseCouplings(torch.eye(3)[None])
    >>> integrate_s_flow(torch.randn(4, 2, 3), couplings, time=1.0).steps
    tensor([10, 10, 10, 10])
    """
    check_floating("initial_logits", initial_logits)
    _check_rank("initial_logits", initial_logits)
    dtype = _common_type(initial_logits, couplings)
    couplings = couplings.prepared(tuple(initial_logits.shape), dtype)
    start = checked_logits(initial_logits, dtype)
    if couplings.items != 1:
        start = fit_start(start, (couplings.items, *start.shape[1:]), "initial")
    if time is None and until is None:
        until = EntropyBelow(1e-3)

    def field(logits: Tensor) -> Tensor:
        return couplings.apply(logits.softmax(dim=1))

    return integrate(field, start, integrator or GeometricEuler(), time, until, on_failure)


class SFlow(nn.Module):
    """:func:`s_flow` from logits to logits, for a fixed time by default.

    Parameters
    ----------
    time, integrator, until, on_failure
        As in :func:`s_flow`. With ``until`` the layer runs eagerly only.

    Examples
    --------
    >>> from flowcut.flow.couplings import DenseCouplings
    >>> SFlow()(torch.randn(4, 2, 3), DenseCouplings(torch.rand(4, 3, 3))).shape
    torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        time: float | None = 1.0,
        integrator: Integrator | None = None,
        until: Stop | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        self.time = time
        self.integrator = GeometricEuler() if integrator is None else integrator
        self.until = until
        self.on_failure = on_failure

    def forward(self, initial_logits: Tensor, couplings: Couplings) -> Tensor:
        """Logits (M, J, *spatial) with zero mean over the labels, whose softmax is S."""
        found = integrate_s_flow(
            initial_logits, couplings, self.time, self.integrator, self.until, self.on_failure
        )
        return found.logits.to(initial_logits.dtype)

    def extra_repr(self) -> str:
        """What the flow depends on."""
        return f"time={self.time}, integrator={self.integrator}, until={self.until}"


def _common_type(start: Tensor, couplings: Couplings) -> torch.dtype:
    """Double if anything is double, single otherwise."""
    return torch.float64 if torch.float64 in (start.dtype, couplings.dtype) else torch.float32


def _check_rank(name: str, start: Tensor) -> None:
    if start.ndim < 3 or start.shape[1] < 1:
        raise ValueError(f"{name}: expected shape (M, J, *spatial) with J >= 1, got {tuple(start.shape)}")
