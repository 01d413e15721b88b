"""Explicit Runge-Kutta schemes as tables of numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """Coefficients of dv/dt = F(v): k_s = F(v + h sum_r a_sr k_r), v <- v + h sum_s b_s k_s.

    The nodes c_s = sum_r a_sr are left out: F does not depend on time.

    Attributes
    ----------
    order
        Of the result.
    stages
        Row s holds a_s1 ... a_s,s-1.
    weights
        b.
    embedded
        Weights of a second result of order ``order`` - 1, to estimate the error with; () without.

    Examples
    --------
    >>> len(HEUN.stages), sum(HEUN.weights)
    (2, 1.0)
    """

    order: int
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    embedded: tuple[float, ...] = ()


EULER = Tableau(1, ((),), (1.0,))
HEUN = Tableau(2, ((), (1.0,)), (1 / 2, 1 / 2))
KUTTA = Tableau(3, ((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6))
CLASSICAL = Tableau(4, ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))

BOGACKI_SHAMPINE = Tableau(
    3,
    ((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0.0),
    (7 / 24, 1 / 4, 1 / 3, 1 / 8),
)
DORMAND_PRINCE = Tableau(
    5,
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
)
