"""Labeling layers for PyTorch: noisy per-pixel evidence in, coherent labelings out."""

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError, Result, Solution
from flowcut.core.warnings import FlowcutWarning
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.operator import GridOperator

__all__ = [
    "CG",
    "Auto",
    "FlowcutWarning",
    "Graph",
    "GridOperator",
    "Neighborhood",
    "NotConvergedError",
    "Result",
    "SoftCut",
    "Solution",
    "soft_cut",
]
