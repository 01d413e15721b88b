"""Labeling layers for PyTorch: noisy per-pixel evidence in, coherent labelings out."""

import importlib
from typing import Any

from flowcut.core.edges import axes_from_edges, edges_from_axes
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.results import NotConvergedError, Result, Solution
from flowcut.core.warnings import FlowcutWarning
from flowcut.cut.components import connected_components
from flowcut.cut.expansion import Expansion, alpha_expansion, solve_alpha_expansion
from flowcut.cut.max_flow import MinCut, max_flow, solve_max_flow
from flowcut.cut.perturbed import Perturbed, PerturbedCut, perturbed
from flowcut.cut.random_walker import random_walker
from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.cut.total_variation import (
    TotalVariation,
    TotalVariationSolution,
    solve_total_variation,
    total_variation,
)
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
from flowcut.joint.belief import BeliefPropagation, belief_propagation
from flowcut.joint.chains import Chains
from flowcut.joint.counts import count_labelings
from flowcut.joint.diagnostics import effective_sample_size, split_r_hat
from flowcut.joint.divergence import KlBounds, kl_bounds, mixture_log_prob
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.energy_files import load_energy, save_energy
from flowcut.joint.entropy import entropy_from_counts, entropy_of_labels
from flowcut.joint.estimate import Estimate
from flowcut.joint.exact import ExactLaw, exact_law
from flowcut.joint.fitting import FitHistory
from flowcut.joint.gibbs import gibbs
from flowcut.joint.importance import Importance, importance
from flowcut.joint.ising import IsingEnergy
from flowcut.joint.mean_field import MeanField, mean_field
from flowcut.joint.randomized import RandomizedAssignment
from flowcut.joint.swendsen_wang import swendsen_wang, wolff
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
    "BeliefPropagation",
    "Chains",
    "Cholesky",
    "ConvolutionCouplings",
    "DenseCouplings",
    "EntropyBelow",
    "Estimate",
    "ExactLaw",
    "Expansion",
    "FitHistory",
    "FlowcutWarning",
    "GeometricEuler",
    "GradientSubspace",
    "Graph",
    "GridOperator",
    "Importance",
    "IntegralWithin",
    "IsingEnergy",
    "KlBounds",
    "LinearAssignmentFlow",
    "MeanField",
    "MinCut",
    "MomentumDescent",
    "Neighborhood",
    "NotConvergedError",
    "Perturbed",
    "PerturbedCut",
    "PottsEnergy",
    "RandomizedAssignment",
    "Result",
    "RiemannianDescent",
    "SFlow",
    "SoftCut",
    "Solution",
    "ThesisCG",
    "TotalVariation",
    "TotalVariationSolution",
    "WeightFit",
    "WindowCouplings",
    "alpha_expansion",
    "angle_loss",
    "assignment_flow",
    "axes_from_edges",
    "belief_propagation",
    "connected_components",
    "count_labelings",
    "edges_from_axes",
    "effective_sample_size",
    "entropy_from_counts",
    "entropy_of_labels",
    "exact_law",
    "gaussian_weights",
    "gibbs",
    "gradient_subspace",
    "importance",
    "integrate_assignment_flow",
    "integrate_linear_flow",
    "integrate_s_flow",
    "kl_bounds",
    "kmeans",
    "label_distances",
    "learn_weights",
    "linear_assignment_flow",
    "load_energy",
    "max_flow",
    "mean_field",
    "mixture_log_prob",
    "normalize_weights",
    "perturbed",
    "random_walker",
    "round_assignment",
    "s_flow",
    "save_energy",
    "soft_cut",
    "softmax_weights",
    "solve",
    "solve_alpha_expansion",
    "solve_max_flow",
    "solve_total_variation",
    "split_r_hat",
    "swendsen_wang",
    "total_variation",
    "uniform_weights",
    "weights_entropy",
    "wolff",
]

# What needs the extra ``vision``, imported when it is first asked for: modules, and names of a module.
_VISION = ("data", "losses", "metrics", "networks")
_VISION_NAMES = {
    "RandomWalkerHead": "walker_head",
    "Refiner": "refine",
    "ScribbleSettings": "scribbles",
    "fit_refiner": "refine_fit",
    "refine": "refine",
    "segment_scribbles": "scribbles",
    "with_head": "with_head",
    "with_inference": "infer",
}


# What needs the extra ``lp``.
_LP_NAMES = {"qp_cut": "qp_cut"}


def __getattr__(name: str) -> Any:
    if name in _LP_NAMES:
        extra, path = "lp", f"flowcut.cut.{_LP_NAMES[name]}"
    elif name in _VISION or name in _VISION_NAMES:
        extra, path = "vision", f"flowcut.vision.{_VISION_NAMES.get(name, name)}"
    else:
        raise AttributeError(f"module 'flowcut' has no attribute {name!r}")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flowcut"):
            raise
        raise ImportError(f"flowcut.{name} needs {error.name}: pip install 'flowcut[{extra}]'") from error
    return module if name in _VISION else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_VISION, *_VISION_NAMES, *_LP_NAMES])
