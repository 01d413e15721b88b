"""Labeling layers for PyTorch: noisy per-pixel evidence in, coherent labelings out."""

import importlib
from types import ModuleType

from flowcut.core.edges import axes_from_edges, edges_from_axes
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError, Result, Solution
from flowcut.core.warnings import FlowcutWarning
from flowcut.cut.random_walker import random_walker
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.flow.adaptive import AdaptiveRKMK
from flowcut.flow.angle import AngleLoss, angle_loss
from flowcut.flow.couplings import ConvolutionCouplings, DenseCouplings, WindowCouplings
from flowcut.flow.descent import AdamDescent, MomentumDescent, RiemannianDescent
from flowcut.flow.distances import kmeans, label_distances
from flowcut.flow.integrators import RKMK, GeometricEuler
from flowcut.flow.learning import learn_weights
from flowcut.flow.linear import LinearAssignmentFlow, integrate_linear_flow, linear_assignment_flow
from flowcut.flow.nonlinear import (
    AssignmentFlow,
    assignment_flow,
    integrate_assignment_flow,
)
from flowcut.flow.rounding import round_assignment
from flowcut.flow.s_flow import SFlow, integrate_s_flow, s_flow
from flowcut.flow.stopping import EntropyBelow, IntegralWithin
from flowcut.flow.subspace import GradientSubspace, gradient_subspace
from flowcut.flow.weight_fit import WeightFit
from flowcut.flow.weights import (
    gaussian_weights,
    normalize_weights,
    softmax_weights,
    uniform_weights,
    weights_entropy,
)
from flowcut.linear.auto import Auto
from flowcut.linear.cg import CG
from flowcut.linear.cholesky import Cholesky
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve
from flowcut.linear.thesis_cg import ThesisCG

__version__ = "0.1.0"

__all__ = [
    "CG",
    "RKMK",
    "AdamDescent",
    "AdaptiveRKMK",
    "AngleLoss",
    "AssignmentFlow",
    "Auto",
    "Cholesky",
    "ConvolutionCouplings",
    "DenseCouplings",
    "EntropyBelow",
    "FlowcutWarning",
    "GeometricEuler",
    "GradientSubspace",
    "Graph",
    "GridOperator",
    "IntegralWithin",
    "LinearAssignmentFlow",
    "MomentumDescent",
    "Neighborhood",
    "NotConvergedError",
    "Result",
    "RiemannianDescent",
    "SFlow",
    "SoftCut",
    "Solution",
    "ThesisCG",
    "WeightFit",
    "WindowCouplings",
    "angle_loss",
    "assignment_flow",
    "axes_from_edges",
    "edges_from_axes",
    "gaussian_weights",
    "gradient_subspace",
    "integrate_assignment_flow",
    "integrate_linear_flow",
    "integrate_s_flow",
    "kmeans",
    "label_distances",
    "learn_weights",
    "linear_assignment_flow",
    "normalize_weights",
    "random_walker",
    "round_assignment",
    "s_flow",
    "soft_cut",
    "softmax_weights",
    "solve",
    "uniform_weights",
    "weights_entropy",
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
