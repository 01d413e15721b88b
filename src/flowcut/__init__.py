"""Labeling layers for PyTorch: noisy per-pixel evidence in, coherent labelings out."""

import importlib
from types import ModuleType

from flowcut.core.edges import axes_from_edges, edges_from_axes
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError, Result, Solution
from flowcut.core.warnings import FlowcutWarning
from flowcut.cut.random_walker import random_walker
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve
from flowcut.linear.thesis_cg import ThesisCG

__version__ = "0.1.0"

__all__ = [
    "CG",
    "Auto",
    "Cholesky",
    "FlowcutWarning",
    "Graph",
    "GridOperator",
    "Neighborhood",
    "NotConvergedError",
    "Result",
    "SoftCut",
    "Solution",
    "ThesisCG",
    "axes_from_edges",
    "edges_from_axes",
    "random_walker",
    "soft_cut",
    "solve",
]

# Modules that need the extra ``vision``: imported when they are first asked for.
_VISION = ("data", "losses", "metrics", "networks")


def __getattr__(name: str) -> ModuleType:
    if name not in _VISION:
        raise AttributeError(f"module 'flowcut' has no attribute {name!r}")
    try:
        return importlib.import_module(f"flowcut.vision.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flowcut"):
            raise
        raise ImportError(f"flowcut.{name} needs {error.name}: pip install 'flowcut[vision]'") from error


def __dir__() -> list[str]:
    return sorted([*__all__, *_VISION])
