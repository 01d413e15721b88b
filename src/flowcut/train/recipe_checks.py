"""Checks that the dataclasses of recipes share; nothing heavy is imported here."""

from __future__ import annotations

import math

__all__ = ["at_least", "in_range", "positive", "share"]


def at_least(name: str, value: int, least: int) -> None:
    """Refuse an integer below `least`, by the name of its key.

    Raises
    ------
    ValueError
        If it is below.
    """
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")


def share(name: str, value: float, *, one_allowed: bool) -> None:
    """Refuse what is no share in (0, 1), or in (0, 1].

    Raises
    ------
    ValueError
        If it is none.
    """
    if not (0.0 < value < 1.0 or (one_allowed and value == 1.0)):
        raise ValueError(f"{name}: expected a number in (0, 1{']' if one_allowed else ')'}, got {value}")


def positive(name: str, value: float) -> None:
    """Refuse what is no finite number > 0.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number > 0, got {value}")


def in_range(name: str, value: float, high: float = math.inf) -> None:
    """Refuse what is no finite number in [0, high].

    Raises
    ------
    ValueError
        If it is none.
    """
    if not (math.isfinite(value) and 0 <= value <= high):
        limit = ">= 0" if math.isinf(high) else f"in [0, {high:g}]"
        raise ValueError(f"{name}: expected a finite number {limit}, got {value}")
