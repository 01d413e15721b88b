"""The default solver, chosen in one place that no solver imports."""

from __future__ import annotations

from flowcut.linear.cg import CG as Auto

__all__ = ["Auto"]
