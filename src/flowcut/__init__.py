"""Labeling layers for PyTorch: noisy per-pixel evidence in, coherent labelings out."""

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.warnings import FlowcutWarning

__all__ = ["FlowcutWarning", "Graph", "Neighborhood"]
