"""From a recipe's words to a network, a loss and a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from flowcut.train.recipe import DataRecipe, LossRecipe, NetworkRecipe
from flowcut.vision.losses import CrossEntropyLoss, DiceLoss, FocalDiceLoss, FocalLoss
from flowcut.vision.networks import build_network

__all__ = ["build_loss", "network_config", "pick_device", "start_network"]

_NETWORKS = {"basic_cnn": "BasicCnn", "two_head_unet": "TwoHeadUnet"}
_SOLVERS = {"auto": "Auto", "cg": "CG", "cholesky": "Cholesky", "thesis": "ThesisCG"}


def network_config(recipe: NetworkRecipe, data: DataRecipe) -> dict[str, Any]:
    """Plain data from which :func:`flowcut.vision.networks.build_network` makes the network.

    Parameters
    ----------
    recipe : NetworkRecipe
    data : DataRecipe
        Tells the number of labels (two labels are one channel) and the size of the pictures.

    Returns
    -------
    dict

    Examples
    --------
    >>> network_config(NetworkRecipe(head="none", width=4), DataRecipe())["arguments"]
    {'num_classes': 1, 'width': 4, 'kernel_size': 3}
    """
    arguments: dict[str, Any] = {"num_classes": 1 if data.labels == 2 else data.labels}
    if data.click:
        arguments["in_channels"] = 4
    if recipe.kind == "two_head_unet":
        arguments |= {"encoder": recipe.encoder, "decoder_channels": list(recipe.decoder_channels)}
    else:
        arguments |= {"width": recipe.width, "kernel_size": recipe.kernel_size}
    size = None if data.size is None else list(data.size)
    return {
        "network": _NETWORKS[recipe.kind],
        "arguments": arguments,
        "head": _head_config(recipe, data.labels),
        "size": size,
    }


def start_network(config: dict[str, Any], encoder_weights: str | None = None) -> nn.Module:
    """Make the network that training starts from.

    Pretrained weights are named here and not in the configuration, which travels with the trained
    weights: to load those, nothing shall be downloaded.

    Parameters
    ----------
    config : dict
        See :func:`network_config`.
    encoder_weights : str, optional
        Pretrained weights of the encoder.

    Returns
    -------
    Module

    Raises
    ------
    ValueError
        If the network has no encoder, or the weights are unknown or cannot be had.

    Examples
    --------
    >>> config = network_config(NetworkRecipe(head="none", width=4), DataRecipe())
    >>> type(start_network(config)).__name__
    'BasicCnn'
    """
    if encoder_weights is None:
        return build_network(config)
    arguments = config["arguments"]
    if "encoder" not in arguments:
        raise ValueError(
            f"network.encoder_weights: expected null for {config['network']}, got {encoder_weights}"
        )
    try:
        return build_network(config | {"arguments": arguments | {"encoder_weights": encoder_weights}})
    except Exception as error:  # whatever the downloader raises
        reason = " ".join(str(error).split())
        raise ValueError(
            f"network.encoder_weights: expected weights that can be loaded for {arguments['encoder']}, got"
            f" {encoder_weights} ({reason})"
        ) from None


def _head_config(recipe: NetworkRecipe, labels: int) -> dict[str, Any] | None:
    if recipe.head == "soft_cut":
        return {"name": "SoftCut", "solver": _solver_config(recipe)}
    if recipe.head == "random_walker":
        return {"name": "RandomWalker", "solver": _solver_config(recipe)}
    if recipe.head == "total_variation":
        refine = "isotonic" if recipe.tv_refine else None
        return {"name": "TotalVariation", "method": recipe.tv_method, "refine": refine}
    if recipe.head == "perturbed":
        # Only a minimum cut has a gradient for edges that no noise was added to.
        what = {"fn": "max_flow"} if labels == 2 else {"fn": "alpha_expansion", "on": "both"}
        return {"name": "Perturbed", **what, "samples": recipe.samples, "sigma": recipe.sigma}
    if recipe.head == "linear_assignment_flow":
        return {
            "name": "LinearAssignmentFlow",
            "window": recipe.window,
            "rho": recipe.rho,
            "time": recipe.flow_time,
            "krylov_dim": recipe.krylov_dim,
        }
    return None


def _solver_config(recipe: NetworkRecipe) -> dict[str, Any]:
    solver: dict[str, Any] = {"name": _SOLVERS[recipe.solver]}
    if recipe.solver == "cg":
        solver["rtol"] = recipe.rtol
    elif recipe.solver == "thesis":
        solver["atol"] = recipe.atol
    return solver


def build_loss(recipe: LossRecipe, num_classes: int) -> nn.Module:
    """Make the loss of a recipe.

    Parameters
    ----------
    recipe : LossRecipe
    num_classes : int
        Number of labels, background included, >= 2; two labels are read by a sigmoid.

    Returns
    -------
    Module
        Maps logits and targets to a scalar.
    """
    mode: Any = "binary" if num_classes == 2 else "multiclass"
    weight = None if recipe.class_weight is None else list(recipe.class_weight)
    if recipe.kind == "cross_entropy":
        return CrossEntropyLoss(mode, class_weight=weight)
    if recipe.kind == "focal":
        return FocalLoss(mode, recipe.gamma, class_weight=weight)
    overlap: dict[str, Any] = {
        "per_image": recipe.per_image,
        "smooth": recipe.smooth,
        "class_reduction": recipe.class_reduction,
        "include_background": recipe.include_background,
    }
    if recipe.kind == "focal_dice":
        return FocalDiceLoss(mode, recipe.gamma, recipe.threshold, recipe.form, **overlap)
    return DiceLoss(mode, **overlap)


def pick_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu`` or ``cuda``.

    Parameters
    ----------
    name : str
        ``auto`` takes a GPU where there is one.

    Returns
    -------
    device

    Raises
    ------
    ValueError
        If the name is another one, or ``cuda`` is asked for where there is none.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {name}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: expected auto or cpu where torch finds no GPU, got cuda")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
